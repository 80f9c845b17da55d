"""Leak-free splits: which strings are trained on and which are tested on.

A string of inputs is a test string or a training string by a stable hash of itself, whatever the
task or the seed, so that no training stream and no training set ever holds a test string. Lengths
with fewer than `MIN_SPLIT` strings are too short to split: all their strings are used for both.
"""

import functools
import itertools

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.tasks import Task

MIN_SPLIT = 64
"""Lengths with fewer strings than this are not split."""


def n_strings(task: Task, length: int) -> int:
    """Return how many strings of inputs of this length there are.

    Example:
        >>> from compo_mech.data import Parity, n_strings
        >>> n_strings(Parity(), 5)
        32
    """
    return (task.n_inputs - task.first_input) ** length


def is_split(task: Task, length: int) -> bool:
    """Whether the strings of this length are divided into training and test strings.

    Example:
        >>> from compo_mech.data import Parity, is_split
        >>> is_split(Parity(), 5), is_split(Parity(), 6)
        (False, True)
    """
    return n_strings(task, length) >= MIN_SPLIT


def string_hash(inputs: Int[Tensor, "*batch max_length"], lengths: Int[Tensor, "*#batch"]) -> Int[Tensor, "*batch"]:
    """Return a stable 31-bit hash of the first `lengths` inputs, the same in every run and on every device.

    Example:
        >>> from compo_mech.data import string_hash
        >>> one, other = string_hash(torch.tensor([[1, 0, 0], [1, 0, 1]]), torch.tensor([2, 2]))
        >>> bool(one == other)
        True
    """
    position, factors = _factors(inputs.shape[-1], inputs.device)
    total = ((inputs + 1) * (factors * (position < lengths[..., None]))).sum(-1)  # wraps modulo 2^64
    return _mixed(total + lengths * 0x632BE59BD9B4E019) & 0x7FFFFFFF


@functools.lru_cache(maxsize=64)
def _factors(n: int, device: torch.device) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """The first positions, and what the hash multiplies by there."""
    position = torch.arange(n, device=device)
    return position, _mixed(position + 1) | 1


def is_test_string(inputs: Int[Tensor, "*batch max_length"], lengths: Int[Tensor, "*#batch"]) -> Bool[Tensor, "*batch"]:
    """Whether each string falls into the test split, as a quarter of all strings do.

    Example:
        >>> from compo_mech.data import Parity, is_test_string, test_strings
        >>> bool(is_test_string(test_strings(Parity(), 8, 10), torch.tensor([8] * 10)).all())
        True
    """
    return string_hash(inputs, lengths) & 3 == 0


def _mixed(value: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), in wrapping 64-bit integers."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        value = (value ^ ((value >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return value


def all_strings(task: Task, length: int) -> Int[Tensor, "string length"]:
    """Return every string of inputs of this length, in lexicographic order.

    Example:
        >>> from compo_mech.data import Parity, all_strings
        >>> all_strings(Parity(), 2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    values = range(task.first_input, task.n_inputs)
    return torch.tensor(list(itertools.product(values, repeat=length)), dtype=torch.long)


def test_strings(task: Task, length: int, n: int) -> Int[Tensor, "string length"]:
    """Return up to n distinct strings to test on, always the same: all of them where there is no split.

    Raises:
        ValueError: no string of this length is a test string (never at `MIN_SPLIT` strings or more
            of the tasks that come with the package).

    Example:
        >>> from compo_mech.data import Parity, test_strings
        >>> test_strings(Parity(), 8, 10).shape
        torch.Size([10, 8])
    """
    if not is_split(task, length):
        return all_strings(task, length)
    return _distinct_strings(task, length, n, test=True, generator=torch.Generator().manual_seed(0))


def train_strings(task: Task, length: int, n: int, generator: torch.Generator) -> Int[Tensor, "string length"]:
    """Draw a fixed training set: n distinct strings, or, where there are fewer, all of them over and over.

    Example:
        >>> from compo_mech.data import Parity, train_strings
        >>> strings = train_strings(Parity(), 1, 4, torch.Generator().manual_seed(0))
        >>> sorted(strings.tolist())
        [[0], [0], [1], [1]]
    """
    if is_split(task, length):
        found = _distinct_strings(task, length, n, test=False, generator=generator)
    else:
        found = all_strings(task, length)
        found = found[torch.randperm(len(found), generator=generator)]
    return found[torch.arange(n) % len(found)]


def _distinct_strings(
    task: Task, length: int, n: int, test: bool, generator: torch.Generator
) -> Int[Tensor, "string length"]:
    lengths = torch.tensor(length)
    if n_strings(task, length) <= max(4096, 8 * n):
        pool = all_strings(task, length)
    else:
        shape = (8 * n + 64, length)
        pool = torch.randint(task.first_input, task.n_inputs, shape, generator=generator)
        pool = torch.unique(pool, dim=0)
    pool = pool[is_test_string(pool, lengths.expand(len(pool))) == test]
    if not len(pool):
        raise ValueError(f"length = {length}: no string of {task} is left for this split")
    return pool[torch.randperm(len(pool), generator=generator)[:n]]
