"""Activations at one row of each string, and the network's answer when one of them is patched."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from compo_mech.causal.rows import Rows
from compo_mech.interventions.traces import RowTrace, row_trace
from compo_mech.model import blocks
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import check_finite, check_weights
from compo_mech.model.params import Model
from compo_mech.model.sites import Kind, Site, check_site

ROW_KINDS = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "q", "z")
"""Kinds of sites that belong to one row. `Site("q", layer)`, without a head, is all heads' queries together."""

HEAD_ROW_KINDS = ("q", "z")
"""Those of them that belong to a head."""


def check_row_site(site: Site, config: ModelConfig) -> None:
    """Raise for a site that is not a row's.

    Raises:
        ValueError: the network has no such site, or it is not one row's own.
    """
    if site.kind not in ROW_KINDS:
        raise ValueError(f"site.kind = {site.kind!r}: must be one of {', '.join(ROW_KINDS)}")
    check_site(site._replace(head=0) if site == Site("q", site.layer) else site, config)


def continued(
    model: Model,
    found: RowTrace,
    site: Site,
    value: Float[Tensor, "row dim"],
    heat: float = 1.0,
) -> Float[Tensor, "row d_vocab"]:
    """Logits at each string's row when a site holds another value there.

    Only that row is recomputed: no earlier row sees it, and later rows do not matter.
    Gradients flow to `value`.

    Args:
        model: the network.
        found: its trace on the strings.
        site: one of `ROW_KINDS`.
        value: what it holds instead.
        heat: divides that row's attention scores; 1 is the network as it is.

    Raises:
        ValueError: the network has no such site, or it is not one row's own.
    """
    check_row_site(site, model.config)
    layer = site.layer

    def own(kind: Kind) -> Tensor:
        return found.at(Site(kind, site.layer))

    if site.kind == "resid_pre":
        stream, layer = value, layer - 1
    elif site.kind == "resid_post":
        stream = value
    elif site.kind == "mlp_out":
        stream = own("resid_mid") + value
    else:
        if site.kind == "resid_mid":
            mid = value
        elif site.kind == "attn_out":
            mid = own("resid_pre") + value
        elif site.head is None:
            z = _attended(model, found, layer, _split_heads(model, value), heat)
            mid = own("resid_pre") + blocks.attn_out(model, layer, z.flatten(1))
        else:
            z = value if site.kind == "z" else _attended(model, found, layer, value[:, None], heat, site.head)[:, 0]
            change = z - found.z[layer][:, site.head]
            mid = own("resid_mid") + blocks.head_result(model, layer, site.head, change)
        unchanged = model.config.parallel_attn_mlp  # such an MLP does not see attention
        stream = mid + (own("mlp_out") if unchanged else blocks.mlp_out_in_parts(model, layer, mid))
    for later in range(layer + 1, model.config.n_layers):
        projected = blocks.project(model, later, "QKV", blocks.attention_input(model, later, stream))
        q, k, v = (_split_heads(model, x) for x in projected)
        z = _attended(model, found, later, q, heat, own=(k, v))
        mid = stream + blocks.attn_out(model, later, z.flatten(1))
        stream = blocks.resid_post(model, later, stream, mid)
    return blocks.logits(model, stream)


def _split_heads(model: Model, x: Float[Tensor, "row width"]) -> Float[Tensor, "row head d_head"]:
    return rearrange(x, "row (head d_head) -> row head d_head", d_head=model.config.head_width)


def _attended(
    model: Model,
    found: RowTrace,
    layer: int,
    query: Float[Tensor, "row head d_head"],
    heat: float,
    head: int | None = None,
    own: tuple[Float[Tensor, "row kv_head d_head"], Float[Tensor, "row kv_head d_head"]] | None = None,
) -> Float[Tensor, "row head d_head"]:
    """What heads (None: all) fetch for one row of each string, its own key and value being `own` where they are new."""
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


def swapped(
    base: Float[Tensor, "row dim"], source: Float[Tensor, "row dim"], subspace: Float[Tensor, "dim k"] | None
) -> Float[Tensor, "row dim"]:
    """The base's value with the source's component in a subspace (an orthonormal basis); None: the source's value."""
    if subspace is None:
        return source
    return base + (source - base) @ subspace @ subspace.mT


Traces = tuple[RowTrace, RowTrace]


def trace_rows(model: Model, rows: Rows) -> RowTrace:
    """Their trace.

    Raises:
        ValueError: a weight or a logit is not finite.
    """
    check_weights(model)
    found = row_trace(model, rows.tokens, rows.position_ids, rows.position)
    check_finite("logits", found.logits)
    return found
