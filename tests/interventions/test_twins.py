from itertools import product

import pytest
import torch
from helpers import control, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.evaluation.sets import eval_sets
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.attention_patterns import (
    ablate_patterns,
    pattern_ablation_table,
    trace_set,
    work_rows,
)
from compo_mech.interventions.forced_patterns import ForcedRuns, edit_weights, forced_tails
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked


def forced_logits(hooked, tokens, heads, rows, weights):
    """The slow twin: the whole HookedTransformer with these heads' patterns replaced at these rows."""

    def put(pattern, hook):
        for _, head in heads:
            pattern[:, head, rows] = weights
        return pattern

    hooks = [(f"blocks.{heads[0][0]}.attn.hook_pattern", put)] if heads else []
    with torch.no_grad():
        return hooked.run_with_hooks(tokens, fwd_hooks=hooks)


def test_patterns_by_hand():
    found = edit_weights([(0, None), (2, None), (0, 0), (2, 1)], 4)
    expected = [[1.0, 0, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize(
    "rungs",
    [BuildOptions(), BuildOptions(rotated=True, distractors=True), BuildOptions(layer_norm=True)],
    ids=["plain", "rotated", "LN"],
)
@pytest.mark.parametrize("task", [Copy(), Parity(), Polynomial(modulus=5)], ids=str)
def test_clean_heads_are_worth_their_look(task, rungs):
    built = build(task, max_length=6, rungs=rungs)
    sets = [test for test in eval_sets(built.data, 24) if test.length >= 4]
    found = {(twin.name, twin.work): twin for twin in ablate_patterns(built.model, sets)}
    for name, work in (("L0H0", "lookup"), ("L1H0", "iteration")):
        twin = found[name, work]
        assert twin.score >= 0.99
        assert twin.whole.mean == twin.idealised.mean == 1
        assert twin.cost > 0.2
        assert twin.gain == 0
    for name in ("L0H1", "L1H1"):
        assert abs(found[name, "iteration"].cost) < 0.01
    wrong = found["L1H0", "lookup"]
    assert wrong.score < 0.1
    assert wrong.gain < -0.2


def test_split_work_is_whole_only_together():
    built = build(Parity(), rungs=BuildOptions(split=True))
    sets = [test for test in eval_sets(built.data, 32) if test.length >= 4]
    found = {twin.name: twin for twin in ablate_patterns(built.model, sets, ["iteration"])}
    alone = [found[f"L1H{head}"] for head in (0, 1)]
    assert all(0.4 < twin.score < 0.6 for twin in alone)
    together = found["L1H0+L1H1"]
    assert together.score >= 0.99
    assert together.cost > 1.5 * max(twin.cost for twin in alone)


def test_a_backup_shows_that_no_single_look_is_needed():
    built = build(Parity(), rungs=BuildOptions(backup=True))
    found = pattern_ablation_table(
        ablate_patterns(built.model, eval_sets(built.data, 32)[3:], ["iteration"])
    ).set_index("heads")
    assert found["score"]["L1H0"] >= 0.99
    assert found["cost"]["L1H0"] < 0.01
    assert found["cost"]["L1H0+L1H1"] > 0.2


def test_bad_input_gets_one_line():
    data = DataConfig(max_length=4, chain_of_thought=False)
    model = control(ModelConfig(d_model=32, n_heads=2), data)
    with pytest.raises(ValueError, match="work = lookup: must be one that rows of these lengths have"):
        ablate_patterns(model, eval_sets(data, 4))
    with pytest.raises(ValueError, match="sets = none"):
        ablate_patterns(model, [])


KINDS = {
    "one head": {"n_heads": 1},
    "one layer": {"n_heads": 1, "n_layers": 1},
    "heads": {"n_heads": 2},
    "three layers": {"n_heads": 2, "n_layers": 3},
    "shared keys": {"n_heads": 4, "n_key_value_heads": 2},
    "rotary": {"n_heads": 1, "positional_embedding": "rotary"},
    "parallel": {"n_heads": 2, "parallel_attn_mlp": True},
    "attention alone": {"n_heads": 1, "attn_only": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
def test_forced_runs_equal_hooked_ones(kind, task):
    data, settings = DataConfig(tasks=(task,), max_length=5), {"n_layers": 2} | KINDS[kind]
    model = random_model(ModelConfig(d_model=32, biases=True, **settings), data)
    hooked, n_heads = to_hooked(model), model.config.n_heads
    runs = [{6: None, 8: None}, {6: 1, 7: 6, 8: 8}, {8: 3}, {7: 1, 8: None}]  # rows from [EoI], at 6, on
    test = eval_sets(data, 32)[4]
    groups = [[head] for head in range(n_heads)] + [list(range(n_heads))]
    for layer, heads in product(range(model.config.n_layers), groups):
        found = forced_tails(model, trace_set(model, test), layer, heads, ForcedRuns(test.read, runs))
        for run, logits in zip(runs, found, strict=True):
            n_pos = test.read.shape[1]
            weights = edit_weights(run.items(), n_pos)
            twin = forced_logits(hooked, test.read, [(layer, head) for head in heads], list(run), weights)
            torch.testing.assert_close(logits, twin[:, 6:9], atol=2e-5, rtol=0)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_twins_equal_whole_runs_with_the_pattern_replaced(n_layers):
    data = DataConfig(max_length=5)
    model = random_model(ModelConfig(d_model=32, n_heads=2, n_layers=n_layers, biases=True), data)
    sets, hooked = eval_sets(data, 16)[1:], to_hooked(model)
    whole = {test.length: forced_logits(hooked, test.read, (), None, None) for test in sets}
    for twin in ablate_patterns(model, sets):
        counted = {"whole": 0, "uniform": 0, "idealised": 0}
        n = 0
        for test in sets:
            n_pos = test.layout.n_read(test.length)
            rows, keys = work_rows(test.layout, test.length, twin.work)
            runs = {"uniform": dict.fromkeys(rows), "idealised": dict(zip(rows, keys, strict=True))}
            ways = {name: edit_weights(run.items(), n_pos) for name, run in runs.items()}
            predicting = list(test.layout.scored(test.length))[:-1]
            n += test.targets[:, :-1].numel()
            for name in counted:
                logits = whole[test.length]
                if name != "whole":
                    logits = forced_logits(hooked, test.tokens[:, :n_pos], twin.heads, rows, ways[name])
                counted[name] += int((logits[:, predicting].argmax(-1) == test.targets[:, :-1]).sum())
        for name, n_right in counted.items():
            assert getattr(twin, name).mean == n_right / n
