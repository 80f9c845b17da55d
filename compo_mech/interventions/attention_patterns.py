"""Ablation of attention patterns: the causal counterpart of attention metrics.

A metric describes a head's attention pattern; ablating the pattern measures whether it is used. At the rows that
predict a state the pattern of one head, or of a layer's heads together, is replaced

    uniform    by uniform attention over all visible keys: the accuracy lost is the pattern's ablation cost
    idealised  by the textbook circuit's pattern, one key per row: the accuracy gained is what the pattern lacks

and the states that are right are counted. Idealised `lookup` heads attend to [EoI], idealised `iteration` heads to x_t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from compo_mech.data.layout import Layout
from compo_mech.evaluation.sets import EvalSet
from compo_mech.interventions.forced_patterns import ForcedRuns, Forcing, forced_tails
from compo_mech.interventions.traces import Trace, trace
from compo_mech.model.finite import check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval, wilson

if TYPE_CHECKING:
    import pandas as pd

Work = Literal["lookup", "iteration"]

Head = tuple[int, int]
"""Layer and head."""

Edges = tuple[list[int], list[int]]
"""Rows, and the key of each."""


def work_rows(layout: Layout, length: int, work: Work) -> Edges:
    """(rows, keys) of a role, both empty where strings of this length have none.

    >>> work_rows(Layout(), 3, "iteration")  # the rows that predict s1 s2 s3 attend to x1 x2 x3
    ([4, 5, 6], [1, 2, 3])
    """
    return layout.lookup_edges(length) if work == "lookup" else layout.iteration_edges(length)


@dataclass(frozen=True)
class PatternAblation:
    """The effect of ablating the pattern of one head, or of a layer's heads together.

    Attributes:
        heads: whose patterns are replaced.
        work: the role tested, lookup or iteration.
        score: mean weight on the ideal key; of several heads, at each row the largest that one of them has.
        whole, uniform, idealised: fraction of states right with the pattern unchanged, uniform, and idealised.

    >>> found = PatternAblation(((1, 0),), "iteration", 1.0, wilson(4, 4), wilson(3, 4), wilson(4, 4))
    >>> found.name, found.cost, found.gain
    ('L1H0', 0.25, 0.0)
    """

    heads: tuple[Head, ...]
    work: Work
    score: float
    whole: Interval
    uniform: Interval
    idealised: Interval

    @property
    def cost(self) -> float:
        """States lost with the uniform pattern: the ablation cost of the pattern."""
        return self.whole.mean - self.uniform.mean

    @property
    def gain(self) -> float:
        """States gained with the idealised pattern."""
        return self.idealised.mean - self.whole.mean

    @property
    def name(self) -> str:
        """Of the head, or of the layer."""
        return "+".join(f"L{layer}H{head}" for layer, head in self.heads)


def ablate_patterns(
    model: Model, sets: Sequence[EvalSet], works: Sequence[Work] = ("lookup", "iteration")
) -> list[PatternAblation]:
    """Ablate the pattern of every head, and of every layer's heads together where there are several, for each role.

    Args:
        model: the network.
        sets: test strings, each set of one length, with chain of thought.
        works: roles that are tested.

    Raises:
        ValueError: there are no test strings, or none of them has a row of that role.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built = build(Parity(), max_length=3)
    >>> found = {one.name: one for one in ablate_patterns(built.model, eval_sets(built.data, 8), ["iteration"])}
    >>> head, spare = found["L1H0"], found["L1H1"]
    >>> round(head.score, 2), head.cost > 0.3, head.gain, spare.cost
    (1.0, True, 0.0, 0.0)
    """
    if not sets:
        raise ValueError("sets = none: accuracy needs test strings")
    for work in works:
        if not any(work_rows(test.layout, test.length, work)[0] for test in sets):
            raise ValueError(f"work = {work}: must be one that rows of these lengths have, with chain of thought")
    counts = PatternAblationCounts(model, works)
    for test in sets:
        counts.add(PatternTest(test, works), trace_set(model, test))
    return counts.ablations()


def trace_set(model: Model, test: EvalSet) -> Trace:
    """All that is read of its strings, run, in the last layer from the first scored row on.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built = build(Parity(), max_length=3)
    >>> test = eval_sets(built.data, 8)[0]  # strings of one input
    >>> trace_set(built.model, test).logits[:, 2].argmax(-1).tolist() == test.tokens[:, 1].tolist()  # s1 = x1
    True
    """
    check_weights(model)
    return trace(model, test.read, test.position_ids, test.layout.scored(test.length)[0])


@dataclass
class _Count:
    """States that are right, and weight on the ideal keys, summed over sets."""

    n: int = 0
    whole: int = 0
    uniform: int = 0
    idealised: int = 0
    weight: float = 0.0
    n_edges: int = 0

    def ablation(self, work: Work, heads: tuple[Head, ...]) -> PatternAblation:
        whole, flat, ideal = (wilson(count, self.n) for count in (self.whole, self.uniform, self.idealised))
        return PatternAblation(heads, work, self.weight / self.n_edges, whole, flat, ideal)


class PatternTest:
    """Test strings with what each ablation tells their rows: the same for every network.

    Args:
        test: the strings, of one length, with chain of thought.
        works: roles that are tested; those that the strings have not are left out.

    >>> from compo_mech import Parity, build, eval_sets
    >>> test = eval_sets(build(Parity(), max_length=3).data, 8)[0]  # strings of one input
    >>> PatternTest(test, ["lookup", "iteration"]).edges  # [EoI] attends to x1
    {'iteration': ([2], [1])}
    """

    def __init__(self, test: EvalSet, works: Sequence[Work]) -> None:
        every: dict[Work, Edges] = {work: work_rows(test.layout, test.length, work) for work in works}
        self.edges: dict[Work, Edges] = {work: found for work, found in every.items() if found[0]}
        self.test = test
        runs: list[Forcing] = []
        for rows, keys in self.edges.values():
            runs += [dict.fromkeys(rows), dict(zip(rows, keys, strict=True))]
        self.runs = ForcedRuns(test.read, runs) if runs else None


class PatternAblationCounts:
    """Counts of right states under each pattern, summed over sets of test strings.

    Args:
        model: the network.
        works: roles that are tested.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built = build(Parity(), max_length=3)
    >>> counts = PatternAblationCounts(built.model, ["iteration"])
    >>> for test in eval_sets(built.data, 8):
    ...     counts.add(PatternTest(test, ["iteration"]), trace_set(built.model, test))
    >>> [ablation.name for ablation in counts.ablations()]
    ['L0H0', 'L0H1', 'L0H0+L0H1', 'L1H0', 'L1H1', 'L1H0+L1H1']
    """

    def __init__(self, model: Model, works: Sequence[Work]) -> None:
        self.model, config = model, model.config
        groups: list[tuple[Head, ...]] = []
        for layer in range(config.n_layers):
            heads = tuple((layer, head) for head in range(config.n_heads))
            groups += [(head,) for head in heads]
            groups += [heads] if config.n_heads > 1 else []
        self._groups = tuple(groups)
        self._counts: dict[tuple[Work, tuple[Head, ...]], _Count] = {
            (work, group): _Count() for work in works for group in groups
        }

    @torch.no_grad()
    def add(self, asked: PatternTest, whole: Trace) -> None:
        """Count a set, given its `trace_set`."""
        test, runs = asked.test, asked.runs
        if runs is None:
            return
        first = test.layout.scored(test.length)[0]
        targets, logits = test.targets[:, :-1], whole.logits[:, first:-1]
        correct = likeliest(logits) == targets
        patterns, n_whole = [pattern.mean(0) for pattern in whole.pattern], int(correct.sum())
        changed = slice(runs.start - first, runs.end - first)  # of the predicting rows
        n_before = n_whole - int(correct[:, changed].sum())
        for group in self._groups:
            layer, heads = group[0][0], [head for _, head in group]
            forced = forced_tails(self.model, whole, layer, heads, runs)
            n_right = (n_before + (likeliest(forced) == targets[:, changed]).sum((1, 2))).tolist()
            for (work, (rows, keys)), flat, ideal in zip(asked.edges.items(), n_right[::2], n_right[1::2], strict=True):
                count, weights = self._counts[work, group], patterns[layer][heads][:, rows, keys]  # [head, edge]
                count.n, count.whole = count.n + correct.numel(), count.whole + n_whole
                count.uniform, count.idealised = count.uniform + flat, count.idealised + ideal
                count.weight, count.n_edges = count.weight + float(weights.amax(0).sum()), count.n_edges + len(rows)

    def ablations(self) -> list[PatternAblation]:
        """The result, for each role that the sets have."""
        return [count.ablation(work, group) for (work, group), count in self._counts.items() if count.n]


def pattern_ablation_table(found: Sequence[PatternAblation]) -> "pd.DataFrame":
    """One row per ablation: columns heads, work, score, whole, uniform, idealised, cost, gain.

    >>> found = PatternAblation(((1, 0),), "iteration", 1.0, wilson(4, 4), wilson(3, 4), wilson(4, 4))
    >>> pattern_ablation_table([found])[["heads", "work", "uniform", "cost"]].values.tolist()
    [['L1H0', 'iteration', 0.75, 0.25]]
    """
    import pandas as pd

    return pd.DataFrame(
        {
            "heads": ablation.name,
            "work": ablation.work,
            "score": ablation.score,
            "whole": ablation.whole.mean,
            "uniform": ablation.uniform.mean,
            "idealised": ablation.idealised.mean,
            "cost": ablation.cost,
            "gain": ablation.gain,
        }
        for ablation in found
    )
