"""What every set of heads brings together, each head's share of it, and the smallest sets that bring or block it.

    1. Take rows that predict a state, each beside a row of another string (`swapped_rows`).
    2. For every set of heads, let them put out at the row what they do in the other string. The set's value is how far
       the answers go with the content: 1, if they do wherever it changes and stay wherever it does not; 0, if all stay
       as they were; below 0, where answers are spoilt.
    3. A head's share is what it adds to the value, averaged over all orders in which the heads can be added (Shapley
       1953). Shares add up to the value of all heads; heads that do the same have the same share; one that adds nothing
       to any set has none.

Where answers change only if several heads bring another content, none shows anything alone; their sets do. A set may
hold heads of several layers, so that work that is spread over layers is found as well.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_swaps import Swaps
from compo_mech.interventions.swapped_rows import end_rows, input_rows
from compo_mech.model import blocks
from compo_mech.model.params import Model

MAX_HEADS = 10
"""They have 1024 sets."""
N_ROWS = 1024

ENOUGH = 0.9
"""A set brings a content if its value is at least this."""
LITTLE = 0.1
"""A set brings nothing of it if its value is at most this."""


@dataclass(frozen=True)
class HeadSets:
    """The value of every set of heads.

    Attributes:
        content: that they bring: `x`, x_t; `end`, the position of [EoI].
        heads: of which there are sets.
        values: of all sets; a set's number has a bit for each of the heads, the first head's being the lowest.

    >>> one, two, three = (Writer("head", 1, i) for i in range(3))
    >>> majority = HeadSets("x", (one, two, three), (0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0))  # any two
    >>> [round(share, 3) for share in majority.shares.values()]
    [0.333, 0.333, 0.333]
    >>> len(majority.smallest_enough()), len(majority.smallest_blocking())
    (2, 2)
    """

    content: str
    heads: tuple[Writer, ...]
    values: tuple[float, ...]

    def value(self, heads: Iterable[Writer]) -> float:
        """Return the value of one set."""
        return self.values[self._number(heads)]

    @property
    def whole(self) -> float:
        """The value of all heads together."""
        return self.values[-1]

    @property
    def shares(self) -> dict[Writer, float]:
        """Each head's share of the value of all."""
        n = len(self.heads)
        weight = [1 / (n * math.comb(n - 1, size)) for size in range(n)]
        return {
            head: sum(
                weight[number.bit_count()] * (self.values[number | 1 << i] - value)
                for number, value in enumerate(self.values)
                if not number & 1 << i
            )
            for i, head in enumerate(self.heads)
        }

    def smallest_enough(self, level: float = ENOUGH) -> tuple[Writer, ...] | None:
        """Return the fewest heads that have at least this value together; of several such sets that with the highest.

        None: not even all have.
        """
        found = [(len(heads), -value, heads) for heads, value in self._sets() if value >= level]
        return min(found, key=lambda of: of[:2])[2] if found else None

    def smallest_blocking(self, level: float = LITTLE) -> tuple[Writer, ...]:
        """Return the fewest heads that, left as they are, keep the value of all others at this or less.

        Of several such sets that which leaves least.
        """
        found = [(len(heads), self.value(set(self.heads) - set(heads)), heads) for heads, _ in self._sets()]
        return min((of for of in found if of[1] <= level), key=lambda of: of[:2])[2]  # all heads are such a set

    def _sets(self) -> Iterable[tuple[tuple[Writer, ...], float]]:
        for number, value in enumerate(self.values):
            yield tuple(head for i, head in enumerate(self.heads) if number & 1 << i), value

    def _number(self, heads: Iterable[Writer]) -> int:
        return sum(1 << self.heads.index(head) for head in set(heads))


@torch.no_grad()
def head_sets(
    model: Model,
    data: DataConfig,
    task: Task,
    content: Literal["x", "end"],
    generator: torch.Generator,
    heads: Sequence[Writer] | None = None,
    n_rows: int = N_ROWS,
) -> HeadSets | None:
    """Swap every set of heads, and return how far the answers go with a content.

    None: the network is right about too few rows for anything to be said, or no rows ask about that content.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        content: that heads bring.
        generator: draws the rows.
        heads: of which there are sets; None: all for `x`; for `end` those of all layers but the last, whose heads bring
            what is found there.
        n_rows: rows.

    Raises:
        ValueError: attention goes both ways; no layer comes before the last, for `end`; or heads are not different ones
            of the network, 1 to `MAX_HEADS`.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=5)
    >>> found = head_sets(built.model, built.data, Parity(), "x", torch.Generator().manual_seed(0), n_rows=256)
    >>> {str(head): share for head, share in found.shares.items()}
    {'L0H0': 0.0, 'L0H1': 0.0, 'L1H0': 1.0, 'L1H1': 0.0}
    """
    blocks.check_causal(model)
    chosen = _chosen(model, content, heads)
    rows = (input_rows if content == "x" else end_rows)(data, task, n_rows, generator)
    if rows is None or content not in rows.answers:
        return None
    swaps = Swaps(model, rows)
    values = [0.0]
    for number in range(1, 1 << len(chosen)):
        logits = swaps.swapped(*(head for i, head in enumerate(chosen) if number & 1 << i))
        followed = swaps.followed(logits, {content})
        if content not in followed:
            return None
        values.append(followed[content].carried.mean)
    return HeadSets(content, chosen, tuple(values))


def _chosen(model: Model, content: Literal["x", "end"], heads: Sequence[Writer] | None) -> tuple[Writer, ...]:
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    known = [Writer("head", *at) for at in itertools.product(range(n_layers), range(n_heads))]
    if heads is None and content == "end":
        if n_layers == 1:
            raise ValueError("n_layers = 1: must be 2 or more to ask which heads before the last layer bring [EoI]")
        heads = known[:-n_heads]
    chosen = tuple(known if heads is None else heads)
    for head in chosen:
        if head not in known:
            raise ValueError(f"heads = {head}: must be among {known[0]} to {known[-1]}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"heads = {' '.join(map(str, chosen))}: must be different ones")
    if not 0 < len(chosen) <= MAX_HEADS:
        raise ValueError(f"heads = {len(chosen)}: must be 1 to {MAX_HEADS}, as every set of them is swapped")
    return chosen
