"""Every attention measure of each head on strings of one length."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Layout
from compo_mech.evaluation import attention

SUMMARISED = (
    "entropy", "sparsity", "pointer_weight", "lookup", "lookup_sparsity", "lookup_distance", "iteration",
    "iteration_sparsity", "iteration_distance", "iteration_first", "iteration_middle", "iteration_last",
    "end_on_end_of_input", "end_pointer_weight", "lookup_together", "iteration_together",
)  # fmt: skip
"""Measures of a head, or of a layer's heads together, of which the mean over lengths is recorded as well."""

OFFSET_FLOOR = 0.01
"""Offsets that hold less of the weight than this are left out of the recorded profile."""


def layer_measures(
    patterns: Sequence[Float[Tensor, "batch _ query key"]], layout: Layout, length: int, lean: bool = False
) -> Iterator[tuple[int, int | None, str, float]]:
    """(layer, head, measure, value) of every measure of each head, and of each layer's heads together (head None).

    Args:
        patterns: attention of each layer at the scored rows of strings of one length.
        layout, length: of the strings.
        lean: compute only measures that are `SUMMARISED`.
    """
    every = torch.cat(list(patterns), 1)
    found = {name: x.tolist() for name, x in head_measures(every, layout, length, lean).items()}
    weights = {
        f"{name}_together": attention.edge_weights(every, rows, keys)
        for name, (rows, keys) in edges_of_roles(layout, length).items()
    }
    end = 0
    for layer, pattern in enumerate(patterns):
        start, end = end, end + pattern.shape[1]
        for name, values in found.items():
            own = values[start:end]
            if not name.startswith("offset_") or max(own) >= OFFSET_FLOOR:
                yield from ((layer, head, name, value) for head, value in enumerate(own))
        for name, of_edges in weights.items():
            yield layer, None, name, float(attention.together(of_edges[:, start:end]))


def edges_of_roles(layout: Layout, length: int) -> dict[str, tuple[list[int], list[int]]]:
    """(rows, keys) of each role (lookup, iteration) that strings of this length have; rows count from the first scored
    one."""
    first = layout.scored(length)[0]
    edges = {"lookup": layout.lookup_edges(length), "iteration": layout.iteration_edges(length)}
    return {name: ([query - first for query in queries], keys) for name, (queries, keys) in edges.items() if queries}


def head_measures(
    pattern: Float[Tensor, "batch head query key"],
    layout: Layout,
    length: int,
    lean: bool = False,
) -> dict[str, Float[Tensor, "head"]]:
    """Every measure of each head, or the `SUMMARISED` ones, on strings of one length, from attention at the scored
    rows."""
    scored, works = layout.scored(length), edges_of_roles(layout, length)
    squares = attention.concentration(pattern)
    found: dict[str, Tensor] = {"entropy": attention.entropy(pattern), "sparsity": attention.sparsity(squares, scored)}
    n_states = layout.n_states(length)
    predicting = pattern[:, :, :n_states]  # the rows that predict a state, not [EoS]
    for name, (rows, keys) in works.items():
        weights = attention.edge_weights(pattern, rows, keys)
        found[name] = attention.score(weights)
        found[f"{name}_sparsity"] = attention.sparsity(squares[:, :, rows], [scored[row] for row in rows])
        found[f"{name}_distance"] = attention.distance(squares[:, :, rows], weights)
        if not lean:
            found[f"{name}_above_half"] = attention.peakiness(weights)
            found[f"{name}_invariance"] = attention.invariance(weights)
    found |= _odd_spots(pattern, layout, length)
    if lean:
        return found | {"pointer_weight": predicting.amax(-1).mean((0, 2))}
    pointer = attention.pointer(predicting)
    found["pointer_weight"] = pointer.weight.mean(-1)
    found["pointer_agreement"] = pointer.agreement.mean(-1)
    found["pointer_sharp_rows"] = pointer.sharp.float().mean(-1)
    if "iteration" in works:
        profile = attention.offset_profile(predicting, *works["iteration"])
        found |= {f"offset_{offset:+d}": weight for offset, weight in profile.items()}
    return found


def _odd_spots(
    pattern: Float[Tensor, "batch head query key"], layout: Layout, length: int
) -> dict[str, Float[Tensor, "head"]]:
    """Attention at the special rows: the first and the last that predict a state, and the one that predicts [EoS].

    `iteration_first` and `iteration_last` are weights on x_1 and x_L, `iteration_middle` the mean over the rows between
    them; `end_on_end_of_input` is the weight of the row that predicts [EoS] on [EoI], `end_pointer_weight` that on its
    strongest key.
    """
    ending = pattern[:, :, -1]  # [batch, head, key]
    found = {
        "end_on_end_of_input": ending[..., layout.end_of_input(length)].mean(0),
        "end_pointer_weight": ending.amax(-1).mean(0),
    }
    edges = edges_of_roles(layout, length).get("iteration")
    if edges is not None:
        weights = attention.edge_weights(pattern, *edges).mean(0)  # [head, edge]
        found |= {"iteration_first": weights[:, 0], "iteration_last": weights[:, -1]}
        if length > 2:
            found["iteration_middle"] = weights[:, 1:-1].mean(1)
    return found
