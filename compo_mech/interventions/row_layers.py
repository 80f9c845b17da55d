"""Layers of a network at one row of each string, when only that row changes.

No earlier row sees it, so that keys and values of all other rows stay what they were.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.edges import Writer
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model import blocks
from compo_mech.model.params import Model


def split_heads(model: Model, x: Float[Tensor, "row width"]) -> Float[Tensor, "row head d_head"]:
    """Lay out what heads have side by side along an axis of their own."""
    return rearrange(x, "row (head d_head) -> row head d_head", d_head=model.config.head_width)


def attended(
    model: Model,
    found: RowTrace,
    layer: int,
    query: Float[Tensor, "row head d_head"],
    heat: float = 1.0,
    head: int | None = None,
    own: tuple[Float[Tensor, "row kv_head d_head"], Float[Tensor, "row kv_head d_head"]] | None = None,
) -> Float[Tensor, "row head d_head"]:
    """What heads (None: all) fetch for one row of each string, its own key and value being `own` where they are new.

    `heat` divides the attention scores.
    """
    chosen = slice(None) if head is None else slice(head, head + 1)
    k, v = (blocks.by_query_head(model, each[layer])[:, chosen] for each in (found.k, found.v))
    position, n_pos = found.position, k.shape[2]
    scores = blocks.row_scores(model, layer, query, k, position[:, None], heat)
    here = torch.arange(n_pos, device=position.device) == position[:, None]
    if own is not None:
        own = blocks.by_query_head(model, own[0]), blocks.by_query_head(model, own[1])
        distance = torch.zeros_like(position)[:, None]
        scores = torch.where(here[:, None], blocks.paired_scores(model, layer, query, own[0], distance, heat), scores)
    pattern = blocks.pattern(scores, blocks.causal(position, n_pos)[:, None])
    z = (pattern[:, :, None] @ v)[:, :, 0]
    if own is not None:
        weight = (pattern * here[:, None]).sum(-1, keepdim=True)
        at_row = v.gather(2, position[:, None, None, None].expand(-1, v.shape[1], 1, v.shape[3]))[:, :, 0]
        z = z + weight * (own[1] - at_row)
    return z


def finished(
    model: Model,
    found: RowTrace,
    first: int,
    stream: Float[Tensor, "row d_model"],
    heat: float = 1.0,
    swapped: Mapping[Writer, Float[Tensor, "row d_head"]] | None = None,
) -> Float[Tensor, "row d_vocab"]:
    """Logits at each string's row, given its stream before the layer `first`.

    Args:
        model: the network.
        found: its trace on the strings.
        first: the first layer that is computed anew.
        stream: of the row before that layer.
        heat: divides the row's attention scores.
        swapped: z of heads that put out something else.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.interventions.row_traces import row_trace
    >>> model = build(Parity(), max_length=3).model
    >>> run = row_trace(model, torch.tensor([[5, 1, 2, 1]]), torch.arange(4)[None], torch.tensor([2]))
    >>> torch.allclose(finished(model, run, 0, run.resid_pre[0]), run.logits)
    True
    """
    for layer in range(first, model.config.n_layers):
        projected = blocks.project(model, layer, "QKV", blocks.attention_input(model, layer, stream))
        q, k, v = (split_heads(model, x) for x in projected)
        z = attended(model, found, layer, q, heat, own=(k, v))
        for head, value in (swapped or {}).items():
            if head.layer == layer:
                z[:, head.head] = value
        mid = stream + blocks.attn_out(model, layer, z.flatten(1))
        stream = blocks.resid_post(model, layer, stream, mid)
    return blocks.logits(model, stream)
