"""The heads of a network in sentences: one function makes each, from the role of one head or from all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compo_mech.interventions.head_ablation import COSTS, MAX_SUBSET_HEADS, Cost
from compo_mech.interventions.head_swaps import CARRIES, CARRIES_IN_PART, STAYS, Followed
from compo_mech.interventions.role_able import NEAR, beside_text, is_able, untold_sentence
from compo_mech.interventions.role_rules import MOVES, TAKES_BACK, HeadRole
from compo_mech.interventions.swapped_rows import Content
from compo_mech.stats.intervals import Interval, level_beside, on_its_side

CONTENTS: dict[Content, str] = {
    "x": "x_t",
    "state": "s_{t-1}",
    "prefix": "x_1 .. x_t or what they add up to",
    "answer": "s_t",
    "end": "the position of [EoI]",
    "end of prefix": "the position of [EoI]",
}

NOUNS = CONTENTS | {"prefix": "prefix", "end": "position of [EoI]", "end of prefix": "position of [EoI]"}
"""The same after `another`."""


def content_text(content: Content) -> str:
    """What a content is called in sentences.

    >>> content_text("x"), content_text("x_3")
    ('x_t', 'x_3, whatever t is')
    """
    return CONTENTS.get(content, f"{content}, whatever t is")


@dataclass(frozen=True)
class Heads:
    """What the heads of a network do.

    Attributes:
        roles: of each head.
        x_together: share of x_t that the heads of each layer carry together (see `carried_share`); None where it cannot
            be asked.
        removal: the fewest heads without which per-state accuracy is near the best guess.
        accuracy: per state, of the whole network.
        guess: the best guess of s_t that does not know x_t.
        layers: how answers go with each content when all heads of a layer are swapped; empty where roles cannot be
            told.
        beside: the fraction of the rows of other strings, in which another state is written than their inputs lead to,
            about which the network is right; None where roles cannot be told.

    >>> heads = Heads((), x_together=(0.0, 1.0), removal=None, accuracy=0.55, guess=0.5, layers=())
    >>> print(heads)  # doctest: +ELLIPSIS
    The network is right about 55.0% of states, of which 75% are needed for roles to be told (guessing, 50%): ...
    """

    roles: tuple[HeadRole, ...]
    x_together: tuple[float, ...] | None
    removal: Cost | None
    accuracy: float
    guess: float
    layers: tuple[Mapping[Content, Followed], ...]
    beside: Interval | None = None

    def __str__(self) -> str:
        """Sentences that name them."""
        return " ".join(self.sentences)

    @property
    def asks_for_x(self) -> bool:
        """Whether enough rows ask for x_t that it can be told which heads carry it."""
        return any("x" in found for found in self.layers)

    @property
    def is_deniable(self) -> bool:
        """Whether it can be said that heads do not carry x_t: a network that is wrong about the rows whose outputs are
        put in brings nothing from there that answers could follow."""
        return self.beside is None or self.beside.low >= STAYS

    @property
    def best_layer(self) -> int | None:
        """The layer whose heads together carry x_t best; None where that cannot be told."""
        layers = {layer: found["x"].carried.mean for layer, found in enumerate(self.layers) if "x" in found}
        return max(layers, key=lambda layer: layers[layer], default=None)

    @property
    def sentences(self) -> list[str]:
        """What the heads do, a sentence for each kind of role."""
        if not is_able(self.accuracy, self.guess):
            return [untold_sentence(self.accuracy, self.guess)]
        if self.x_together is None:
            return [costs_sentence(self.roles), *idle_sentences(self.roles)]
        head = self.iteration
        if head is not None:
            said = [iteration_sentence(head, self.accuracy, self.guess)]
        else:
            n_heads = len({role.writer.head for role in self.roles})
            said = [shared_sentence(self), removal_sentence(self.removal, self.guess, n_heads)]
        for role in self.roles:
            if role.name in ("accumulates", "carries", "relays"):
                said.append(carries_sentence(role))
            if role.name == "takes back":
                said.append(takes_back_sentence(role))
        return [*said, *lookup_sentences(self), *partner_sentences(self.roles), *idle_sentences(self.roles)]

    @property
    def iteration(self) -> HeadRole | None:
        """The head that alone in its layer carries x_t, and without which accuracy falls at least halfway to the best
        guess."""
        carriers = [role for role in self.roles if role.role.content == "x" and role.name in ("iteration", "shares")]
        for role in carriers:
            alone = [other for other in carriers if other.writer.layer == role.writer.layer] == [role]
            if role.name == "iteration" and not role.in_part and alone and role.cost >= self.needed:
                return role
        return None

    @property
    def needed(self) -> float:
        """What the ablation of an iteration head costs at least: half of what the network has above the best guess."""
        return (self.accuracy - self.guess) / 2


def followed_text(found: Followed, level: float, content: Content) -> str:
    """How many answers follow and how many stay, beside the levels and chance."""
    follows, stays = found.follows, found.stays
    least = on_its_side(stays.low, STAYS, percent=True)
    low = max((on_its_side(follows.low, of, percent=True) for of in (level, found.permuted)), key=len)
    chance = level_beside(found.permuted, follows.low, low)
    changes = f"of {found.n_changes} answers that another {NOUNS.get(content, content)} would change"
    return (
        f"{changes} {follows.mean:.0%} follow ({low} .. {follows.high:.1%}; from {level:.0%}; permuted labels "
        f"{chance}), and of {found.n_stays} that it would not {stays.mean:.0%} stay ({least} .. "
        f"{stays.high:.1%}; from {STAYS:.0%})" + ("" if content.startswith("end") else " though all else differs")
    )


def iteration_sentence(head: HeadRole, accuracy: float, guess: float) -> str:
    """Say which head is the iteration head, and what rests on it."""
    found = head.role.followed
    assert found is not None  # a role with a content has counts
    left = accuracy - head.cost
    text = (
        f"{head.writer} is the iteration head: with what it brings in another string put in, "
        f"{followed_text(found, CARRIES, 'x')}; without it {left:.0%} of states are right (best guess from s_{{t-1}} "
        f"alone: {guess:.0%})."
    )
    if not left > guess + NEAR:
        return text
    above = on_its_side(left, guess + NEAR, percent=True)
    level = level_beside(guess + NEAR, left, above)
    return f"{text} So the rest of the network still knows something of x_t ({above}; near the guess up to {level})."


def shared_sentence(heads: Heads) -> str:
    """Say by which heads x_t is carried, where no head is the iteration head."""
    carriers = [role for role in heads.roles if role.name == "iteration"]
    if not carriers and not heads.asks_for_x:
        return "Which heads carry x_t cannot be told: too few rows ask for it."
    named = [f"{role.writer} ({part_text(role)}{_left_text(role, heads)})" for role in carriers]
    text = "No head is the iteration head by itself: x_t is carried by " + ("; ".join(named) or "none alone")
    if not named and heads.beside is not None and not heads.is_deniable:
        text = f"Which heads carry x_t cannot be told: {beside_text(heads.beside)}"
    layer = heads.best_layer
    if layer is None:
        return f"{text}; what the heads of a layer carry together cannot be told."
    found = heads.layers[layer]["x"]
    return f"{text}; the heads of layer {layer} together {_layer_verdict(found, heads)}: " + (
        f"{followed_text(found, CARRIES, 'x')}."
    )


def _layer_verdict(found: Followed, heads: Heads) -> str:
    """What the heads of a layer do with x_t together."""
    if found.carries(CARRIES):
        return "carry it"
    if not heads.is_deniable:
        return "may carry it or not"
    return "bring it and something else" if found.is_mixed(CARRIES) else "do not carry it"


def _left_text(role: HeadRole, heads: Heads) -> str:
    """How often the network is right without a head that carries x_t whole, beside what an iteration head leaves."""
    if role.in_part:
        return ""
    left, level = heads.accuracy - role.cost, heads.accuracy - heads.needed
    right = on_its_side(left, level, percent=True)
    return f"; without it {right} of states are right, {level_beside(level, left, right)} or less if it were needed"


def part_text(role: HeadRole) -> str:
    """How far one head carries its content, and at which t where that is in part."""
    found = role.role.followed
    assert found is not None
    if not role.in_part:
        return followed_text(found, CARRIES, role.role.content or "x")
    times = f"most at t = {' '.join(map(str, found.at))}, " if found.at else "most at no t, "
    return f"in part, {times}{followed_text(found, CARRIES_IN_PART, role.role.content or 'x')}"


def removal_sentence(removal: Cost | None, guess: float, n_heads: int) -> str:
    """Say without which of so many heads of one layer accuracy falls to near the best guess, by which level."""
    tried = "" if n_heads <= MAX_SUBSET_HEADS else f"; of the {n_heads} heads of a layer one, two and all were tried"
    level = guess + NEAR
    if removal is None:
        return (
            f"No set of heads in one layer{' that was tried' if tried else ''} brings accuracy down to near the best "
            f"guess ({guess:.0%}; near up to {NEAR:.0%} above it{tried})."
        )
    left = on_its_side(removal.accuracy, level, percent=True)
    names = " and ".join(str(writer) for writer in removal.components)
    return (
        f"Accuracy falls to {left} (best guess {guess:.0%}; near it up to {level_beside(level, removal.accuracy, left)}"
        f"{tried}) without {names}."
    )


def carries_sentence(role: HeadRole) -> str:
    """Say what a head carries that is neither x_t nor the position of [EoI]."""
    content = role.role.content
    assert content is not None
    verb = {"accumulates": "accumulates: it brings", "relays": "relays, through a row before,"}.get(
        role.name, "carries"
    )
    return f"{role.writer} {verb} {content_text(content)}: {part_text(role)}."


def takes_back_sentence(role: HeadRole) -> str:
    """Say that a head moves the logits away from the answer that others make."""
    found, evidence = role.role.followed, role.evidence
    assert found is not None
    assert evidence is not None
    toward, lead = found.toward, evidence.lead
    return (
        f"{role.writer} takes back: with what it brings in another string put in, the logits go "
        f"{on_its_side(toward.mean, -TAKES_BACK, percent=True)} of the way to that string's answer (up to "
        f"{on_its_side(toward.high, -TAKES_BACK, percent=True)}; {-TAKES_BACK:.0%} or less needed), and the right "
        f"answer's lead grows by {lead.mean:.0%} (at least {on_its_side(lead.low, TAKES_BACK, percent=True)}; "
        f"{TAKES_BACK:.0%} needed)."
    )


def lookup_sentences(heads: Heads) -> list[str]:
    """Say which heads carry the position of [EoI], or that this cannot be told."""
    lookups = [role for role in heads.roles if role.name == "lookup"]
    if lookups:
        names = "; ".join(f"{role.writer} ({part_text(role)})" for role in lookups)
        return [f"The position of [EoI] is carried by {names}."]
    if not any("end" in found for found in heads.layers):
        return ["By which heads the position of [EoI] is carried cannot be told: too few rows ask for it."]
    return []


def partner_sentences(roles: Sequence[HeadRole]) -> list[str]:
    """Say which heads carry something together that neither carries as far alone."""
    said, found = [], {role.writer: role.evidence for role in roles if role.evidence is not None}
    for writer, evidence in found.items():
        for content, others in evidence.shares.items():
            for other, joint in others.items():
                if (other.layer, other.head) > (writer.layer, writer.head):
                    alone = (f"of {one} alone {_alone_text(found[one].at_row[content])}" for one in (writer, other))
                    said.append(
                        f"{writer} carries {content_text(content)} together with {other}: with both put in, "
                        f"{followed_text(joint, CARRIES, content)}; {', '.join(alone)}."
                    )
    return said


def _alone_text(found: Followed) -> str:
    """How many answers follow and stay, of a head beside what it does with another."""
    return f"{found.follows.mean:.0%} follow and {found.stays.mean:.0%} stay"


def costs_sentence(roles: Sequence[HeadRole]) -> str:
    """Say which heads matter, where only the last state is written."""
    costly = ", ".join(
        f"{r.writer} (costs {on_its_side(r.cost, COSTS, percent=True)})" for r in roles if r.cost >= COSTS
    )
    return (
        "Only the last state is written, so what heads carry cannot be asked; heads that matter, by at least "
        f"{COSTS:.0%} of states: {costly or 'none'}."
    )


def idle_sentences(roles: Sequence[HeadRole]) -> list[str]:
    """Say which heads are idle."""
    idle = [role for role in roles if role.name == "idle"]
    if not idle:
        return []
    names = ", ".join(str(role.writer) for role in idle)
    moved = max(role.evidence.moved for role in idle if role.evidence is not None)
    return [
        f"Idle: {names}. Without each alone less than {COSTS:.0%} of states go wrong, and the logits move by "
        f"{on_its_side(moved, MOVES, percent=True)} at most (idle below {MOVES:.0%} of what they vary)."
    ]
