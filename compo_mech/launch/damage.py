"""What is damaged of runs that are asked for again: named, though the rest of them is read and goes on."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from compo_mech.cli.output import warn
from compo_mech.runs.run import Run
from compo_mech.runs.stack import Stack, is_stack
from compo_mech.runs.stored import altered
from compo_mech.runs.vouched import RunError


def damage(path: Path) -> list[str]:
    """List what of the run or stack in a folder is not as it was written; nothing of what cannot be opened at all."""
    try:
        return altered(Stack.open(path) if is_stack(path) else Run.open(path))
    except RunError:
        return []


def tell_damage(before: Sequence[str], path: Path, console: Console) -> None:
    """Name what was damaged of a run or stack before it went on to its end, and say what was made anew since.

    Args:
        before: as `damage` had it.
        path: of the folder.
        console: is told.
    """
    left = damage(path) if before else []
    for told in before:
        warn(console, told if told in left else f"{told}; it was made anew")
