"""Whether what is about to be read fits in the memory that is free."""

import os
from pathlib import Path

GB = 1e9


def free_memory() -> float:
    """Return the bytes that a process can still take; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024 * next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def check_memory(what: str, needed: float) -> None:
    """Refuse what does not fit.

    Args:
        what: the setting that decides it, with its value.
        needed: estimated bytes.

    Raises:
        ValueError: one line with the estimate and what is free.
    """
    free = free_memory()
    if needed > free:
        raise ValueError(f"{what}: needs about {needed / GB:.2g} GB of memory, {free / GB:.2g} GB are free")
