"""What the answers of a network depend on: the input that is needed next, or how often each input occurs in the string.

A head that does not choose yet averages over the inputs, so that whatever follows it sees their counts alone.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.packing import Packing
from compo_mech.data.splits import all_strings, n_strings
from compo_mech.data.tasks import Task
from compo_mech.model.finite import check_finite
from compo_mech.model.forward import forward
from compo_mech.model.params import Model


class Explained(NamedTuple):
    """Fractions of what x_t explains of the right answers' variance; unbiased, so that they may be a little below 0.

    Attributes:
        by_next: that x_t explains, beyond the state before.
        by_counts: that the counts of all inputs explain, beyond the state before and x_t.
    """

    by_next: float
    by_counts: float


MAX_STRINGS = 2**14
"""Of a length, since all of them are run."""


@torch.no_grad()
def explained(model: Model, data: DataConfig, task: Task, length: int) -> Explained:
    """What the probabilities of a network's next states depend on, over every string of this length.

    The right states are written before each. Probabilities and not logits, since a network that has learnt nothing has
    logits that vary a little, and mostly with averages over the string.

    Args:
        model: the network.
        data: how strings are encoded, with a chain of thought.
        task: one of the data's.
        length: of the strings, all of which are run.

    Raises:
        ValueError: there are too many strings or too few, there is no chain of thought, or a logit is not finite.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=5)
    >>> [round(value, 1) + 0 for value in explained(built.model, built.data, Parity(), 5)]
    [1.0, 0.0]
    """
    if not data.chain_of_thought:
        raise ValueError("chain_of_thought = False: must be True, where a state follows each input")
    if (n := n_strings(task, length)) > MAX_STRINGS:
        raise ValueError(f"length = {length}: has {n} strings of {task}, must have at most {MAX_STRINGS}")
    strings = all_strings(task, length)
    packing = Packing.of_lengths(data.layout, [length] * n, model.device)
    read = encode(data, task, strings).tokens.to(model.device)
    logits = rearrange(forward(model, read, packing), "(batch row) d_vocab -> batch row d_vocab", batch=n)
    check_finite("logits", logits)
    return explained_answers(logits[:, :length].softmax(-1)[..., : task.n_states].double().cpu(), task)


def explained_answers(answers: Float[Tensor, "string row state"], task: Task) -> Explained:
    """As `explained`, of answers that are given.

    Args:
        answers: probability of each state after each input, of each string as `all_strings` has them.
        task: whose states they are.

    Raises:
        ValueError: the strings are too short for any two to agree in all that is counted.
    """
    cells, most = _cells(task, answers.shape[1])
    by_next, by_counts = _gains(answers, cells)
    return Explained(by_next / most, by_counts / most)


_Cells = tuple[Int[Tensor, "row string"], Int[Tensor, "row string"], Int[Tensor, "row string"]]
"""Strings that agree in the state before; in that and x_t; in these and how often each input occurs."""


@functools.lru_cache(maxsize=16)
def _cells(task: Task, length: int) -> tuple[_Cells, float]:
    """The cells of every string of a length, and what x_t explains of the right answers."""
    strings = all_strings(task, length)
    states = task.states(strings)
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1)  # of the first: any, but the same
    following = before * task.n_inputs + strings
    counts = torch.unique(F.one_hot(strings).sum(1), dim=0, return_inverse=True)[1]
    cells = (before.T, following.T, (following * len(strings) + counts[:, None]).T)
    return cells, _gains(F.one_hot(states, task.n_states).double(), cells)[0]


def _gains(answers: Float[Tensor, "string row state"], cells: _Cells) -> tuple[float, float]:
    """The variance that x_t explains beyond the state before, and counts beyond both, summed over rows."""
    by_state, by_both, by_all = (
        sum(between(answers[:, row], own[row]) for row in range(answers.shape[1])) for own in cells
    )
    return by_both - by_state, by_all - by_both


def between(values: Float[Tensor, "string state"], cells: Int[Tensor, "string"]) -> float:
    """The variance of the values, summed over columns, that lies between the cells, less what chance puts there: the
    numerator of omega squared (Hays 1963).

    Raises:
        ValueError: every value has a cell of its own.

    >>> between(torch.tensor([[0.0], [0.0], [1.0], [1.0]]).double(), torch.tensor([0, 0, 1, 1]))
    0.25
    """
    _, index, sizes = torch.unique(cells, return_inverse=True, return_counts=True)
    n, n_cells = len(values), len(sizes)
    if n == n_cells:
        raise ValueError(f"cells = {n_cells}: must be fewer than values, which are {n}")
    sums = torch.zeros(n_cells, values.shape[1], dtype=values.dtype).index_add(0, index, values)
    means = sums / sizes[:, None]
    within = (values - means[index]).square().sum()
    among = (sizes[:, None] * (means - values.mean(0)).square()).sum()
    return float(among - (n_cells - 1) * within / (n - n_cells)) / n
