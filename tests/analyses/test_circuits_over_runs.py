"""How alike circuits of several networks are, on circuits that are known."""

import itertools

import pandas as pd
import pytest
from helpers import SEEDS, generator

from compo_mech.analyses.circuits_over_runs import CircuitOfRun, circuits_over_runs
from compo_mech.circuits.overlap import jaccard
from compo_mech.interventions.edges import all_edges
from compo_mech.model.config import ModelConfig
from compo_mech.stats.intervals import wilson

EDGES = tuple(all_edges(ModelConfig()))


def run_of(kept, task="parity", edges=EDGES, of_control=False):
    return CircuitOfRun(task, edges, None if kept is None else frozenset(kept), of_control)


def compared(*runs):
    return circuits_over_runs(runs, generator())


@pytest.mark.parametrize("seed", SEEDS)
def test_overlap_is_the_mean_over_pairs_and_its_interval_holds_it(seed):
    import torch

    drawn = torch.rand((6, len(EDGES)), generator=generator(seed)) < 0.6
    kept = [frozenset(edge for edge, is_in in zip(EDGES, row.tolist(), strict=True) if is_in) for row in drawn]
    (found,) = compared(*map(run_of, kept))
    pairs = [jaccard(one, other) for one, other in itertools.combinations(kept, 2)]
    assert found.overlap.mean == pytest.approx(sum(pairs) / len(pairs))
    assert found.overlap.low <= found.overlap.mean <= found.overlap.high
    assert found.permuted.low <= found.overlap.mean <= found.permuted.high  # these are random, and so is chance
    table = found.table().set_index(["writer", "reader"])
    for edge in EDGES:
        row, n = table.loc[(str(edge.writer), str(edge.reader))], sum(edge in circuit for circuit in kept)
        assert (row["n_circuits_with"], row["n_circuits"]) == (n, 6)
        assert (row["fraction"], row["low"], row["high"]) == wilson(n, 6)


def test_the_same_circuit_in_all_runs_is_beyond_chance():
    (found,) = compared(*[run_of(EDGES[:10])] * 5)
    assert found.overlap == (1, 1, 1)
    assert found.permuted.high < 1
    assert "5 of 5 networks have a circuit" in found.sentences[0]
    assert f"10 of {len(EDGES)} edges are in all of them" in found.sentences[1]


def test_circuits_that_share_no_edge_overlap_by_nothing():
    (found,) = compared(*[run_of(EDGES[i::3]) for i in range(3)])
    assert found.overlap == (0, 0, 0)
    assert "0 of" in found.sentences[1]


def test_runs_without_a_circuit_are_counted_and_not_compared():
    (found,) = compared(run_of(EDGES[:4]), run_of(EDGES[:4]), run_of(None, of_control=True))
    assert (len(found.in_circuit), found.n_runs, found.n_of_controls) == (2, 3, 1)
    assert found.overlap is None  # of two nothing can be drawn anew
    (sentence,) = found.sentences
    assert "2 of 3 networks have a circuit" in sentence
    assert "controls: 1 of 3" in sentence
    assert set(found.table()["n_circuits"]) == {2}
    (nothing,) = compared(run_of(None), run_of(None))
    assert nothing.table()["fraction"].isna().all()


def test_tasks_and_shapes_are_compared_among_themselves():
    wider = tuple(all_edges(ModelConfig(n_heads=2)))
    found = compared(
        run_of(EDGES[:3]), run_of(EDGES[:2], task="copy"), run_of(wider[:5], edges=wider), run_of(EDGES[:3])
    )
    assert [(one.task, one.n_runs, len(one.edges)) for one in found] == [
        ("parity", 2, len(EDGES)),
        ("copy", 1, len(EDGES)),
        ("parity", 1, len(wider)),
    ]
    assert compared() == []
    assert isinstance(found[0].table(), pd.DataFrame)
