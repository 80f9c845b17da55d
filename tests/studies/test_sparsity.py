import math

import pandas as pd
import pytest
import torch

from compo_mech.data.tasks import Parity
from compo_mech.evaluation import attention
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.ground_truth.build import build
from compo_mech.launch.how import How
from compo_mech.model.params import Model
from compo_mech.runs import recipes
from compo_mech.runs.stacked_run import open_run
from compo_mech.settings import changed
from compo_mech.studies import measures, sparsity
from compo_mech.studies.sparsity import (
    AT_EQUAL_LOSS,
    first_at_loss,
    neuron_contributions,
    neuron_scores,
    sparsity_scores,
)

BUILT = build(Parity(), max_length=5)
LOSSES = {0: (2.0, 2.0), 10: (0.0, 0.2), 20: (0.01, 0.07), 30: (0.5, 0.5), 40: (0.0, 0.0)}
"""Of two lengths, by step."""


@pytest.mark.parametrize("n_parts", [1, 2, 5])
def test_of_equal_parts_it_is_how_many_there_are(n_parts):
    row = torch.zeros(1, 5)
    row[0, :n_parts] = 3.0
    assert float(sparsity.sparsity(row)) == pytest.approx((5 - n_parts) / 4)


def test_it_is_attentions_measure_and_has_no_scale_and_no_order():
    rows = torch.rand(4, 7, generator=torch.Generator().manual_seed(0))
    found = sparsity.sparsity(rows)
    assert torch.allclose(found, sparsity.sparsity(rows[:, torch.randperm(7)] * 1e3))
    weights = rows / rows.sum(1, keepdim=True)  # of rows that see 7 keys
    squares = attention.concentration(weights[:, None, None])
    of_attention = [float(attention.sparsity(one[None], [6])) for one in squares]
    assert torch.allclose(found, torch.tensor(of_attention))
    assert float(sparsity.sparsity(torch.zeros(1, 7))) == 1


def test_contributions_of_neurons_are_those_that_their_removal_shows():
    (strings,) = [one for one in drawn_sets(BUILT.data, Parity(), 4) if one.length == 5]
    from compo_mech.interventions.traces import trace

    contributions = neuron_contributions(BUILT.model, 1, strings)
    rows = list(strings.layout.scored(5))
    whole = trace(BUILT.model, strings.read, strings.position_ids).mlp_out[1][:, rows].flatten(0, 1)
    for neuron in range(0, contributions.shape[1], 7):
        out = BUILT.model.params["blocks.1.mlp.W_out"].clone()
        out[neuron] = 0
        without = Model(BUILT.model.params | {"blocks.1.mlp.W_out": out}, BUILT.model.config)
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
    from rich.console import Console

    from compo_mech.launch.sweep import sweep

    config = changed(
        recipes.parity_alone(),
        {"train.n_steps": 4, "train.snapshot_every": 2, "data.max_length": 4, "model.d_model": 8, "n_test_strings": 8},
    )
    sweep({"run": config}, How(runs_dir=tmp_path, on="here"), Console(quiet=True))
    run = open_run(tmp_path / "run")
    assert not [score for score in sparsity_scores(run) if score.checkpoint]
    monkeypatch.setattr(sparsity, "EQUAL_LOSS", 99.0)  # which the first snapshot has
    at_first = [score for score in sparsity_scores(run) if score.checkpoint == AT_EQUAL_LOSS]
    assert {score.measure for score in at_first} == {*sparsity.OF_HEADS, measures.NEURON_SPARSITY}
    (step,) = [score.value for score in sparsity_scores(run) if score.measure is measures.STEP_AT_EQUAL_LOSS]
    assert step == 0
    model = Model(run.params(0), config.model)
    expected = {s.component: s.value for s in neuron_scores(model, config.data, Parity(), 0)}
    assert {s.component: s.value for s in at_first if s.measure is measures.NEURON_SPARSITY} == expected
    rows = run.metrics
    (score,) = [s.value for s in at_first if s.measure is measures.ITERATION]
    own = rows[(rows["step"] == 0) & (rows["split"] == "mean") & (rows["metric"] == "iteration") & rows["head"].notna()]
    assert score == own["value"].max()
