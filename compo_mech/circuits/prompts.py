"""The pairs that edges and circuits are asked about."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
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


def circuit_switch(data: DataConfig, shifts: Shifts) -> Switch:
    """What moves as many writers as can be moved by what the network was trained on: other strings, of other lengths
    where more than one is drawn, with shifted position ids where they were shifted in training.

    >>> circuit_switch(DataConfig(max_length=3), Shifts(0))
    <Switch.TOKEN|LENGTH: 3>
    >>> circuit_switch(DataConfig(max_length=3, length_weights=(0, 0, 1)), Shifts(2))
    <Switch.TOKEN|SHIFT: 5>
    """
    switch = Switch.TOKEN
    if len(data.drawn_lengths) > 1:
        switch |= Switch.LENGTH
    if shifts.largest:
        switch |= Switch.SHIFT
    return switch


def circuit_pairs(
    model: Model, data: DataConfig, n_pairs: int, generator: torch.Generator, task: Task, shifts: Shifts
) -> Pairs:
    """Pairs of what `circuit_switch` says, on the model's device.

    Args:
        model: the network.
        data: what it was trained on.
        n_pairs: clean and corrupt inputs.
        generator: source of the strings.
        task: one of the data's.
        shifts: of position ids, as in training (`RunConfig.shifts`) or as built; with larger ones, or other lengths,
            the corrupt run is of inputs that the network never learned to read.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> pairs = circuit_pairs(built.model, built.data, 4, torch.Generator().manual_seed(0), Parity(), built.shifts)
    >>> bool((pairs.corrupt_position_ids > pairs.clean_position_ids).all())
    True
    """
    pairs = make_pairs(data, circuit_switch(data, shifts), n_pairs, generator, shifts.largest, task)
    return replace(pairs, corrupt_kind="trained" if shifts.answered else pairs.corrupt_kind).to(model.device)


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
    whole = (
        "clean_tokens",
        "corrupt_tokens",
        "clean_position_ids",
        "corrupt_position_ids",
        "lengths",
        "corrupt_lengths",
    )
    scored = ("position", "target", "foil")
    return replace(
        pairs,
        row=taken,
        spans={name: where[rows] for name, where in pairs.spans.items()},
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
