"""Edge scores the obvious way: a HookedTransformer with an input of its own for each reader, one run an edge.

The slow twins that `circuits.scorers` is tested against, for every architecture.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.edges import Edge, Reader, Writer, all_readers
from compo_mech.interventions.metrics import Metric
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model

if TYPE_CHECKING:
    from transformer_lens import ActivationCache, HookedTransformer


def split_inputs(model: Model) -> "HookedTransformer":
    """Build the HookedTransformer in which each reader has its own input, and each head its own output."""
    hooked = to_hooked(model)
    hooked.set_use_split_qkv_input(True)
    hooked.set_use_attn_result(True)
    if not model.config.attn_only:
        hooked.set_use_hook_mlp_in(True)
    return hooked


def input_hook(reader: Reader, n_layers: int) -> str:
    """Name the hook point that holds what a reader sees."""
    match reader.kind:
        case "logits":
            return f"blocks.{n_layers - 1}.hook_resid_post"
        case "mlp":
            return f"blocks.{reader.layer}.hook_mlp_in"
        case kind:
            return f"blocks.{reader.layer}.hook_{kind}_input"


def written(cache: "ActivationCache", writer: Writer) -> Float[Tensor, "batch pos d_model"]:
    """Look up what a writer puts out, without its layer's bias."""
    match writer.kind:
        case "tok":
            return cache["hook_embed"]
        case "pos":
            return cache["hook_pos_embed"]
        case "head":
            return cache[f"blocks.{writer.layer}.attn.hook_result"][:, :, writer.head]
        case _:
            return cache[f"blocks.{writer.layer}.hook_mlp_out"]


def adding(reader: Reader, change: Float[Tensor, "batch pos d_model"]) -> Callable[..., Tensor]:
    """Make a hook that adds to what a reader sees: to its head's, where the heads' inputs stand side by side."""

    def add(value: Tensor, hook: object) -> Tensor:
        if reader.head is None:
            return value + change
        heads = torch.nn.functional.one_hot(torch.tensor(reader.head), value.shape[2]).to(value)
        return value + change[:, :, None] * heads[:, None]

    return add


@torch.no_grad()
def loop_exact(model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric) -> Float[Tensor, "edge"]:
    """Score each edge by a run in which its reader alone sees what its writer puts out on the corrupt input."""
    hooked = split_inputs(model)
    logits, clean = hooked.run_with_cache(pairs.clean_tokens)
    _, corrupt = hooked.run_with_cache(pairs.corrupt_tokens)
    scored = torch.as_tensor(logits)[pairs.row, pairs.position]
    found = []
    for edge in edges:
        change = written(corrupt, edge.writer) - written(clean, edge.writer)
        hook = (input_hook(edge.reader, model.config.n_layers), adding(edge.reader, change))
        patched = hooked.run_with_hooks(pairs.clean_tokens, fwd_hooks=[hook])[pairs.row, pairs.position]
        found.append(metric(patched, scored, pairs) - metric(scored, scored, pairs))
    return torch.stack(found)


def loop_eap(model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric) -> Float[Tensor, "edge"]:
    """Score each edge by the gradient of the metric with respect to its reader's input."""
    hooked, readers = split_inputs(model), all_readers(model.config)
    with torch.no_grad():
        _, clean = hooked.run_with_cache(pairs.clean_tokens)
        _, corrupt = hooked.run_with_cache(pairs.corrupt_tokens)
    shape = clean["hook_embed"].shape
    nudges = {r: torch.zeros(shape, dtype=clean["hook_embed"].dtype, requires_grad=True) for r in readers}
    hooks: list = [(input_hook(reader, model.config.n_layers), adding(reader, nudges[reader])) for reader in readers]
    logits = hooked.run_with_hooks(pairs.clean_tokens, fwd_hooks=hooks)[pairs.row, pairs.position]
    gradients = dict(
        zip(readers, torch.autograd.grad(metric(logits, logits, pairs), list(nudges.values())), strict=True)
    )
    return torch.stack(
        [(gradients[e.reader] * (written(corrupt, e.writer) - written(clean, e.writer))).sum() for e in edges]
    )
