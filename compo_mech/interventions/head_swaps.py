"""Answers and logits when heads put out, at one row of each string, what they do in another string.

    1. Take rows, each beside a row of another string that differs in all that a head could bring (`swapped_rows`).
    2. Let heads put out there what they do in the other string: at the row alone, or at all rows up to it.
    3. Count, for each content, the answers that it would change and that change so, and those that it would leave as
       they are and that stay. A head that brings the content does both; one that brings nothing leaves all as they are;
       one that brings something else does either by chance.

Only rows that the network itself is right about count.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.interventions.ablation import ablated_logits, ablation_values
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_writers
from compo_mech.interventions.row_layers import finished
from compo_mech.interventions.row_traces import row_trace
from compo_mech.interventions.swapped_rows import Content, SwappedRows
from compo_mech.model.finite import check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.stats.intervals import NORMAL, Interval, wilson

MIN_COUNTED = 30
"""Of fewer answers that would change, or would stay, nothing is said."""

CARRIES = 0.5
"""A head carries a content if at least this fraction of the answers follows it."""

CARRIES_IN_PART = 0.1
"""It carries it in part from this fraction on."""

STAYS = 0.85
"""Of the answers that a content would not change at least this fraction stays, if a head carries it."""

TIE = 0.01
"""An answer is a tie if its lead is less than this fraction of the lead that right answers have on average."""

Logits = Float[Tensor, "row d_vocab"]


@dataclass(frozen=True)
class Followed:
    """How many answers go with one content.

    Attributes:
        n_changes, n_followed: answers that the content would change, and those of them that change so.
        n_stays, n_stayed: answers that it would leave as they are, and those of them that stay.
        permuted: fraction that goes with contents permuted among the rows: chance.
        toward: how far the logits go, of the whole way that a carrier would take them: 1; below 0: the other way.
        at: the t at which most of the answers that would change follow.

    >>> found = Followed(100, 100, 100, 50, permuted=0.5, toward=Interval(1, 1, 1), at=(2, 3))
    >>> found.carried.mean  # of the others half changed as well: it follows for half of a reason
    0.5
    """

    n_changes: int
    n_followed: int
    n_stays: int
    n_stayed: int
    permuted: float
    toward: Interval
    at: tuple[int, ...]

    @property
    def follows(self) -> Interval:
        """The fraction that changes as the content says, of the answers that it would change."""
        return wilson(self.n_followed, self.n_changes)

    @property
    def stays(self) -> Interval:
        """The fraction that stays, of the answers that it would not change, though all else differs."""
        return wilson(self.n_stayed, self.n_stays)

    def carries(self, level: float) -> bool:
        """Whether answers follow, from a level on and beyond chance, and stay; by the lower bounds of the intervals."""
        return self.follows.low >= level and self.follows.low > self.permuted and self.stays.low >= STAYS

    def is_mixed(self, level: float) -> bool:
        """Whether answers follow so, but do not stay: something else is brought as well."""
        return self.follows.low >= level and self.follows.low > self.permuted and self.stays.low < STAYS

    @property
    def carried(self) -> Interval:
        """follows + stays - 1: 1 for a head that brings the content, 0 for one that brings nothing or chance.

        Its bounds are those of a sum of two independent fractions (Newcombe 1998).
        """
        one, other = self.follows, self.stays
        low, high = (math.hypot(one.mean - one[i], other.mean - other[i]) for i in (1, 2))
        mean = one.mean + other.mean - 1
        return Interval(mean, mean - low, mean + high)


class Swaps:
    """A network on rows and on the rows beside them, and its logits at the rows when some heads are swapped.

    Attributes:
        clean: logits at the rows.
        right: where the network is right about these.
        beside: the fraction of the other rows about which it is: what heads do there is put in.

    Args:
        model: the network.
        rows: of strings, and of other strings.
    """

    def __init__(self, model: Model, rows: SwappedRows) -> None:
        self.model, self.rows = model, rows.to(model.device)
        ids = torch.arange(rows.tokens.shape[1], device=model.device).expand_as(self.rows.tokens)
        self._ids, position = ids, self.rows.position
        check_weights(model)
        self._own = row_trace(model, self.rows.tokens, ids, position)
        self._other = row_trace(model, self.rows.other_tokens, ids, position)
        self.clean = self._own.logits
        self.right: Bool[Tensor, "row"] = likeliest(self.clean) == self.rows.own
        n_right = int((likeliest(self._other.logits) == self.rows.other).sum())
        self.beside = wilson(n_right, len(self.rows.own))
        self._clean_lead = self._lead(self.clean)

    def swapped(self, *heads: Writer) -> Logits:
        """Logits when these heads put out at the row what they do in the other strings."""
        return self._with({head: self._other.at(_site(head)) for head in heads})

    def zeroed(self, head: Writer) -> Logits:
        """Logits when a head puts out nothing at the row."""
        return self._with({head: torch.zeros_like(self._own.at(_site(head)))})

    def _with(self, values: Mapping[Writer, Float[Tensor, "row d_head"]]) -> Logits:
        first = min(_site(head).layer for head in values)
        return finished(self.model, self._own, first, self._own.resid_pre[first], swapped=values)

    def everywhere(self, heads: Sequence[Writer]) -> Iterator[tuple[Writer, Logits, Logits]]:
        """Each head with the logits when it puts out at every row what it does in the other strings, and nothing.

        This costs whole passes, and is asked only of heads that have a later layer to be read by.
        """
        if not heads:
            return
        model, rows, here = self.model, self.rows, torch.arange(len(self.rows.t), device=self.model.device)
        at = here, rows.position
        own, other = (
            run_writers(model, embeddings(model, tokens, self._ids), at=at)
            for tokens in (rows.tokens, rows.other_tokens)
        )
        nothing = ablation_values(model, own, "zero")
        for head in heads:
            swapped, zeroed = (ablated_logits(model, own, [head], values, at) for values in (other, nothing))
            yield head, swapped, zeroed

    def followed(self, logits: Logits, contents: Collection[Content] | None = None) -> dict[Content, Followed]:
        """How the answers go with each content (None: all); those of which too few can be counted are left out."""
        found, answered = {}, self._answered(logits)
        for content in self.rows.answers if contents is None else contents:
            expected = self.rows.answers[content]
            changes = self.right & (expected != self.rows.own)
            stays = self.right & (expected == self.rows.own)
            if min(int(changes.sum()), int(stays.sum())) >= MIN_COUNTED:
                found[content] = self._counted(logits, answered, content, changes, stays)
        return found

    def lead(self, logits: Logits) -> Interval:
        """By how much the right answer's lead over the next grows, of what it is on average."""
        return mean_of((self._lead(logits) - self._clean_lead) / self._clean_lead.mean())

    def _counted(
        self,
        logits: Logits,
        answered: Int[Tensor, "row"],
        content: Content,
        changes: Bool[Tensor, "row"],
        stays: Bool[Tensor, "row"],
    ) -> Followed:
        expected, permuted, t = self.rows.answers[content], self.rows.permuted[content], self.rows.t
        differs = self.right & (permuted != self.rows.own)
        gap, before = (self._gap(of, expected)[changes] for of in (logits, self.clean))
        follows = [t[changes & (answered == expected)], t[changes]]
        n_followed, n_changes = (times.bincount(minlength=int(t.max()) + 1) for times in follows)
        return Followed(
            n_changes=int(n_changes.sum()),
            n_followed=int(n_followed.sum()),
            n_stays=int(stays.sum()),
            n_stayed=int((answered == expected)[stays].sum()),
            permuted=float((answered == permuted)[differs].double().mean()) if differs.any() else 0.0,
            toward=mean_of((gap - before) / (-2 * before.mean())),
            at=tuple((2 * n_followed > n_changes).nonzero()[:, 0].tolist()),
        )

    def _answered(self, logits: Logits) -> Int[Tensor, "row"]:
        """The likeliest answers; -1 where that is a tie, which rounding would decide."""
        first, second = logits.topk(2, dim=1).values.unbind(1)
        return likeliest(logits).where(first - second > TIE * self._clean_lead.mean(), -1)

    def _gap(self, logits: Logits, expected: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
        """By how much the expected answer's logit is above the own answer's."""
        expected_logit, own = (logits.gather(1, of[:, None])[:, 0] for of in (expected, self.rows.own))
        return expected_logit - own

    def _lead(self, logits: Logits) -> Float[Tensor, "right"]:
        """By how much the own answer's logit is above the next, where the network is right."""
        own = self.rows.own[:, None]
        others = logits.scatter(1, own, -torch.inf).amax(1)
        return (logits.gather(1, own)[:, 0] - others)[self.right]


def _site(head: Writer) -> Site:
    """Where the head puts out what it brings."""
    assert head.layer is not None  # of a head it is known
    return Site("z", head.layer, head.head)


def mean_of(values: Float[Tensor, "n"]) -> Interval:
    """The mean with its 95% interval, by the normal approximation."""
    half = NORMAL * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half)


def logits_change(logits: Logits, before: Logits, clean: Logits) -> float:
    """The root mean square of a change of logits, of that by which clean ones vary over the vocabulary."""
    moved, varied = (of - of.mean(1, keepdim=True) for of in (logits - before, clean))
    return float(moved.square().mean().sqrt() / varied.square().mean().sqrt().clamp(min=1e-30))
