"""Activation patching and ablation, recomputing only what a patch can change.

A patch puts the corrupt run's value at some site and some positions into the clean run. What lies upstream, and at
earlier positions, is unchanged; in the last layer only scored rows matter. So a patch costs the rows downstream of it,
not a forward pass. `patched_logits` equals the obvious loop with hooks on a HookedTransformer.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data.layout import Span
from compo_mech.interventions.edges import Reader, heads_reading
from compo_mech.interventions.metrics import Metric
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.traces import Trace, both_traces
from compo_mech.model import blocks
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Model
from compo_mech.model.sites import Kind, Site, check_site, heads_of_kind


@torch.no_grad()
def patched_logits(
    model: Model, clean: Trace, corrupt: Trace, site: Site, where: Bool[Tensor, "batch pos"], pairs: Pairs
) -> Float[Tensor, "scored d_vocab"]:
    """Logits at the scored positions when the clean run carries the corrupt value at one site.

    Args:
        model: the network.
        clean, corrupt: traces of the two inputs.
        site: what is patched. For `q`, `z`, `pattern` and `result` positions are those of the query, for `k` and `v`
            those of the key.
        where: the positions of each string that are patched.
        pairs: what is scored.

    Raises:
        ValueError: there is no such site, `where` is not of the pairs' shape, or rows depend on later ones.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> model, pairs = built.model, make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> clean, corrupt = both_traces(model, pairs)
    >>> everywhere = patched_logits(model, clean, corrupt, Site("resid_pre", 0), pairs.read, pairs)
    >>> torch.equal(everywhere.argmax(-1), pairs.foil)  # patch everything = corrupt
    True
    """
    check_site(site, model.config)
    blocks.check_causal(model)
    if where.shape != pairs.clean_tokens.shape:
        raise ValueError(f"where = {tuple(where.shape)}: must be {tuple(pairs.clean_tokens.shape)}, one entry a token")
    scored = clean.logits[pairs.row, pairs.position]
    needed = pairs.position.unique()
    touched = where.any(0).nonzero()[:, 0]
    touched = touched[touched <= needed[-1]]  # no row sees a later one
    if not len(touched):
        return scored
    layer, last = site.layer, model.config.n_layers - 1
    if layer == last and site.kind not in ("resid_pre", "k", "v"):  # no other row will see it
        touched = touched[torch.isin(touched, needed)]
        if not len(touched):
            return scored
    rows, stream = _enter(model, clean, corrupt, site, where, touched, needed if layer == last else None)
    for later in range(layer if site.kind == "resid_pre" else layer + 1, last + 1):
        rows, stream = _layer(model, clean, later, rows, stream, needed if later == last else None)
    logits = _replaced(scored, pairs, rows, blocks.logits(model, stream), where.shape[1])
    check_finite(f"logits with {site} patched", logits)
    return logits


def _enter(
    model: Model,
    clean: Trace,
    corrupt: Trace,
    site: Site,
    where: Tensor,
    touched: Tensor,
    needed: Tensor | None,
) -> tuple[Int[Tensor, "row"], Float[Tensor, "batch row d_model"]]:
    """The rows that the patch changes and the stream there, before the layer (`resid_pre`) or after it."""
    layer, head, kind = site.layer, site.head, site.kind
    chosen = where[:, touched, None]

    def mixed(name: Kind) -> Tensor:
        at = Site(name, layer)
        return torch.where(chosen, corrupt.at(at)[:, touched], clean.at(at)[:, touched])

    if kind in ("resid_pre", "resid_post"):
        return touched, mixed(kind)
    if kind == "mlp_out":
        return touched, clean.resid_mid[layer][:, touched] + mixed(kind)
    pre = clean.resid_pre[layer]
    if kind == "resid_mid":
        return touched, _after_mlp(model, clean, layer, touched, mixed(kind))
    if kind == "attn_out":
        return touched, _after_mlp(model, clean, layer, touched, pre[:, touched] + mixed(kind))
    rows = touched
    if kind in ("k", "v"):  # seen by every later row
        rows = torch.arange(int(touched[0]), where.shape[1], device=where.device)
        rows = rows if needed is None else rows[torch.isin(rows, needed)]
    assert head is not None
    mid = clean.resid_mid[layer][:, rows]
    for one in heads_reading(Reader(kind, layer, head), model.config) if kind in ("k", "v") else [head]:
        z = _z_of_head(model, clean, corrupt, site, one, where, rows)
        mid = mid + blocks.head_result(model, layer, one, z - clean.z[layer][:, one, rows])
    return rows, _after_mlp(model, clean, layer, rows, mid)


def _after_mlp(model: Model, clean: Trace, layer: int, rows: Tensor, mid: Tensor) -> Float[Tensor, "batch row d_model"]:
    """The stream after a layer whose attention alone was changed, which a parallel MLP does not see."""
    if model.config.parallel_attn_mlp:
        return mid + clean.mlp_out[layer][:, rows]
    return mid + blocks.mlp_out_in_parts(model, layer, mid)


def _z_of_head(
    model: Model, clean: Trace, corrupt: Trace, site: Site, head: int, where: Tensor, rows: Tensor
) -> Float[Tensor, "batch row d_head"]:
    """What one head fetches at these rows when a site that it depends on is patched."""
    layer, kind, kv_head = site.layer, site.kind, head // model.config.n_sharing
    chosen = where[:, rows, None]
    if kind in ("z", "result"):
        return torch.where(chosen, corrupt.z[layer][:, head, rows], clean.z[layer][:, head, rows])
    own = {"q": clean.q[layer][:, head], "k": clean.k[layer][:, kv_head], "v": clean.v[layer][:, kv_head]}
    if kind == "pattern":
        pattern = torch.where(chosen, corrupt.pattern[layer][:, head, rows], clean.pattern[layer][:, head, rows])
        return pattern @ own["v"]
    own[kind] = torch.where(where[..., None], corrupt.at(site), own[kind])
    return _pattern(model, layer, own["q"][:, rows], own["k"], rows) @ own["v"]


def _pattern(
    model: Model,
    layer: int,
    q: Float[Tensor, "*head row d_head"],
    k: Float[Tensor, "*head pos d_head"],
    rows: Int[Tensor, "row"],
) -> Float[Tensor, "*head row pos"]:
    return blocks.pattern(blocks.scores(model, layer, q, k, rows), blocks.causal(rows, k.shape[-2]))


def _layer(
    model: Model, clean: Trace, layer: int, rows: Tensor, stream: Tensor, needed: Tensor | None
) -> tuple[Int[Tensor, "row"], Float[Tensor, "batch row d_model"]]:
    """One layer on the rows that an upstream patch can reach, all others being as in the clean run."""
    n_pos = clean.resid_pre[layer].shape[1]
    reached = torch.arange(int(rows[0]), n_pos, device=rows.device)
    reached = reached if needed is None else reached[torch.isin(reached, needed)]
    q, k, v = (
        full.index_copy(2, rows, new)
        for full, new in zip(
            (clean.q[layer], clean.k[layer], clean.v[layer]), blocks.qkv(model, layer, stream), strict=True
        )
    )
    k, v = blocks.by_query_head(model, k), blocks.by_query_head(model, v)
    pre = clean.resid_pre[layer].index_copy(1, rows, stream)[:, reached]
    z = _pattern(model, layer, q[:, :, reached], k, reached) @ v
    mid = pre + blocks.attn_out(model, layer, blocks.merge_heads(z))
    return reached, blocks.resid_post(model, layer, pre, mid)


def _replaced(scored: Tensor, pairs: Pairs, rows: Tensor, logits: Tensor, n_pos: int) -> Tensor:
    """The scored logits with those at `rows` replaced by new ones [batch, row, d_vocab]."""
    row_at = torch.full((n_pos,), -1, device=rows.device)
    row_at[rows] = torch.arange(len(rows), device=rows.device)
    index = row_at[pairs.position]
    new = logits[pairs.row, index.clamp(min=0)]
    return torch.where((index >= 0)[:, None], new, scored)


def sweep(
    model: Model,
    pairs: Pairs,
    kind: Kind,
    metric: Metric,
    traces: tuple[Trace, Trace] | None = None,
    positions: Sequence[int | Span] | None = None,
) -> Float[Tensor, "layer head position"]:
    """The metric when one site is patched at one position, for every layer, head and position.

    Sites that belong to no head have one entry along the head's axis; `k` and `v` have those of keys and values.

    Args:
        model: the network.
        pairs: clean and corrupt inputs.
        kind: of the sites.
        metric: of the patched logits.
        traces: of both runs, if they are known.
        positions: single ones, or spans of the clean rows, such as the k-th state; None: every position.

    Raises:
        ValueError: there is no such site, or a position is out of range.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> from compo_mech.interventions.metrics import answered
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> sweep(built.model, pairs, "z", answered, positions=[Span("states")])[:, :, 0].tolist()  # L1H0 carries x_t
    [[1.0, 1.0], [0.5, 1.0]]
    """
    heads = heads_of_kind(kind, model.config)
    check_site(Site(kind, 0, heads[0]), model.config)
    clean, corrupt = traces or both_traces(model, pairs)
    base = clean.logits[pairs.row, pairs.position]
    n_pos = pairs.clean_tokens.shape[1]
    wheres = [_where(pairs, position) for position in (range(n_pos) if positions is None else positions)]
    found = []
    for layer, head, where in itertools.product(range(model.config.n_layers), heads, wheres):
        logits = patched_logits(model, clean, corrupt, Site(kind, layer, head), where, pairs)
        found.append(metric(logits, base, pairs))
        check_finite(f"metric with {Site(kind, layer, head)} patched", found[-1])
    return torch.stack(found).unflatten(0, (model.config.n_layers, len(heads), len(wheres)))


def _where(pairs: Pairs, position: int | Span) -> Bool[Tensor, "batch pos"]:
    if isinstance(position, Span):
        return pairs.where(position)
    n_pos = pairs.clean_tokens.shape[1]
    if not 0 <= position < n_pos:
        raise ValueError(f"position = {position}: must be 0 .. {n_pos - 1}")
    where = torch.zeros_like(pairs.clean_tokens, dtype=torch.bool)
    where[:, position] = True
    return where
