"""Whether this machine can hold a run, asked before there is a folder; and that it repeats it to the bit."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from compo_mech.cli.output import check_writable
from compo_mech.launch.settings import Launch
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.sizes import GB, check_memory, memory

N_FIRST_SNAPSHOTS = 16
"""About as many as are taken at 0, 1, 2, 4 ..., and what a resume needs."""


def check_runs_dir(runs_dir: Path) -> None:
    """Before anything is timed or trained: whether runs can be written there, and the folder made if there is none.

    Raises:
        ValueError: they cannot.
    """
    try:
        place = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        check_writable(place)
    except OSError as error:
        what = "written" if runs_dir.is_dir() else "made a folder"
        raise ValueError(f"runs_dir = {runs_dir}: cannot be {what} ({error.strerror})") from None


def check_machine(settings: Launch) -> None:
    """Refuse a run that this machine's memory or disk cannot hold.

    Raises:
        RunError: one line that names the setting, the estimate and the limit.
    """
    try:
        check_memory(_needed(settings.config), available_memory(settings.device), ", which this machine has")
    except ValueError as error:
        raise RunError(str(error)) from None
    folder = settings.path.absolute()
    place = next(parent for parent in folder.parents if parent.is_dir())
    free, train = shutil.disk_usage(place).free, settings.train
    if settings.resume:  # what is there already takes no more room
        free += sum(file.stat().st_size for file in folder.glob("checkpoints/*.safetensors"))
    needed = 4.0 * settings.n_params * (train.n_steps // train.snapshot_every + N_FIRST_SNAPSHOTS)
    if needed > free:
        takes = f"train.snapshot_every = {train.snapshot_every}: checkpoints take about {needed / GB:.3g} GB"
        raise RunError(f"{takes}, must be at most {free / GB:.3g} GB, which are free in {place}")


@contextlib.contextmanager
def repeating(device: str) -> Iterator[None]:
    """Have a GPU add up in a fixed order, as a CPU does, so that a run can be resumed and repeated to the bit."""
    if not device.startswith("cuda"):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    before = torch.are_deterministic_algorithms_enabled()
    # what can be added up in no other order warns, and does not stop the run
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def check_stack(config: RunConfig, n: int, device: str) -> None:
    """Refuse as many networks at once as this machine's memory cannot hold.

    Raises:
        RunError: one line that names the setting and how many fit.
    """
    if n > (most := n_that_fit(config, device)):
        raise RunError(f"n_at_once = {n}: must be at most {most}, which this machine's memory holds")


def n_that_fit(config: RunConfig, device: str) -> int:
    """How many networks of these settings can be trained at once in this machine's memory; at least 1."""
    fitting = available_memory(device) / sum(_needed(config).values())
    return max(1, int(min(fitting, 1e6)))


def _needed(config: RunConfig) -> dict[str, float]:
    return memory(config.data, config.model, config.n_test_strings, config.n_params)


def available_memory(device: str) -> float:
    """Bytes of memory that a process on this device may take; infinite where the system does not tell."""
    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).total_memory)
    limits = [float("inf")]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(file).read_text(encoding="utf-8")))  # "max" where there is none
        except (OSError, ValueError):
            continue
    return min(limits)
