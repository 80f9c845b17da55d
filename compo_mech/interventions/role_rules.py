"""The role of a head, by a rule on what answers and logits do without it and with what it does in another string."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import COSTS
from compo_mech.interventions.head_evidence import HeadEvidence
from compo_mech.interventions.head_swaps import CARRIES, CARRIES_IN_PART, Followed
from compo_mech.interventions.swapped_rows import Content

TAKES_BACK = 0.1
"""A head takes back a content that it moves the logits away from by this fraction of the way, if without what it does
the right answer's lead grows by this fraction."""

MOVES = 0.01
"""A head that moves the logits by this fraction of what they vary is not idle."""

RoleName = Literal[
    "iteration", "lookup", "accumulates", "carries", "relays", "takes back", "shares", "contributes", "idle",
    "cannot be told",
]  # fmt: skip
"""What a head does:

    iteration, lookup, accumulates    brings x_t; the position of [EoI]; x_1 .. x_t or what they add up to
    carries                           brings another content: s_{t-1}, s_t, or one input whatever t is
    relays                            brings a content to a row before, from which a later layer takes it
    takes back                        moves the logits away from the answer that others make
    shares                            carries a content with another head, while neither does so alone
    contributes                       answers or logits need it, for none of these
    idle                              neither answers nor logits do
    cannot be told                    the network is not right often enough
"""

AT_ROW: dict[Content, RoleName] = {
    "x": "iteration",
    "end": "lookup",
    "end of prefix": "lookup",
    "prefix": "accumulates",
}
"""Roles of heads that bring a content to the row itself; of any other content: `carries`."""

BEFORE: dict[Content, RoleName] = {"end": "lookup", "end of prefix": "lookup", "prefix": "accumulates"}
"""Roles of heads that bring it to rows before; of any other content: `relays`."""


class Role(NamedTuple):
    """A role.

    `content` is what it is about, `followed` how the answers go with that, and `in_part` says that fewer than half of
    them do.
    """

    name: RoleName
    content: Content | None = None
    followed: Followed | None = None
    in_part: bool = False


@dataclass(frozen=True)
class HeadRole:
    """What one head does.

    Attributes:
        writer: the head.
        x, end: its share of x_t and of the position of [EoI] (see `carried_share`); None where that cannot be asked.
        cost: states that are no longer right when it is ablated.
        evidence: what answers and logits do; None where the network is not right often enough for a role to be told.

    >>> HeadRole(Writer("head", 1, 0), x=0.9, end=0.0, cost=0.5, evidence=None).name
    'cannot be told'
    """

    writer: Writer
    x: float | None
    end: float | None
    cost: float
    evidence: HeadEvidence | None

    @cached_property
    def role(self) -> Role:
        """The role, by the first of these that holds: what the head carries by itself, what it carries with another
        head, what it takes back, what it carries in part, what its ablation costs or moves."""
        found = self.evidence
        if found is None:
            return Role("cannot be told")
        in_part = carried(found, CARRIES_IN_PART)
        if whole := carried(found, CARRIES):
            return whole
        if content := next(iter(found.shares), None):
            return Role("shares", content, found.at_row[content]) if in_part is None else in_part
        return taken_back(found) or in_part or Role("idle" if self.is_idle else "contributes")

    @property
    def is_idle(self) -> bool:
        """Whether neither answers nor logits need it."""
        return self.cost < COSTS and self.evidence is not None and self.evidence.moved < MOVES

    @property
    def name(self) -> RoleName:
        """The name of the role."""
        return self.role.name

    @property
    def in_part(self) -> bool:
        """Whether the head carries its content for fewer than half of the answers."""
        return self.role.in_part

    @property
    def partners(self) -> tuple[Writer, ...]:
        """The heads with each of which it carries what neither carries as far alone."""
        shares = {} if self.evidence is None else self.evidence.shares
        return tuple(dict.fromkeys(itertools.chain(*shares.values())))


def carried(found: HeadEvidence, level: float) -> Role | None:
    """The role of a head whose answers go with a content, from a level on and better than with any other.

    One input whatever t is, x_k, is asked about only as a whole: a head that brings x_t at some t brings x_k in part.
    """
    places: tuple[tuple[Mapping[Content, Followed], dict[Content, RoleName], RoleName], ...] = (
        (found.at_row, AT_ROW, "carries"),
        (found.before, BEFORE, "relays"),
    )
    for counted, names, other in places:
        asked = [content for content in counted if level >= CARRIES or not content.startswith("x_")]
        best = max(asked, key=lambda content: counted[content].carried.mean, default=None)
        if best is not None and counted[best].carries(level):
            return Role(names.get(best, other), best, counted[best], in_part=level < CARRIES)
    return None


def taken_back(found: HeadEvidence) -> Role | None:
    """The role of a head that moves the logits away from the answers that others make."""
    asked = [content for content in found.at_row if math.isfinite(found.at_row[content].toward.mean)]
    lowest = min(asked, key=lambda content: found.at_row[content].toward.mean, default=None)
    if lowest is not None and found.at_row[lowest].toward.high <= -TAKES_BACK and found.lead.low >= TAKES_BACK:
        return Role("takes back", lowest, found.at_row[lowest])
    return None
