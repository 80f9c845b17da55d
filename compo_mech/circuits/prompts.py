"""The pairs that edges and circuits are asked about."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.model.params import Model

PAIRS = {
    Switch.TOKEN: "token, same length",
    Switch.TOKEN | Switch.SHIFT: "token, same length, shifted",
    Switch.TOKEN | Switch.LENGTH: "varied length",
    Switch.TOKEN | Switch.LENGTH | Switch.SHIFT: "varied length, shifted",
}
"""Names of what `circuit_switch` may choose, as on the method card."""


def circuit_switch(data: DataConfig, n_ctx: int) -> tuple[Switch, int]:
    """What moves as many writers as can be moved, and the largest shift: other strings, of other lengths where there
    are any, with shifted position ids where the model has room for them.

    >>> circuit_switch(DataConfig(max_length=3), n_ctx=8), circuit_switch(DataConfig(max_length=3), n_ctx=10)[1]
    ((<Switch.TOKEN|LENGTH: 3>, 0), 2)
    """
    max_shift = max(0, min(4, n_ctx - data.layout.n_read(data.max_length)))
    switch = Switch.TOKEN
    if len(data.lengths) > 1:
        switch |= Switch.LENGTH
    if max_shift:
        switch |= Switch.SHIFT
    return switch, max_shift


def circuit_pairs(model: Model, data: DataConfig, n_pairs: int, generator: torch.Generator, task: Task) -> Pairs:
    """Pairs of what `circuit_switch` says, on the model's device.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> pairs = circuit_pairs(built.model, built.data, 4, torch.Generator().manual_seed(0), Parity())
    >>> bool((pairs.corrupt_position_ids > pairs.clean_position_ids).all())
    True
    """
    switch, max_shift = circuit_switch(data, model.n_ctx)
    return make_pairs(data, switch, n_pairs, generator, max(1, max_shift), task).to(model.device)


def take_rows(pairs: Pairs, rows: Int[Tensor, "taken"]) -> Pairs:
    """The pairs in these rows, in this order; a row may be taken more than once.

    Raises:
        ValueError: nothing is scored in them.

    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> taken = take_rows(pairs, torch.tensor([3, 0, 3]))
    >>> taken.lengths.tolist() == pairs.lengths[[3, 0, 3]].tolist()
    True
    """
    rows = rows.to(pairs.row.device)
    taken, index = scored_positions(pairs, rows)
    whole = ("clean_tokens", "corrupt_tokens", "clean_position_ids", "corrupt_position_ids", "lengths", "corrupt_lengths")
    scored = ("position", "target", "foil")
    return replace(
        pairs,
        row=taken,
        **{name: getattr(pairs, name)[rows] for name in whole},
        **{name: getattr(pairs, name)[index] for name in scored},
    )


def scored_positions(
    pairs: Pairs, rows: Int[Tensor, "taken"]
) -> tuple[Int[Tensor, "scored_taken"], Int[Tensor, "scored_taken"]]:
    """For every scored position of the taken rows: the index of its row among the taken ones, and its own index among
    the scored positions of the pairs.

    >>> data = DataConfig(min_length=1, max_length=1)  # two scored positions a row
    >>> pairs = make_pairs(data, Switch.TOKEN, 3, torch.Generator().manual_seed(0))
    >>> [index.tolist() for index in scored_positions(pairs, torch.tensor([2]))]
    [[0, 0], [4, 5]]
    """
    taken, index = (pairs.row == rows.to(pairs.row.device)[:, None]).nonzero(as_tuple=True)
    return taken, index
