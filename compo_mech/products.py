"""What multiplies float32 matrices on the CPU, and memory that is kept for them."""

import contextlib
import functools
import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_SETTING: Any = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue] (made at import)
LARGE = 1e7
"""Operations of the largest products from which on oneDNN is faster, which takes 10 µs a product to begin."""
KEPT = 31 * 2**20
"""Bytes, just below the 32 MiB from which glibc always asks the system; twice as many that are freed stay."""


@contextlib.contextmanager
def fast_products(n_operations: float = math.inf) -> Iterator[None]:
    """Inside, products whose shapes come again and again are computed by what is fastest on this processor.

    MKL, by which torch multiplies matrices, takes AVX2 on processors that are not Intel's. oneDNN, which torch brings
    as well, takes AVX-512: half of the time on an AMD EPYC (Zen 5). torch gives it float32 matrices only where lower
    precision is allowed, of which oneDNN makes use on processors with AMX alone. It is therefore allowed where there
    is no AMX, and tried once in a process: products must be exact.

    It makes itself a kernel for each shape, in 0.2 ms and a megabyte, and keeps the last thousand: not for what is
    computed once.

    Args:
        n_operations: of the largest of these products; below `LARGE` torch computes them as it does by itself.

    Example:
        >>> import torch
        >>> from compo_mech.products import fast_products
        >>> exact = torch.tensor([[1 + 2**-23]])  # all 24 bits of a float32
        >>> with fast_products():
        ...     assert torch.equal(exact @ torch.eye(1), exact)
    """
    _keep_memory()
    before = _SETTING.fp32_precision
    _SETTING.fp32_precision = "bf16" if n_operations >= LARGE and is_onednn_faster() else "ieee"
    try:
        yield
    finally:
        _SETTING.fp32_precision = before


@functools.cache
def is_onednn_faster() -> bool:
    """Whether oneDNN uses this processor better than MKL, and is as exact.

    Example:
        >>> from compo_mech.products import is_onednn_faster
        >>> isinstance(is_onednn_faster(), bool)
        True
    """
    brings_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    if not (brings_both and has_avx512 and _is_amd()) or torch.cpu._is_amx_tile_supported():
        return False
    return _is_exact()


def _is_amd() -> bool:
    told = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (told.read_text(encoding="utf-8") if told.exists() else platform.processor())


def _is_exact() -> bool:
    """Whether products in which each sum has one term are that term, to the last of its 24 bits."""
    generator, before = torch.Generator().manual_seed(0), _SETTING.fp32_precision
    _SETTING.fp32_precision = "bf16"
    try:
        for shape in ((256, 64), (8, 64, 64)):
            terms = torch.randint(2**23, 2**24, shape, generator=generator).float()  # whole numbers of 24 bits
            ones = torch.eye(64).repeat(*shape[:-2], 1, 1)
            if not torch.equal(terms @ ones, terms):
                return False
        return True
    finally:
        _SETTING.fp32_precision = before


@functools.cache
def _keep_memory() -> None:
    """Have glibc keep what is freed: it gives memory back to the system above a limit that is twice the largest
    allocation freed so far, and then takes a page fault for every 4 KiB, hundreds a training step."""
    torch.empty(KEPT, dtype=torch.uint8)
