"""In which order a task is learnt, from curves that are stated and from the rows of a run."""

import math

import pandas as pd
import pytest

from compo_mech.evaluation.explained import Explained
from compo_mech.studies import learning_order as module
from compo_mech.studies import measures
from compo_mech.studies.learning_order import learning_order


def scores_of(run, monkeypatch, by_next, by_counts):
    """Of a run whose networks' answers depend on what is stated, checkpoint by checkpoint, the control's last."""
    stated = iter([Explained(*both) for both in zip(by_next, by_counts, strict=True)])
    monkeypatch.setattr(module, "explained", lambda *asked: next(stated))
    found = learning_order(run)
    assert next(stated, None) is None  # each network was asked once
    return {(score.measure, score.network): score.value for score in found if not score.position}


def padded(values, n):
    return [*values, *[values[-1]] * (n - len(values) - 1), 0.003]


@pytest.mark.parametrize(
    ("by_next", "by_counts", "at_next", "at_counts", "before", "first"),
    [
        ((0.0, 0.1, 0.6), (0.0, 0.08, 0.2, 0.01), 2, 1, 0.08, 1.0),
        ((0.0, 0.6, 0.4, 0.7), (-0.01, 0.0, 0.3), 1, 2, 0.0, 0.0),  # counts after x_t are no step towards it
        ((0.0, 0.49), (0.0, 0.04), None, None, 0.04, 0.0),
        ((0.0, 0.2), (0.0, 0.06), None, 1, 0.06, 1.0),
    ],
)
def test_counts_come_before_x_t_or_not(by_next, by_counts, at_next, at_counts, before, first, tiny_run, monkeypatch):
    steps = tiny_run.steps
    n = len(steps) + 1
    found = scores_of(tiny_run, monkeypatch, padded(by_next, n), padded(by_counts, n))
    step = {None: math.inf, **dict(enumerate(map(float, steps)))}
    assert found[measures.FIRST_STEP_BY_NEXT, "trained"] == step[at_next]
    assert found[measures.FIRST_STEP_BY_COUNTS, "trained"] == step[at_counts]
    assert found[measures.COUNTS_BEFORE, "trained"] == before
    assert found[measures.COUNTS_FIRST, "trained"] == first
    assert found[measures.COUNTS_BEFORE, "control"] == 0.003


def test_lengths_and_invariance_are_those_of_the_rows(tiny_run):
    table = tiny_run.metrics.astype(object)
    rows, scores = list(table.where(table.notna(), None).itertuples()), learning_order(tiny_run)
    of_lengths = {score.position: score.value for score in scores if score.measure is measures.FIRST_STEP_OF_LENGTH}
    for length in (1, 2, 3, 4):
        right = [
            row.step for row in rows if (row.metric, row.length) == ("generated_accuracy", length) and row.value >= 0.99
        ]
        assert of_lengths.pop(f"length {length}") == min(right, default=math.inf)
    assert not of_lengths
    found = {s.network: s.value for s in scores if s.measure is measures.INVARIANCE}
    for network, splits in (("trained", {"test", "all"}), ("control", {"control"})):
        own = [row for row in rows if row.split in splits and row.length == 4]
        last = max(row.step for row in own)
        heads = {(row.layer, row.head): {} for row in own if row.step == last and row.head is not None}
        for row in own:
            if row.step == last and row.head is not None:
                heads[row.layer, row.head][row.metric] = row.value
        best = max(heads.values(), key=lambda head: head["iteration"])
        assert found[network] == best["iteration_invariance"]


def test_a_snapshot_without_checkpoint_is_refused(tiny_run, monkeypatch):
    steps = tiny_run.steps
    monkeypatch.setattr(type(tiny_run), "steps", property(lambda run: steps[1:]))
    with pytest.raises(ValueError, match="has no checkpoint of 1 snapshots, must have all of them"):
        learning_order(tiny_run)


def test_losses_between_snapshots_need_no_checkpoint(tiny_run, monkeypatch):
    metrics = tiny_run.metrics
    loss = metrics[metrics["metric"] == "loss"].iloc[:1].assign(step=7)
    assert 7 not in tiny_run.steps
    monkeypatch.setattr(type(tiny_run), "metrics", property(lambda run: pd.concat([metrics, loss])))
    n_asked = len(tiny_run.steps) + 1  # and the control
    scores_of(tiny_run, monkeypatch, [0.0] * n_asked, [0.0] * n_asked)
