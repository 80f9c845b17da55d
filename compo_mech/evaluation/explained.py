"""What the answers of a network depend on: the input that is needed next, or how often each input occurs in the string.

A head that does not choose yet averages over the inputs, so that whatever follows it sees their counts alone.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.packing import Packing
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Task
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


@torch.no_grad()
def explained(model: Model, data: DataConfig, task: Task, length: int) -> Explained:
    """What the probabilities of a network's next states depend on, over every string of this length.

    The right states are written before each. Probabilities and not logits, since a network that has learnt nothing has
    logits that vary a little, and mostly with averages over the string.

    Args:
        model: the network.
        data: how strings are encoded.
        task: one of the data's, with a chain of thought.
        length: of the strings, all of which are run.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=5)
    >>> [round(value, 1) + 0 for value in explained(built.model, built.data, Parity(), 5)]
    [1.0, 0.0]
    """
    strings = all_strings(task, length)
    packing = Packing.of_lengths(data.layout, [length] * len(strings), model.device)
    read = encode(data, task, strings).tokens.to(model.device)
    logits = rearrange(forward(model, read, packing), "(batch row) d_vocab -> batch row d_vocab", batch=len(strings))
    answers = logits[:, :length].softmax(-1)[..., : task.n_states].double().cpu()
    return explained_answers(answers, task, strings)


def explained_answers(
    answers: Float[Tensor, "string row state"], task: Task, strings: Int[Tensor, "string row"]
) -> Explained:
    """As `explained`, of answers that are given.

    Args:
        answers: probability of each state after each input.
        task: whose states they are.
        strings: of inputs.
    """
    states = task.states(strings)
    right = torch.nn.functional.one_hot(states, task.n_states).double()
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1)  # of the first: any, but the same
    cells = torch.unique(torch.nn.functional.one_hot(strings).sum(1), dim=0, return_inverse=True)[1]
    total = Explained(0.0, 0.0)
    most = 0.0
    for row in range(strings.shape[1]):
        following = before[:, row] * task.n_inputs + strings[:, row]
        whole = following * len(cells) + cells
        by_state, by_both, by_all = (between(answers[:, row], own) for own in (before[:, row], following, whole))
        total = Explained(total.by_next + by_both - by_state, total.by_counts + by_all - by_both)
        most += between(right[:, row], following) - between(right[:, row], before[:, row])
    return Explained(total.by_next / most, total.by_counts / most)


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
