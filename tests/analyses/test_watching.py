import functools
import math
from functools import partial

import pandas as pd
import pytest
import torch
from helpers import control
from rich.console import Console

from compo_mech.analyses import trajectories
from compo_mech.analyses.trajectories import attention_metrics, interchange_scores, route_scores
from compo_mech.analyses.watch import ACCURACY, fetching_layer, thinned, watch
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import NotFinite
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params
from compo_mech.reference import hooked_loops, watching_bench
from compo_mech.routes.summary import RouteName
from compo_mech.runs.trajectory import Measured, Quantity, as_table

TEXTBOOK = Quantity("route share", str(RouteName.TEXTBOOK))


def asked(built, task):
    data, model = built.data, built.model
    rows = attention_metrics(data, task, 32, model)
    rows += [*interchange_scores(data, task, 1, 0, model), *route_scores(data, task, 0, model)]
    return {row.quantity: row.value for row in rows}


@pytest.mark.parametrize(
    "rungs",
    [BuildOptions(), BuildOptions(layer_norm=True), BuildOptions(rotated=True, distractors=True)],
    ids=["plain", "LN", "rotated"],
)
@pytest.mark.parametrize("task", [Copy(), Parity(), Polynomial(modulus=5)], ids=str)
def test_the_circuit_built_by_hand_is_clean_and_used(task, rungs):
    found = asked(build(task, max_length=6, rungs=rungs), task)
    assert found[ACCURACY] == found[Quantity("states right")] == 1
    for layer, work in enumerate(("lookup", "iteration")):
        head = partial(Quantity, layer=layer, head=0)
        assert found[Quantity(f"{work}_together", layer=layer)] >= 0.99
        assert found[head(work)] >= 0.99
        assert found[head(f"{work}_sparsity")] >= 0.99
        assert 1 - found[head(f"{work}_distance")] >= 0.99
        assert found[head(f"{work} pattern ablation", "cost")] > 0.2
        assert found[head(f"{work} pattern ablation", "gain")] == 0
    for spot in ("first", "middle", "last"):
        assert found[Quantity(f"iteration_{spot}", layer=1, head=0)] >= 0.99
    for variable, site in (("t", "q"), ("x", "attn_out"), ("answer", "mlp_out")):
        quantity = Quantity("IIA", "value", variable, "independent", site, 1)
        above, placebo = (found[quantity._replace(statistic=which)] for which in ("above placebo", "placebo"))
        assert found[quantity] >= 0.99
        assert above == found[quantity] - placebo
        assert above > 0.2
    assert found[TEXTBOOK] >= 0.99


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("name", ["random, two heads", "by hand"])
def test_what_is_watched_against_loops_over_hooked_transformers(name, careful, monkeypatch):
    monkeypatch.setattr(trajectories, "N_SWAPS", 16)
    monkeypatch.setattr(trajectories, "N_ROUTE_STRINGS", 4)
    task, built = Parity(), build(Parity(), max_length=5, rungs=BuildOptions(layer_norm=True))
    data, model = (DataConfig(max_length=5), None) if name == "random, two heads" else (built.data, built.model)
    if model is None:
        config, generator = ModelConfig(d_model=16, n_heads=2), torch.Generator().manual_seed(0)
        params = init_params(config, len(data.vocabulary), data.layout.n_tokens(5), generator)
        model = Model({n: p + 0.3 * torch.randn(p.shape, generator=generator) for n, p in params.items()}, config)
    hooked, strings = to_hooked(model), trajectories.route_strings_of(data, task, hooked_loops.SEED)
    with torch.no_grad():
        slow = hooked_loops.loop_attention_metrics(trajectories.test_sets(data, task, 8), careful, hooked)
        pairs = hooked_loops.exchanges(data, task, 1, model.config)
        slow |= hooked_loops.loop_interchange_scores(pairs, careful, hooked)
        slow |= hooked_loops.loop_route_scores(data, strings, careful, hooked)
    rows = [
        *attention_metrics(data, task, 8, model),
        *interchange_scores(data, task, 1, 0, model),
        *route_scores(data, task, 0, model),
    ]
    fast = {row.quantity: row.value for row in rows}
    assert len(slow) > 40
    assert {quantity: fast[quantity] for quantity in slow} == pytest.approx(slow, abs=1e-4)
    with torch.no_grad():
        alone = hooked_loops.loop_routes(strings, careful, hooked)
    assert watching_bench.map_figures(data, task, model) == pytest.approx(alone, abs=1e-3)


def test_work_split_between_heads_is_whole_in_the_layer():
    found = asked(build(Parity(), rungs=BuildOptions(split=True)), Parity())
    assert found[Quantity("iteration_together", layer=1)] >= 0.99
    assert max(found[Quantity("iteration", layer=1, head=head)] for head in (0, 1)) < 0.6


def calls_a_head(data, seed, n_heads):
    """Whether a randomly initialised network has a textbook head, or one whose pattern costs anything to ablate."""
    model = control(ModelConfig(n_heads=n_heads), data, seed, data.layout.n_tokens(data.max_length))
    rows = attention_metrics(data, Parity(), 32, model)
    scores = ("lookup", "iteration", "lookup_together", "iteration_together")
    clean = [row.value for row in rows if row.quantity.measure in scores]
    costs = [row.value for row in rows if row.quantity.statistic == "cost"]
    assert len(costs) == 2 * (2 * n_heads + (2 if n_heads > 1 else 0))
    return max(clean) >= 0.9 or max(costs) > 0.2


def test_no_control_has_a_head():
    data = DataConfig(max_length=8)
    assert not any(calls_a_head(data, seed, n_heads) for n_heads in (1, 4) for seed in range(2))


@pytest.mark.slow
def test_no_control_of_fifty_has_a_head():
    data = DataConfig()
    assert not any(calls_a_head(data, seed, 1 + 3 * (seed % 2)) for seed in range(50))


def started(tmp_path, config, **more):
    settings = {name: getattr(config, name) for name in type(config).model_fields}
    for part, values in more.items():
        settings[part] = settings[part].model_copy(update=values)
    return launch(Launch(**settings, runs_dir=tmp_path, name="one"), Console(quiet=True))


def test_a_run_is_watched_over_its_checkpoints(tiny_run):
    run = tiny_run
    told = []
    found = watch(
        run,
        Parity(),
        lambda name, step, n_steps, problem: told.append((name, step, problem)),
        every={"route_scores": 4},
    )
    steps = {"attention_metrics": run.steps, "interchange_scores": run.steps, "route_scores": thinned(run.steps, 4)}
    assert {(name, step) for name, step, _ in told} == {
        (name, step) for name, asked in steps.items() for step in (None, *asked)
    }
    assert found.curve(ACCURACY)["step"].tolist() == run.steps
    assert found.curve(TEXTBOOK)["step"].tolist() == steps["route_scores"]
    lookup = Quantity("lookup", layer=0, head=0)
    last = {row.quantity: row.value for row in attention_metrics(run.config.data, Parity(), 64, run_model(run))}
    assert found.curve(lookup)["value"].iloc[-1] == last[lookup]
    assert found.curve(Quantity("nothing")).empty
    assert not math.isnan(found.control(lookup))
    assert list(found.components())[:3] == ["accuracy", "lookup", "iteration"]
    again = watch(run, Parity(), n_workers=2, every={"route_scores": 4})
    pd.testing.assert_frame_equal(again.rows, found.rows)


def run_model(run):
    return Model(run.params(), run.config.model)


def test_without_chain_of_thought_or_a_second_layer_what_there_is_is_watched(tmp_path, tiny):
    run = started(tmp_path, tiny, data={"chain_of_thought": False}, train={"n_steps": 4})
    found = watch(run, Parity())
    assert found.layer is None
    assert list(found.components()) == ["accuracy"]
    run = started(tmp_path / "other", tiny, model={"n_layers": 1}, train={"n_steps": 4})
    found = watch(run, Parity())
    assert found.layer == 0
    assert "t in the query" not in found.components()
    assert "x in the attention output" in found.components()


def test_steps_are_thinned_from_the_last_on():
    assert thinned([0, 1, 2, 4, 8], 2) == [0, 2, 8]
    assert thinned([0, 1, 2, 4], 2) == [1, 4]
    assert thinned([0, 1, 2], 3) == [2]
    assert thinned([0, 1], 1) == [0, 1]


def test_the_layer_that_fetches_is_the_one_that_looks_at_the_last_step():
    scores = {0: (0.9, 0.1), 8: (0.2, 0.7)}
    table = pd.concat(
        as_table(step, [Measured(Quantity("iteration_together", layer=n), v) for n, v in enumerate(values, start=1)])
        for step, values in scores.items()
    )
    assert fetching_layer(table) == 2
    assert fetching_layer(table[table["step"] == 0]) == 1
    assert fetching_layer(table[table["measure"] == "lookup"]) is None
    table["value"] = table["value"].where(table["layer"] == 1, math.nan)
    with pytest.raises(NotFinite, match=r"^value of layer 2 = nan: must be finite, 1 of 2 are not$"):
        fetching_layer(table)


def test_measures_survive_the_way_to_another_process():
    import pickle

    data = DataConfig(max_length=4)
    for measure in (
        functools.partial(attention_metrics, data, Parity(), 4),
        functools.partial(route_scores, data, Parity(), 0),
    ):
        assert pickle.loads(pickle.dumps(measure)).args[0] == data
