"""What a sweep costs, timed and said before it starts; above an hour it has to be asked for."""

import os
from collections.abc import Sequence

from rich.console import Console

from compo_mech.cli.output import say
from compo_mech.launch.group_timing import seconds_a_run
from compo_mech.launch.how import How
from compo_mech.runs.config import RunConfig
from compo_mech.runs.stack_members import shared_settings

HOUR = 3600.0
N_STEPS = 500
"""Of all runs together: fewer are not worth timing."""
N_KINDS = 6
"""Kinds of runs that are timed, those of most steps; the others are taken to cost their mean a step."""
N_TOGETHER = {"cpu": 16, "cuda": 256}
"""Networks that are timed at once: on a CPU as many more take as much longer."""


def check_cost(left: Sequence[RunConfig], how: How, console: Console) -> None:
    """Say how long it takes to train these runs, by timing a few steps and one measurement of each kind.

    Args:
        left: what is to be trained, wherever it starts from.
        how: where it is trained.
        console: where it is said.

    Raises:
        ValueError: it takes more than an hour, and `yes` is not set.
    """
    if sum(config.train.n_steps for config in left) < N_STEPS:
        return
    seconds = _seconds(left, how)
    side_by_side = {"processes": min(how.n_workers, os.cpu_count() or 1), "slurm": how.slurm.n_at_once}.get(how.on, 1)
    at_a_time = min(side_by_side, len(left))
    whole, each = duration(seconds / at_a_time), duration(seconds / len(left))
    what = f"{len(left)} runs of about {each}, {at_a_time} at a time, take about {whole}"
    say(console, f"{what} on a machine like this one")
    if seconds / at_a_time > HOUR and not how.yes:
        raise ValueError(f"yes = False: must be set above an hour (--yes), and {what}")


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it.

    >>> duration(0.26), duration(42.0), duration(600.0), duration(9000.0)
    ('0.3 s', '42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / HOUR:.1f} h"


def _seconds(left: Sequence[RunConfig], how: How) -> float:
    """How long the runs take, one after another."""
    kinds: dict[str, list[RunConfig]] = {}
    for config in left:
        kinds.setdefault(shared_settings(config), []).append(config)
    by_steps = sorted(kinds.values(), key=lambda same: -len(same) * same[0].train.n_steps)
    timed = sum(len(same) * _seconds_each(same, how) for same in by_steps[:N_KINDS])
    n_steps = [sum(len(same) * same[0].train.n_steps for same in some) for some in (by_steps[:N_KINDS], by_steps)]
    return timed * n_steps[1] / n_steps[0]


def _seconds_each(same: Sequence[RunConfig], how: How) -> float:
    """How long one of these runs takes, trained with as many others as it will be."""
    device = "cpu" if how.on == "slurm" else how.device
    together = how.on == "stacks" or (how.on == "here" and device != "cpu")
    n = min(len(same), how.n_at_once, N_TOGETHER["cuda" if device.startswith("cuda") else "cpu"]) if together else 1
    return seconds_a_run(same[0], n, device)
