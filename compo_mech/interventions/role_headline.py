"""The heads of a network in a clause, for a headline."""

from compo_mech.interventions.head_swaps import CARRIES, CARRIES_IN_PART, STAYS
from compo_mech.interventions.role_able import beside_text, is_able, untold_text
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import Heads, content_text
from compo_mech.stats.intervals import on_its_side


def headline(heads: Heads) -> str:
    """Say in a clause which heads carry x_t, by intervention."""
    if not is_able(heads.accuracy, heads.guess):
        return f"no head is named by intervention, since {untold_text(heads.accuracy, heads.guess)}"
    if heads.x_together is None:
        return "what heads carry cannot be asked, since only the last state is written"
    named = [heads.iteration] if heads.iteration else [r for r in heads.roles if r.role.content in ("x", "prefix")]
    parts = [f"{role.writer} {_verb(role, heads)}{_brief(role)}" for role in named if role is not None]
    if not parts and not heads.asks_for_x:
        return "which heads carry x_t cannot be told by intervention: too few rows ask for it"
    if not parts and heads.beside is not None and not heads.is_deniable:
        return f"which heads carry x_t cannot be told by intervention: {beside_text(heads.beside)}"
    return "by intervention " + (", ".join(parts) or _none(heads))


def _none(heads: Heads) -> str:
    """What is said where no head carries x_t."""
    layer = heads.best_layer
    if layer is None or not heads.layers[layer]["x"].is_mixed(CARRIES):
        return "no head carries x_t alone or with one other"
    of_layer = [str(role.writer) for role in heads.roles if role.writer.layer == layer]
    who = f"{of_layer[0]} brings" if len(of_layer) == 1 else f"the heads of layer {layer} together bring"
    return f"{who} x_t and something else"


def _verb(role: HeadRole, heads: Heads) -> str:
    """What a head does with x_t, for a headline."""
    if role is heads.iteration:
        return "is the iteration head"
    content = content_text(role.role.content or "x")
    if role.name == "shares":
        return f"carries {content} together with {' or '.join(map(str, role.partners))}"
    verb = role.name if role.name in ("accumulates", "relays", "takes back") else "carries"
    return f"{verb} {content}" + (" in part" if role.in_part else "")


def _brief(role: HeadRole) -> str:
    """How many answers follow and stay, for a headline."""
    found = role.role.followed
    if found is None or role.name in ("shares", "takes back"):
        return ""
    level = CARRIES_IN_PART if role.in_part else CARRIES
    follows, stays = (
        on_its_side(of.low, at, percent=True) for of, at in ((found.follows, level), (found.stays, STAYS))
    )
    return (
        f" ({found.follows.mean:.0%} of answers follow what it brings, at least {follows} with {level:.0%} needed; "
        f"{found.stays.mean:.0%} stay when all else differs, at least {stays} with {STAYS:.0%} needed)"
    )
