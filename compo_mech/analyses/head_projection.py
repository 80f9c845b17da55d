"""What heads write, projected on the variables that the hand-built circuit's heads bring, and which head is which.

In that circuit one head brings the position of [EoI], the lookup, and one of a later layer x_t, the iteration. With
more heads than that each trained head is held against both: how much of the variance of what it writes, at rows that
predict a state, does the variable explain? The assignment takes the pair of heads that these explain best. What is
found in a head's output need not be used: an interchange says that (`interventions.carried_share`).
"""

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import check_data, draw_rows
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model import blocks
from compo_mech.model.params import Model

Head = tuple[int, int]
"""Layer and head."""


class Assignment(NamedTuple):
    """The heads that stand for the circuit's two."""

    lookup: Head
    iteration: Head


class Projections(NamedTuple):
    """How much of what each head writes a variable explains: 1 all, about 0 nothing.

    Attributes:
        x, end: by x_t, and by the position of [EoI].
        permuted_x, permuted_end: the same with the variable permuted among rows.
    """

    x: Float[Tensor, "layer head"]
    end: Float[Tensor, "layer head"]
    permuted_x: Float[Tensor, "layer head"]
    permuted_end: Float[Tensor, "layer head"]

    def assignment(self) -> Assignment | None:
        """Return the pair of heads, the iteration's in a later layer than the lookup's, of which most is explained in
        all; None of one layer."""
        n_layers, n_heads = self.x.shape
        every = list(product(range(n_layers), range(n_heads)))
        pairs = [Assignment(a, b) for a, b in product(every, every) if a[0] < b[0]]
        return max(pairs, key=lambda pair: float(self.end[pair.lookup] + self.x[pair.iteration]), default=None)


def explained(values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]) -> float:
    """Return the share of the variance of values that their labels account for, corrected for how many there are
    (epsilon squared, Kelley 1935); 0 of what does not vary.

    >>> values = torch.tensor([[0.0], [0.1], [1.0], [0.9], [0.0], [1.0]])
    >>> round(explained(values, torch.tensor([0, 0, 1, 1, 0, 1])), 3)
    0.987
    """
    _, kind, counts = labels.unique(return_inverse=True, return_counts=True)
    values = values.double()
    of_kind = F.one_hot(kind).double()
    means = (of_kind.T @ values) / counts[:, None]
    within = float((values - means[kind]).square().sum()) / max(1, len(values) - len(counts))
    total = float((values - values.mean(0)).square().sum()) / max(1, len(values) - 1)
    return 1 - within / total if total else 0.0


@torch.no_grad()
def head_projections(
    model: Model, data: DataConfig, generator: torch.Generator, n_rows: int = 1024, task: Task | None = None
) -> Projections:
    """Project what each head writes at random rows that predict a state.

    Args:
        model: the network.
        data: tasks, lengths and layout, with chain of thought.
        generator: source of the rows.
        n_rows: how many.
        task: one of the data's; None: its first.

    Raises:
        ValueError: there is no chain of thought, the task is not one of the data's, or a weight is not finite.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=4)
    >>> found = head_projections(built.model, built.data, torch.Generator().manual_seed(0))
    >>> found.assignment()
    Assignment(lookup=(0, 0), iteration=(1, 0))
    >>> round(float(found.x[1, 0]), 2), round(float(found.end[0, 0]), 2)
    (1.0, 1.0)
    """
    task = check_data(data, task)
    rows = draw_rows(data, task, n_rows, generator)
    order = torch.randperm(n_rows, generator=generator)
    labels = [rows.x, rows.end, rows.x[order], rows.end[order]]
    found = trace_rows(model, rows.to(model.device))
    shares = torch.zeros(len(labels), model.config.n_layers, model.config.n_heads)
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):
        written = blocks.head_result(model, layer, head, found.z[layer][:, head]).cpu()
        for i, label in enumerate(labels):
            shares[i, layer, head] = explained(written, label)
    return Projections(*shares)
