"""Analyses ask about what training drew: no lengths that were held out, and no shifts that were not trained."""

import pandas as pd
import pytest
import torch
from helpers import generator, random_model

from compo_mech.analyses import trajectories
from compo_mech.analyses.beyond_training import accuracy_table, beyond_sentence
from compo_mech.analyses.dissection import dissect
from compo_mech.data.config import DataConfig, Stage
from compo_mech.data.shifts import Shifts
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Copy, Parity
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import drawn_sets, eval_sets, train_sets
from compo_mech.evaluation.table import of_lengths
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.task_pairs import task_pairs
from compo_mech.model.config import ModelConfig
from compo_mech.report.attention import shown_set
from compo_mech.routes.route_map import route_map
from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed
from compo_mech.training.loop import TrainConfig

WEIGHTS = (0, 1, 1, 0, 0, 1, 1, 0)
DRAWN = (2, 3, 6, 7)
HELD_OUT = DataConfig(tasks=(Copy(), Parity()), max_length=8, length_weights=WEIGHTS)
UNCOUNTED = DataConfig(tasks=(Copy(), Parity()), max_length=8, length_loss_weights=WEIGHTS)


def stream(data):
    return TrainingStream(changed(data, {"n_train_strings": 4}), 0)


def lengths_of_sets(sets):
    return {test.length for test in sets}


ASKED = {
    "pairs": lambda model, data: set(make_pairs(data, Switch.LENGTH, 64, generator()).lengths.tolist()),
    "corrupt pairs": lambda model, data: set(make_pairs(data, Switch.LENGTH, 64, generator()).corrupt_lengths.tolist()),
    "task pairs": lambda model, data: set(task_pairs(data, Copy(), Parity(), 64, generator()).lengths.tolist()),
    "test strings": lambda model, data: lengths_of_sets(drawn_sets(data, Parity(), 4)),
    "training strings": lambda model, data: lengths_of_sets(train_sets(stream(data))),
    "routes": lambda model, data: {cell.length for cell in route_map(model, data, generator(), 2).cells},
}


@pytest.mark.parametrize("data", [HELD_OUT, UNCOUNTED], ids=["never drawn", "without loss"])
@pytest.mark.parametrize("asked", ASKED)
def test_lengths_that_were_not_trained_are_not_asked(asked, data):
    model = random_model(ModelConfig(d_model=8, n_heads=1), data)
    assert ASKED[asked](model, data) == set(DRAWN)


def test_lengths_nearest_to_those_that_are_shown():
    assert [HELD_OUT.drawn_length_near(length) for length in (1, 4, 5, 8)] == [2, 3, 6, 7]
    assert lengths_of_sets(trajectories.test_sets(HELD_OUT, Parity(), 4)) == {6, 7}
    assert shown_set(eval_sets(HELD_OUT, 4), "parity").length == 7
    with pytest.raises(ValueError, match=r"length_loss_weights = .*: must leave a length that is drawn"):
        DataConfig(max_length=2, length_weights=(1, 0), length_loss_weights=(0, 1))


def test_a_length_that_a_curriculum_keeps_out_until_the_end_is_refused():
    data = DataConfig(max_length=4, batch_size=16, curriculum=(Stage(n_steps=9, max_length=2),))
    stream = TrainingStream(data, 0)
    for n_steps in (9, 10):
        drawn = {length for step in range(1, n_steps + 1) for length in stream.lengths(step)}
        assert data.lengths_within(n_steps) == drawn
    with pytest.raises(ValueError, match=r"data.curriculum = stage.*: must end early enough for length 3 to be drawn"):
        RunConfig(data=data, train=TrainConfig(n_steps=9))
    RunConfig(data=data, train=TrainConfig(n_steps=10))
    RunConfig(data=changed(data, {"curriculum": (Stage(n_steps=4), *data.curriculum)}), train=TrainConfig(n_steps=9))


def test_means_of_heads_are_over_lengths_that_were_trained():
    data = DataConfig(max_length=6, length_weights=(1, 1, 1, 1, 0, 1))
    model, columns = random_model(ModelConfig(d_model=8, n_heads=1), data), ["layer", "head", "metric"]
    table = pd.DataFrame(measure(model, data, eval_sets(data, 8)))
    iteration = table[(table["metric"] == "iteration") & (table["layer"] == 1)]
    by_length = iteration.dropna(subset="length").set_index("length")["value"]
    (mean,) = iteration.loc[iteration["length"].isna(), "value"]
    assert mean == pytest.approx(by_length[[4, 6]].mean())
    assert mean != pytest.approx(by_length[[4, 5, 6]].mean(), abs=1e-6)
    assert set(of_lengths(table, data.drawn_lengths)["length"].dropna()) == {1, 2, 3, 4, 6}
    assert set(of_lengths(table, data.drawn_lengths).dropna(subset="layer")[columns[0]]) == {0, 1}


@pytest.fixture(scope="module")
def forgetful():
    """A build that is wrong about a length that is never drawn, and about shifted strings."""
    torch.set_num_threads(1)
    built = build(Parity(), max_length=4)
    data = DataConfig(tasks=(Parity(),), max_length=4, length_weights=(1, 1, 1, 0))
    rows = slice(data.layout.n_read(3) + 1, None)
    positions = built.model.params["pos_embed.W_pos"]
    positions[rows] = positions[rows].flip(1)
    return built, data


def test_a_network_is_judged_by_what_it_was_trained_on(forgetful):
    built, data = forgetful
    found = dissect(built.model, data, Parity(), 0, Shifts(0), n_pairs=16, n_strings=16)
    own = found.trained
    assert own.discovery.verdict == "circuit"
    assert own.discovery.accuracy == (1.0, 1.0, True)
    assert own.discovery.circuit < built.edges  # without shifts some cannot be moved
    assert own.heads.accuracy == 1
    assert own.routes.summary().shares["textbook diagonal"] > 0.99
    assert own.patching.length == 3
    table = own.accuracy
    assert (table.loc[table["trained"], "accuracy"] == 1).all()
    assert table.loc[table["trained"], "length"].max() == 3
    assert (table.loc[~table["trained"] & (table["length"] == 4), "accuracy"] < 0.9).all()
    assert found.sentences[-2].startswith("Beyond training: ")
    assert "of the tokens are right in strings of length 4; " in found.sentences[-2]
    said = "right about 100.0% of the answers to the clean input and 100.0% of those to the corrupt one"
    assert any(said in sentence for sentence in found.sentences)
    circuit = found.tables()["circuit"].set_index("network")
    assert circuit.loc["trained", ["clean_accuracy", "corrupt_accuracy"]].tolist() == [1, 1]


def test_shifts_beyond_training_are_refused_a_verdict(forgetful):
    built, data = forgetful
    found = dissect(built.model, data, Parity(), 0, Shifts(4), n_pairs=16, n_strings=16)
    assert found.trained.discovery.verdict == "cannot be told"
    assert found.trained.discovery.accuracy.clean == 1
    assert found.trained.discovery.accuracy.corrupt < 0.9
    assert found.circuit is None
    assert len(found.trained.discovery.scores.edges) == len(all_edges(built.model.config))


def test_what_lies_beyond_training_is_a_question_of_its_own():
    built = build(Parity(), max_length=3)
    table = accuracy_table(built.model, built.data, Parity(), Shifts(4), 8)
    assert set(zip(table["length"], table["shift"], strict=True)) == {(n, s) for n in (1, 2, 3) for s in (0, 4, 5)}
    assert (table["trained"] == (table["shift"] <= 4)).all()
    table = accuracy_table(built.model, built.data, Parity(), built.shifts, 8)
    assert set(zip(table["shift"], table["trained"], strict=True)) == {(0, True), (1, False)}
    assert (table.loc[table["trained"], "accuracy"] == 1).all()
    assert beyond_sentence(pd.DataFrame(table[table["trained"]])) is None
