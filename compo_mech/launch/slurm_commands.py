"""Slurm's own commands: whether there is a cluster, what a command answers, and that it answers in time."""

import contextlib
import importlib
import io
import math
import shutil
import subprocess
import threading
from collections.abc import Callable

from compo_mech.launch.slurm_settings import SlurmConfig, SlurmError

COMMAND_S = 60.0
"""Seconds after which a command of Slurm counts as unanswered."""


def check(config: SlurmConfig) -> None:
    """Whether jobs can be submitted at all, to be asked before anything starts.

    Raises:
        ValueError: no sbatch, no submitit, no answer, no such partition, or a time limit above the partition's,
            with which a job would wait for ever.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError("slurm = missing: there is no sbatch or no srun on the PATH, so this is no Slurm cluster")
    try:
        importlib.import_module("submitit")  # here and below, so that only those who use a cluster wait for it
    except ImportError as error:
        raise ValueError(f"submitit = missing: cannot be imported ({error})") from None
    try:
        lines = ask("sinfo", "-a", "-h", "-o", "%P %l").splitlines()
    except SlurmError as error:
        raise ValueError(f"slurm = unreachable: its commands are here, but no cluster answers ({error})") from None
    limits: dict[str | None, float] = {}
    for name, limit in map(str.split, lines):
        limits[name.rstrip("*")] = minutes(limit)
        if name.endswith("*"):  # the default
            limits[None] = minutes(limit)
    if config.partition is not None and config.partition not in limits:
        names = ", ".join(sorted(filter(None, limits)))
        raise ValueError(f"partition = {config.partition!r}: must be one of {names} on this cluster")
    if config.timeout_min > (most := limits.get(config.partition, math.inf)):
        raise ValueError(f"timeout_min = {config.timeout_min}: must be at most {most:g}, the partition's limit")


def minutes(limit: str) -> float:
    """A time limit as Slurm writes it: days-hours:minutes:seconds from the right, or a word for none."""
    if not limit[0].isdigit():
        return math.inf
    days, _, rest = limit.rpartition("-")
    hours, minutes, seconds = ([0, 0] + [int(part) for part in rest.split(":")])[-3:]
    return 1440 * int(days or 0) + 60 * hours + minutes + seconds / 60


def ask(*command: str) -> str:
    """What a command of Slurm answers.

    Raises:
        SlurmError: it cannot be run, fails or does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=True)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {COMMAND_S:g} s") from None
    except subprocess.CalledProcessError as error:
        raise SlurmError(_complaint(command[0], error.stderr)) from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: cannot be run ({error.strerror})") from None
    return done.stdout


def answer_within(seconds: float, command: str, call: Callable[[], list[str]]) -> list[str]:
    """The result of a call that submits, which has no time limit of its own.

    Raises:
        SlurmError: it fails or does not end.
    """
    result: list[str] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            result.extend(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with contextlib.redirect_stderr(io.StringIO()):  # submitit prints there what it also raises
        thread.start()
        thread.join(seconds)
    if thread.is_alive():
        raise SlurmError(f"{command}: no answer within {seconds:g} s")
    if errors:
        raise SlurmError(_complaint(command, str(errors[0]))) from errors[0]
    return result


def _complaint(command: str, said: str) -> str:
    lines = [line.removeprefix(f"{command}: ").removeprefix("error: ").strip() for line in said.splitlines()]
    return f"{command}: {'; '.join(dict.fromkeys(filter(None, lines))) or 'failed without a word'}"
