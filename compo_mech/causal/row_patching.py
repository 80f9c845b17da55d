"""What one row of each string holds, and what the network answers when it holds something else."""

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.causal.rows import Rows
from compo_mech.interventions.traces import RowTrace, attn_out_of, logits_of, mlp_out_of, project_qkv, row_trace
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, check_site

ROW_KINDS = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "q", "z")
"""Kinds of sites that one row has to itself. `Site("q", layer)`, without a head, is all heads' queries together."""

HEAD_ROW_KINDS = ("q", "z")
"""Those of them that belong to a head."""


def value_at(found: RowTrace, site: Site) -> Float[Tensor, "row dim"]:
    """What a site holds at each string's row."""
    values = getattr(found, site.kind)[site.layer]
    return values.flatten(1) if site.head is None else values[:, site.head]


def check_row_site(site: Site, config: ModelConfig) -> None:
    """Refuse what is no site of a row.

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

    Only that row is computed anew: no row before it sees it, and rows after it do not matter.
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

    def own(kind: str) -> Tensor:
        return getattr(found, kind)[layer]

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
            query = value.unflatten(1, (model.config.n_heads, -1))
            z = _attended(model, found, layer, query, heat, None)
            mid = own("resid_pre") + attn_out_of(model, layer, z[:, :, None])[:, 0]
        else:
            z = value if site.kind == "z" else _attended(model, found, layer, value[:, None], heat, site.head)[:, 0]
            change = z - found.z[layer][:, site.head]
            mid = own("resid_mid") + change @ model.params[f"blocks.{layer}.attn.W_O"][site.head]
        stream = mid + mlp_out_of(model, layer, mid)
    for later in range(layer + 1, model.config.n_layers):
        q, k, v = (x[:, :, 0] for x in project_qkv(model, later, stream[:, None]))
        z = _attended(model, found, later, q, heat, None, (k, v))
        mid = stream + attn_out_of(model, later, z[:, :, None])[:, 0]
        stream = mid + mlp_out_of(model, later, mid)
    return logits_of(model, stream)


def _attended(
    model: Model,
    found: RowTrace,
    layer: int,
    query: Float[Tensor, "row head d_head"],
    heat: float,
    head: int | None,
    own: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "row head d_head"]:
    """What heads fetch for one row of each string, its own key and value being `own` where they are new."""
    chosen = slice(None) if head is None else slice(head, head + 1)
    place, k, v = found.place, found.k[layer][:, chosen], found.v[layer][:, chosen]
    scores = (k @ query[..., None])[..., 0]
    here = torch.arange(k.shape[2], device=place.device) == place[:, None]
    after = torch.arange(k.shape[2], device=place.device) > place[:, None]
    if own is not None:
        scores = torch.where(here[:, None], (query * own[0]).sum(-1, keepdim=True), scores)
    scores = (scores / (heat * model.config.head_width**0.5)).masked_fill(after[:, None], -torch.inf)
    pattern = scores.softmax(-1)
    z = (pattern[:, :, None] @ v)[:, :, 0]
    if own is not None:
        weight = (pattern * here[:, None]).sum(-1, keepdim=True)
        at_row = v.gather(2, place[:, None, None, None].expand(-1, v.shape[1], 1, v.shape[3]))[:, :, 0]
        z = z + weight * (own[1] - at_row)
    return z


def swapped(
    base: Float[Tensor, "row dim"], source: Float[Tensor, "row dim"], subspace: Float[Tensor, "dim k"] | None
) -> Float[Tensor, "row dim"]:
    """The base's value with the source's part in a subspace (an orthonormal basis); None: the source's value."""
    if subspace is None:
        return source
    return base + (source - base) @ subspace @ subspace.mT


Traces = tuple[RowTrace, RowTrace]


def trace_rows(model: Model, rows: Rows) -> RowTrace:
    """Their trace."""
    return row_trace(model, rows.tokens, rows.positions, rows.place)
