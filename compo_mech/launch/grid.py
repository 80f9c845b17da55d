"""A grid of settings: every combination of values, by a name that says which."""

import ast
import itertools
from collections.abc import Mapping, Sequence

from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed


def grid(base: RunConfig, axes: Mapping[str, Sequence[object]]) -> dict[str, RunConfig]:
    """Every combination of settings, by a name that says which.

    Args:
        base: all other settings.
        axes: values by dotted name of a setting, such as `model.d_model`.

    Raises:
        ValueError: there is no such setting, it cannot have one of its values, or an axis is empty.
    """
    for name, values in axes.items():
        if not values:
            raise ValueError(f"{name} = (): must have at least one value")
    found: dict[str, RunConfig] = {}
    for values in itertools.product(*axes.values()):
        changes = dict(zip(axes, values, strict=True))
        pairs = zip(_short(list(axes)), values, strict=True)
        name = ",".join(f"{short}={value}" for short, value in pairs).replace("/", "-")  # for it is one folder
        if name in found:
            raise ValueError(f"{name}: must be named once")
        found[name or "base"] = changed(base, changes)
    return found


def read_axis(text: str) -> tuple[str, list[object]]:
    """A setting and its values, as the command line spells them: `model.d_model=32,64` or `model.d-model=32,64`.

    Values are Python's literals, or plain words; commas in brackets or quotes do not part them.

    Raises:
        ValueError: it is not spelled so.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise ValueError(f"axis = {text!r}: must be written as setting=value,value")
    try:
        found = ast.literal_eval(f"[{values}]")
    except (SyntaxError, ValueError):
        found = [_literal(word) for word in values.split(",")]
    return name.removeprefix("--").replace("-", "_"), found


def _literal(word: str) -> object:
    try:
        return ast.literal_eval(word)
    except (SyntaxError, ValueError):
        return word


def _short(names: Sequence[str]) -> list[str]:
    """Last words of dotted names, or the whole names where two would be the same."""
    last = [name.rsplit(".", 1)[-1] for name in names]
    return last if len(set(last)) == len(last) else list(names)
