"""A grid of settings: every combination of values, by a name that says which."""

import ast
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed, shown

MAX_RUNS = 100_000
"""In a grid: of more, the settings alone take minutes to write out."""


def grid(base: RunConfig, axes: Mapping[str, Sequence[object]]) -> dict[str, RunConfig]:
    """Every combination of settings, by a name that says which.

    Args:
        base: all other settings.
        axes: values by dotted name of a setting, such as `model.d_model`.

    Raises:
        ValueError: there is no such setting, it cannot have one of its values, an axis is empty or has a value twice,
            however that is spelled, or there are too many combinations.
    """
    for name, values in axes.items():
        if not values:
            raise ValueError(f"{name} = (): must have at least one value")
        value, n_times = Counter(map(repr, values)).most_common(1)[0]
        if n_times > 1:
            raise ValueError(f"{name} = {value}: must be named once")
    if (n := math.prod(map(len, axes.values()))) > MAX_RUNS:
        raise ValueError(f"axes = {' '.join(axes)}: must make at most {MAX_RUNS} runs, not {n}")
    found: dict[str, RunConfig] = {}
    known: dict[RunConfig, Sequence[object]] = {}
    for values in itertools.product(*axes.values()):
        changes = dict(zip(axes, values, strict=True))
        pairs = zip(_short(list(axes)), values, strict=True)
        name = ",".join(f"{short}={value}" for short, value in pairs).replace("/", "-")  # for it is one folder
        config = changed(base, changes)
        if config in known:
            raise ValueError(_same(axes, known[config], values))
        if name in found:
            raise ValueError(f"axes = {' '.join(axes)}: must give each run a name of its own, two would be {name}")
        known[config] = values
        found[name or "base"] = config
    return found


def _same(axes: Iterable[str], first: Sequence[object], again: Sequence[object]) -> str:
    """Say which value is another spelling of one that was there before."""
    named = zip(axes, map(repr, first), map(repr, again), strict=True)
    return next(f"{name} = {b}: must be named once, {a} is the same" for name, a, b in named if a != b)


def read_axis(text: str) -> tuple[str, list[object]]:
    """A setting and its values, as the command line spells them: `model.d_model=32,64` or `model.d-model=32,64`.

    Values are Python's literals, or plain words; commas in brackets or quotes do not part them.

    Raises:
        ValueError: it is not spelled so.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise ValueError(f"axis = {shown(text)}: must be written as setting=value,value")
    try:
        found = _literals(values)
    except (MemoryError, RecursionError):  # how Python's parser calls what is nested too deep
        raise ValueError(f"axis = {shown(text)}: must be nested less deep") from None
    return name.removeprefix("--").replace("-", "_"), found


def _literals(values: str) -> list[object]:
    try:
        return list(ast.literal_eval(f"[{values}]"))
    except (SyntaxError, ValueError, TypeError):
        return [_literal(word) for word in values.split(",")]


def _literal(word: str) -> object:
    try:
        return ast.literal_eval(word)
    except (SyntaxError, ValueError, TypeError):
        return word


def _short(names: Sequence[str]) -> list[str]:
    """Last words of dotted names, or the whole names where two would be the same."""
    last = [name.rsplit(".", 1)[-1] for name in names]
    return last if len(set(last)) == len(last) else list(names)
