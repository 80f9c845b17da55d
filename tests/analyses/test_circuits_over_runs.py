"""How alike circuits of several networks are, on circuits that are known."""

import itertools
from dataclasses import replace

import pytest
import torch
from helpers import SEEDS, generator

from compo_mech.analyses import circuits_over_runs as module
from compo_mech.analyses.circuits_over_runs import CircuitOfRun, circuits_over_runs, shape_of
from compo_mech.circuits.overlap import jaccard
from compo_mech.interventions.edges import all_edges
from compo_mech.model.config import ModelConfig
from compo_mech.stats.intervals import Interval, wilson

EDGES = tuple(all_edges(ModelConfig()))


def run_of(kept, task="parity", config=ModelConfig(), control="no circuit", effect=0.0):  # noqa: B008
    edges = tuple(all_edges(config))
    verdict, kept = ("no circuit", ()) if kept is None else ("circuit", kept)
    effects = (effect,) * len(edges)
    return CircuitOfRun(task, shape_of(config), edges, effects, verdict, frozenset(kept), control)


def compared(*runs):
    return circuits_over_runs(runs, generator())


@pytest.mark.parametrize("seed", SEEDS)
def test_overlap_is_the_mean_over_pairs_and_its_interval_holds_it(seed):
    drawn = torch.rand((6, len(EDGES)), generator=generator(seed)) < 0.6
    kept = [frozenset(edge for edge, is_in in zip(EDGES, row.tolist(), strict=True) if is_in) for row in drawn]
    (found,) = compared(*(run_of(circuit, effect=float(i)) for i, circuit in enumerate(kept)))
    pairs = [jaccard(one, other) for one, other in itertools.combinations(kept, 2)]
    assert found.overlap.mean == pytest.approx(sum(pairs) / len(pairs))
    assert found.overlap.low < found.overlap.mean < found.overlap.high
    assert found.permuted.low < found.overlap.mean < found.permuted.high  # these are random, and so is chance
    table = found.table().set_index(["writer", "reader"])
    for edge in EDGES:
        row, n = table.loc[(str(edge.writer), str(edge.reader))], sum(edge in circuit for circuit in kept)
        assert (row["n_circuits_with"], row["n_circuits"]) == (n, 6)
        assert (row["fraction"], row["low"], row["high"]) == wilson(n, 6)
        assert row["median_effect"] == 2.5


def test_the_interval_is_that_of_runs_drawn_anew_one_by_one(monkeypatch):
    """The slow twin: each resample spelled out, pairs of a run with itself left out."""
    monkeypatch.setattr(module, "N_RESAMPLES", 200)
    kept = [frozenset(EDGES[i : 3 * i + 4]) for i in range(6)]
    (found,) = compared(*map(run_of, kept))
    means = []
    for draw in torch.randint(6, (200, 6), generator=generator()).tolist():
        pairs = [jaccard(kept[i], kept[j]) for i, j in itertools.combinations(draw, 2) if i != j]
        means += [sum(pairs) / len(pairs)] if pairs else []
    assert found.overlap[1:] == pytest.approx(Interval.of(means)[1:])


def test_the_same_circuit_in_all_runs_is_beyond_chance():
    (found,) = compared(*[run_of(EDGES[:10])] * 6)
    assert found.overlap == (1, 1, 1)
    assert found.permuted.high < 1
    assert "a circuit in 6 of 6 networks" in found.sentences[0]
    assert f"; 10 of {len(EDGES)} edges are in all circuits" in found.sentences[1]


def test_circuits_that_share_no_edge_overlap_by_nothing():
    (found,) = compared(*[run_of(EDGES[i::6]) for i in range(6)])
    assert found.overlap == (0, 0, 0)
    assert f"; 0 of {len(EDGES)} edges" in found.sentences[1]


def test_runs_without_a_circuit_are_counted_and_not_compared():
    untold = [run_of(None, control="cannot be told") for _ in range(2)]
    (found,) = compared(*[run_of(EDGES[:4])] * 5, run_of(None, control="circuit"), *untold)
    assert len(found.in_circuit) == 5
    assert found.overlap is None
    first, second = found.sentences
    assert "a circuit in 5 of 8 networks" in first
    assert first.endswith("Of the randomly initialised controls 1 have one; of 2 it cannot be told.")
    assert second == "How alike circuits are is asked of 6 or more."
    assert set(found.table()["n_circuits"]) == {5}
    (nothing,) = compared(run_of(None), run_of(None))
    assert nothing.table()["fraction"].isna().all()


def test_tasks_and_shapes_are_compared_among_themselves():
    wider = ModelConfig(n_heads=4)
    shared = ModelConfig(n_heads=4, n_key_value_heads=2)
    some = [run_of(EDGES[:3]), run_of(EDGES[:2], task="copy"), run_of((), config=wider), run_of((), config=shared)]
    found = compared(*some, run_of(EDGES[:3]))
    assert [(one.runs[0].task, one.runs[0].shape, len(one.runs)) for one in found] == [
        ("parity", "2 layers of 1 head", 2),
        ("copy", "2 layers of 1 head", 1),
        ("parity", "2 layers of 4 heads", 1),
        ("parity", "2 layers of 4 heads, 2 key-value heads", 1),
    ]
    assert compared() == []
    fewer = replace(run_of(EDGES[:1]), edges=EDGES[:4], effects=(0.0,) * 4)  # the same words, other edges
    assert len(compared(run_of(EDGES[:1]), fewer)) == 2
