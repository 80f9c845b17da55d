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
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Layout
from compo_mech.evaluation.sets import EvalSet
from compo_mech.interventions.traces import Trace, trace
from compo_mech.model import blocks
from compo_mech.model.finite import check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval, wilson

if TYPE_CHECKING:
    import pandas as pd

Work = Literal["lookup", "iteration"]

Head = tuple[int, int]
"""Layer and head."""


def _forced_tails(
    model: Model, whole: Trace, heads: Sequence[Head], rows: Sequence[int], forced: Sequence[Float[Tensor, "row pos"]]
) -> Float[Tensor, "forced batch tail d_vocab"]:
    """Logits of the rows from the first forced one to the last, for several forced patterns of the heads of one layer.

    What lies before the layer, and the rows before the first forced one, is as in the whole run: in a causal network
    nothing of it can change.
    """
    blocks.check_causal(model)
    layer, start, end = heads[0][0], rows[0], rows[-1] + 1
    n_forced = len(forced)
    tail = torch.arange(start, end, device=whole.logits.device)
    index_of = torch.tensor(rows, device=tail.device) - start

    def repeated(x: Float[Tensor, "batch *dim"]) -> Float[Tensor, "forced_batch *dim"]:
        return repeat(x, "batch ... -> (forced batch) ...", forced=n_forced)

    # a copy, since it is written to
    pattern = repeat(whole.pattern[layer][:, :, start:end, :end], "... -> forced ...", forced=n_forced).clone()
    for index, weights in enumerate(forced):
        for _, head in heads:
            pattern[index, :, head, index_of] = weights[:, :end].to(pattern)
    z = rearrange(
        pattern @ blocks.by_query_head(model, whole.v[layer][:, :, :end]), "forced batch ... -> (forced batch) ..."
    )
    stream = repeated(whole.resid_pre[layer][:, start:end])
    mid = stream + blocks.attn_out(model, layer, blocks.merge_heads(z))
    stream = blocks.resid_post(model, layer, stream, mid)
    for later in range(layer + 1, model.config.n_layers):
        q, k, v = blocks.qkv(model, later, stream)
        k, v = (
            blocks.by_query_head(model, torch.cat([repeated(before[later][:, :, :start]), after], 2))
            for before, after in ((whole.k, k), (whole.v, v))
        )
        z = blocks.pattern(blocks.scores(model, later, q, k, tail), blocks.causal(tail, end)) @ v
        mid = stream + blocks.attn_out(model, later, blocks.merge_heads(z))
        stream = blocks.resid_post(model, later, stream, mid)
    return rearrange(blocks.logits(model, stream), "(forced batch) ... -> forced batch ...", forced=n_forced)


def work_rows(layout: Layout, length: int, work: Work) -> tuple[list[int], list[int]]:
    """(rows, keys) of a role, both empty where strings of this length have none.

    >>> work_rows(Layout(), 3, "iteration")  # the rows that predict s1 s2 s3 attend to x1 x2 x3
    ([4, 5, 6], [1, 2, 3])
    """
    return layout.lookup_edges(length) if work == "lookup" else layout.iteration_edges(length)


def uniform(rows: Sequence[int], n_pos: int) -> Float[Tensor, "row pos"]:
    """Uniform weights over all keys that each row sees.

    >>> uniform([0, 1], n_pos=3).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    """
    seen = torch.arange(n_pos) <= torch.tensor(rows)[:, None]
    return seen / seen.sum(1, keepdim=True)


def idealised(keys: Sequence[int], n_pos: int) -> Float[Tensor, "row pos"]:
    """All weight on each row's key.

    >>> idealised([0, 2], n_pos=3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return torch.nn.functional.one_hot(torch.tensor(keys), n_pos).float()


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
        counts.add(test, trace_set(model, test))
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


class PatternAblationCounts:
    """Counts of right states under each pattern, summed over sets of test strings.

    Args:
        model: the network.
        works: roles that are tested.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built = build(Parity(), max_length=3)
    >>> counts = PatternAblationCounts(built.model, ["iteration"])
    >>> for test in eval_sets(built.data, 8):
    ...     counts.add(test, trace_set(built.model, test))
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
        self._counts: dict[tuple[Work, tuple[Head, ...]], _Count] = {
            (work, group): _Count() for work in works for group in groups
        }

    @torch.no_grad()
    def add(self, test: EvalSet, run: Trace) -> None:
        """Count a set, given its `trace_set`."""
        n_pos = test.read.shape[1]
        patterns = [pattern.mean(0) for pattern in run.pattern]
        predicting = list(test.layout.scored(test.length))[:-1]
        targets = test.targets[:, :-1]
        correct = likeliest(run.logits[:, predicting]) == targets
        n_whole = int(correct.sum())
        for (work, heads), count in self._counts.items():
            rows, keys = work_rows(test.layout, test.length, work)
            if not rows:
                continue
            layer, start = heads[0][0], rows[0]
            logits = _forced_tails(self.model, run, heads, rows, [uniform(rows, n_pos), idealised(keys, n_pos)])
            changed = slice(start - predicting[0], rows[-1] + 1 - predicting[0])  # of the predicting rows
            right = likeliest(logits) == targets[:, changed]
            as_before = n_whole - int(correct[:, changed].sum())
            flat, ideal = (as_before + right.sum((1, 2))).tolist()
            weights = patterns[layer][[head for _, head in heads]][:, rows, keys]  # [head, edge]
            count.n += correct.numel()
            count.whole, count.uniform, count.idealised = (
                count.whole + n_whole,
                count.uniform + flat,
                count.idealised + ideal,
            )
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
