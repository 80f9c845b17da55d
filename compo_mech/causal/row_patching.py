"""Activations at one row of each string, and the network's answer when one of them is patched."""

from jaxtyping import Float
from torch import Tensor

from compo_mech.causal.rows import Rows
from compo_mech.interventions.row_layers import attended, finished, split_heads
from compo_mech.interventions.row_traces import RowTrace, row_trace
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
            z = attended(model, found, layer, split_heads(model, value), heat)
            mid = own("resid_pre") + blocks.attn_out(model, layer, z.flatten(1))
        else:
            z = value if site.kind == "z" else attended(model, found, layer, value[:, None], heat, site.head)[:, 0]
            change = z - found.z[layer][:, site.head]
            mid = own("resid_mid") + blocks.head_result(model, layer, site.head, change)
        unchanged = model.config.parallel_attn_mlp  # such an MLP does not see attention
        stream = mid + (own("mlp_out") if unchanged else blocks.mlp_out_in_parts(model, layer, mid))
    return finished(model, found, layer + 1, stream, heat)


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
