import math

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.data.tasks import Parity
from compo_mech.evaluation import attention
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.evaluation.table import measured, of_lengths
from compo_mech.ground_truth.build import build
from compo_mech.interventions.traces import trace
from compo_mech.launch.how import How
from compo_mech.launch.sweep import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.runs import recipes
from compo_mech.runs.stacked_run import open_run
from compo_mech.settings import changed
from compo_mech.studies import measures, sparsity
from compo_mech.studies.sparsity import (
    AT_EQUAL_LOSS,
    effects,
    first_at_loss,
    neuron_contributions,
    neuron_scores,
    sparsity_scores,
)
from compo_mech.training.loop import draw_labels

BUILT = build(Parity(), max_length=5)
SMALL = changed(
    recipes.parity_alone(),
    {"train.n_steps": 4, "train.snapshot_every": 2, "data.max_length": 4, "model.d_model": 8, "n_test_strings": 8},
)
LOSSES = {0: (2.0, 2.0), 10: (0.0, 0.2), 20: (0.01, 0.07), 30: (0.5, 0.5), 40: (0.0, 0.0)}
"""Of two lengths, by step."""


@pytest.mark.parametrize("n_parts", [1, 2, 5])
def test_of_equal_parts_it_is_how_many_there_are(n_parts):
    row = torch.zeros(1, 5)
    row[0, :n_parts] = 3.0
    assert float(sparsity.sparsity_of_parts(row)) == pytest.approx((5 - n_parts) / 4)


def test_it_is_attentions_measure_and_has_no_scale_and_no_order():
    rows = torch.rand(4, 7, generator=torch.Generator().manual_seed(0))
    found = sparsity.sparsity_of_parts(rows)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert torch.allclose(found, sparsity.sparsity_of_parts(rows[:, order] * 1e3))
    weights = rows / rows.sum(1, keepdim=True)  # of rows that see 7 keys
    squares = attention.concentration(weights[:, None, None])
    of_attention = [float(attention.sparsity(one[None], [6])) for one in squares]
    assert found.tolist() == pytest.approx(of_attention, abs=1e-6)
    assert float(sparsity.sparsity_of_parts(torch.zeros(1, 7))) == 1


RANDOM = ModelConfig(d_model=16, n_ctx=20)


@pytest.mark.parametrize(
    "model",
    [BUILT.model, Model(init_params(RANDOM, 6, 20, torch.Generator().manual_seed(0)), RANDOM)],
    ids=["hand-built", "random"],
)
def test_contributions_of_neurons_are_those_that_their_removal_shows(model):
    (strings,) = [one for one in drawn_sets(BUILT.data, Parity(), 4) if one.length == 5]
    _, contributions = neuron_contributions(model, strings)
    rows = list(strings.layout.scored(5))
    whole = trace(model, strings.read, strings.position_ids).mlp_out[1][:, rows].flatten(0, 1)
    for neuron in range(0, contributions.shape[1], 7):
        out = model.params["blocks.1.mlp.W_out"].clone()
        out[neuron] = 0
        without = Model(model.params | {"blocks.1.mlp.W_out": out}, model.config)
        left = trace(without, strings.read, strings.position_ids).mlp_out[1][:, rows].flatten(0, 1)
        assert torch.allclose((whole - left).norm(dim=1), contributions[:, neuron], atol=1e-4)


def test_the_hand_built_update_is_by_one_neuron_a_row():
    found = {score.component: score.value for score in neuron_scores(BUILT.model, BUILT.data, Parity(), 0)}
    assert found["mlp1"] > 0.95


def test_equal_loss_is_reached_at_the_first_snapshot_below_it():
    rows = pd.DataFrame(
        [
            {"step": step, "length": length, "metric": "loss", "value": value, "layer": None, "head": None}
            for step, values in LOSSES.items()
            for length, value in enumerate(values, start=4)
        ]
    )
    assert first_at_loss(rows, 0.05) == 20
    assert first_at_loss(rows, 0.1) == 10
    assert first_at_loss(rows[rows["step"] < 20], 0.05) == math.inf


def test_a_run_is_asked_at_its_end_and_where_its_loss_has_come_down(tmp_path, monkeypatch):
    sweep({"run": SMALL}, How(runs_dir=tmp_path, on="here"), Console(quiet=True))
    run = open_run(tmp_path / "run")
    assert not [score for score in sparsity_scores(run) if score.checkpoint]
    monkeypatch.setattr(sparsity, "least_loss", lambda data, noise: 99.0 + noise)  # which the first snapshot has
    by_level = {level: [s for s in sparsity_scores(run) if s.checkpoint == level] for level in sparsity.LEVELS}
    at_first = by_level[AT_EQUAL_LOSS]
    assert [s._replace(checkpoint=AT_EQUAL_LOSS) for s in by_level[sparsity.ON_THE_WAY]] == at_first
    assert {score.measure for score in at_first} == {*sparsity.OF_HEADS, measures.NEURON_SPARSITY}
    (step,) = [score.value for score in sparsity_scores(run) if score.measure is measures.STEP_AT_EQUAL_LOSS]
    assert step == 0
    model = Model(run.params(0), SMALL.model)
    expected = {s.component: s.value for s in neuron_scores(model, SMALL.data, Parity(), 0)}
    assert {s.component: s.value for s in at_first if s.measure is measures.NEURON_SPARSITY} == expected
    rows = run.metrics
    (score,) = [s.value for s in at_first if s.measure is measures.ITERATION]
    own = rows[(rows["step"] == 0) & (rows["split"] == "mean") & (rows["metric"] == "iteration") & rows["head"].notna()]
    assert score == own["value"].max()


def test_each_level_of_loss_is_asked_by_itself(tmp_path, monkeypatch):
    """Of a run that comes to the looser one alone."""
    sweep({"run": SMALL}, How(runs_dir=tmp_path, on="here"), Console(quiet=True))
    run = open_run(tmp_path / "run")
    rows = measured(of_lengths(run.metrics, SMALL.data.drawn_lengths), "parity")
    lowest = rows[rows["metric"] == "loss"].groupby("step")["value"].mean().min()
    monkeypatch.setattr(sparsity, "least_loss", lambda data, noise: float(lowest) - 0.2)
    scores = sparsity_scores(run)
    assert {score.checkpoint for score in scores} == {"", sparsity.ON_THE_WAY}
    (step,) = [score.value for score in scores if score.measure is measures.STEP_AT_EQUAL_LOSS]
    assert step == math.inf


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5])
def test_the_least_loss_under_noise_is_that_of_who_answers_as_the_labels_are(noise):
    data = DataConfig(tasks=(Parity(),), max_length=3)
    labels = draw_labels(Packing.of_lengths(data.layout, [3] * 20_000), data.vocabulary.n_values, noise,
                         torch.Generator().manual_seed(0)).view(-1, 4)  # fmt: skip
    state = ((labels < 0) | (labels == 1)).double().mean(0)[:3].mean()  # where 1 is right
    end = (labels[:, 3] < 0).double().mean()
    expected = sum((n * -state.log() - end.log()) / (n + 1) for n in (1, 2, 3)) / 3
    assert sparsity.least_loss(data, noise) == pytest.approx(float(expected), abs=0.02)


def test_a_run_without_the_checkpoints_of_its_snapshots_is_refused(tmp_path):
    sweep({"seed0": SMALL}, How(runs_dir=tmp_path, on="stacks", keep="last"), Console(quiet=True))
    (folder,) = [path.parent for path in tmp_path.glob("*/checkpoints")]
    with pytest.raises(ValueError, match="steps = 0: has no checkpoint"):
        sparsity_scores(open_run(folder / "seed0"))


def test_effects_are_differences_all_else_equal():
    """Sparsity is the rate, less where batches are large; noise adds, and more at the small rate; with the largest
    batches the loss is never reached."""
    of_batch, of_noise = {16: 1.0, 32: 0.75, 64: 0.5}, {0.2: 0.3, 0.4: 0.1}
    arms = [(lr, batch, 0.0) for lr in of_noise for batch in of_batch] + [(lr, 16, 0.5) for lr in of_noise]
    rows = []
    for lr, batch, noise in arms:
        for seed in range(3):
            value = lr * of_batch[batch] + of_noise[lr] * (noise > 0) + 0.01 * seed
            row = {"arm": f"{lr} {batch} {noise}", "optimizer": "sgd", "lr": lr, "batch_size": batch}
            row |= {"label_noise": noise}
            row |= {"seed": seed, "measure": "sparsity", "network": "trained", "value": value, "component": math.nan}
            rows.append(row | {"checkpoint": math.nan})
            rows.append(row | {"checkpoint": math.nan, "network": "control", "value": 9.0})
            if batch < 64:
                rows.append(row | {"checkpoint": AT_EQUAL_LOSS, "value": value / 2})
    table = pd.DataFrame(rows).astype({"checkpoint": object, "component": object})
    found = effects(table).set_index(["changed", "at"])
    assert found["difference"].to_dict() == pytest.approx({
        ("lr", "end"): 0.2 * 0.75, ("lr", AT_EQUAL_LOSS): 0.1 * (1 + 0.75) / 2,
        ("batch_size", "end"): (0.2 + 0.4) / 2 * 0.5,
        ("label_noise", "end"): 0.2, ("label_noise", AT_EQUAL_LOSS): 0.1,
    })  # fmt: skip
    assert set(found["n_seeds"]) == {3}
    assert set(effects(table[table["label_noise"] == 0])["changed"]) == {"lr", "batch_size"}  # of noise none was tried
