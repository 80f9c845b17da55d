"""What a run's folder says of itself in JSON: its settings, and where it was made."""

import json
from collections.abc import Mapping
from typing import Any

from compo_mech.runs.config import RunConfig
from compo_mech.runs.sums import digest
from compo_mech.runs.vouched import ROWS, RunError, Vouched

MAX_CHARACTERS = 300
"""Of what is told of a damaged file, which may hold anything."""


def stored_config(run: Vouched) -> RunConfig:
    """Read a run's settings.

    Raises:
        RunError: they cannot be read, or are not those that the run was made with.
    """
    file, settings = run.path / "config.json", _parsed(run, "config.json")
    try:
        config = RunConfig(**settings)
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise RunError(f"{file}: {shortened(error)}") from None
    run.content("../config.json", run.sums())
    if missing := [name for name in ("data", "model", "optim", "train") if name not in settings]:
        raise RunError(f"{file}: has no {missing[0]}, so it is not the settings of a run")
    return config


def environment_text(values: Mapping[str, Any]) -> str:
    """Write what a run was made with, and the checksum of that.

    It stands in the file itself, and not in the list of checksums: two runs of one list are equal to the bit, wherever
    and by whatever command they were made.
    """
    return json.dumps({**values, _OWN: _checksum(values)}, indent=2)


def stored_environment(run: Vouched) -> dict[str, Any]:
    """Read what a run was made with.

    Raises:
        RunError: it is missing or damaged.
    """
    found = _parsed(run, "environment.json")
    own = found.pop(_OWN, None)
    if own != _checksum(found) and (own is not None or run.is_vouched_for):
        raise RunError(f"{run.path / 'environment.json'}: is damaged, its checksum differs")
    return found


def altered(run: Vouched) -> list[str]:
    """List what is not as it was written, in a line each: the list of checksums, and the files that have one.

    Whoever trains the run meanwhile replaces files and takes them from the list; nothing is said of those.
    """
    sums = run.sums()
    found = [] if sums.problem is None else [sums.problem]
    for name, checksum in sums.known.items():
        try:
            _ = run.rows() if name == ROWS else run.content(name, sums)
        except RunError as error:
            if run.sums().known.get(name) == checksum:
                found.append(str(error))
    try:
        stored_environment(run)
    except RunError as error:
        found.append(str(error))
    return found


_OWN = "checksum"


def _checksum(values: Mapping[str, Any]) -> str:
    return digest(json.dumps(values, sort_keys=True).encode())


def _parsed(run: Vouched, name: str) -> dict[str, Any]:
    try:
        found = json.loads(run.unchecked(f"../{name}"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{run.path / name}: {shortened(error)}") from None
    if not isinstance(found, dict):
        raise RunError(f"{run.path / name}: must hold names and values, in braces")
    return found


def shortened(error: BaseException) -> str:
    """Return what an error says, in one line of some length."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= MAX_CHARACTERS else f"{said[:MAX_CHARACTERS]} ..."
