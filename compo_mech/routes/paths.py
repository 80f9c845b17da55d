"""Routes of two hops from one token to a later row, and what each carries alone or several together.

The textbook route of x_t: it stays at its position in layer 0, and the iteration head of layer 1 reads it there by key
and value, `Route(None, position of x_t, "key", 0)`. `route_map` patches all routes of a network.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.traces import Trace
from compo_mech.model import blocks
from compo_mech.model.params import Model
from compo_mech.routes.swaps import Swap

Second = Literal["key", "query", "residual"]

Way = tuple[int, Second]
"""A carrier, and how layer 1 reads it there."""


class Route(NamedTuple):
    """A way by which a changed token can reach the row that predicts a state: one hop in each of two layers.

    Attributes:
        first: the layer-0 head that carries the change to a later position; None: it stays at the token's own.
        carrier: position that holds the change after layer 0.
        second: how layer 1 reads it there.
        head: the layer-1 head; None for `residual`.
    """

    first: int | None
    carrier: int
    second: Second
    head: int | None

    @property
    def hops(self) -> tuple[str, str]:
        """Names such as `stays` or `L0H1`, and `L1H0`, `L1H0.q` or `residual`."""
        second = {"key": f"L1H{self.head}", "query": f"L1H{self.head}.q", "residual": "residual"}
        return "stays" if self.first is None else f"L0H{self.first}", second[self.second]


def routes_of(swap: Swap, n_heads: int) -> list[Route]:
    """Every route of a swap: by keys and queries of each layer-1 head, then straight on."""
    hops = _first_hops(swap, n_heads)
    at_row = [hop for hop in hops if hop[1] == swap.row]
    routes = []
    for head in range(n_heads):
        routes += [Route(*hop, "key", head) for hop in hops]
        routes += [Route(*hop, "query", head) for hop in at_row]
    return routes + [Route(*hop, "residual", None) for hop in at_row]


def _first_hops(swap: Swap, n_heads: int) -> list[tuple[int | None, int]]:
    """Every (head, carrier), staying first."""
    carriers = range(swap.source + 1, swap.row + 1)
    return [(None, swap.source), *((head, carrier) for head in range(n_heads) for carrier in carriers)]


@torch.no_grad()
def patch_routes(model: Model, swap: Swap, clean: Trace, corrupt: Trace) -> Float[Tensor, "route batch"]:
    """The margin when one route alone carries the corrupt run's value, for each of `routes_of`."""
    row, hops = swap.row, _first_hops(swap, model.config.n_heads)
    carried = _after_first_hop(model, swap, clean, corrupt)
    at_row = [i for i, (_, carrier) in enumerate(hops) if carrier == row]
    carriers = torch.tensor([carrier for _, carrier in hops], device=carried.device)
    q, k, v = blocks.qkv(model, 1, carried)  # [batch, head, hop, d_head]
    asked, at = clean.q[1][:, :, row, None], torch.tensor([row], device=carried.device)
    k, v, keys, values = (
        blocks.by_query_head(model, x) for x in (k, v, clean.k[1][:, :, : row + 1], clean.v[1][:, :, : row + 1])
    )
    is_carrier = carriers[:, None] == torch.arange(row + 1, device=carried.device)  # [hop, key]
    by_pair = blocks.paired_scores(model, 1, asked, k, row - carriers)
    scores = torch.where(is_carrier, by_pair, blocks.scores(model, 1, asked, keys, at))
    pattern = blocks.pattern(scores, None)
    by_key = pattern @ values + (pattern * is_carrier).sum(-1, keepdim=True) * (v - values[:, :, carriers])
    by_query = blocks.pattern(blocks.scores(model, 1, q[:, :, at_row], keys, at), None) @ values
    change = torch.cat([by_key, by_query], 2) - clean.z[1][:, :, row, None]
    written = rearrange(blocks.result(model, 1, change), "batch head hop d_model -> batch (head hop) d_model")
    straight = carried[:, at_row] - clean.resid_post[0][:, row, None]
    mid = clean.resid_mid[1][:, row, None] + torch.cat([written, straight], 1)
    pre = clean.resid_post[0][:, row, None] + torch.cat([torch.zeros_like(written), straight], 1)
    return swap.margin(blocks.logits(model, blocks.resid_post(model, 1, pre, mid)).transpose(0, 1))


def _after_first_hop(model: Model, swap: Swap, clean: Trace, corrupt: Trace) -> Float[Tensor, "batch hop d_model"]:
    """The stream at the carrier after layer 0, for each of `_first_hops`."""
    carriers = slice(swap.source + 1, swap.row + 1)
    change = corrupt.z[0][:, :, carriers] - clean.z[0][:, :, carriers]
    mid = clean.resid_mid[0][:, None, carriers] + blocks.result(model, 0, change)
    pre = clean.resid_pre[0][:, None, carriers].expand_as(mid)
    pre, mid = (rearrange(x, "batch head carrier d_model -> batch (head carrier) d_model") for x in (pre, mid))
    stays = corrupt.resid_post[0][:, swap.source, None]
    return torch.cat([stays, blocks.resid_post(model, 0, pre, mid)], 1)


@torch.no_grad()
def patch_together(
    model: Model, swap: Swap, clean: Trace, corrupt: Trace, bundles: Sequence[Sequence[Route]]
) -> Float[Tensor, "bundle batch"]:
    """The margin when all heads read the corrupt run's stream at the carriers of a bundle by its routes."""
    rows = [swap.row]
    old, new = (Reads.of(run, rows) for run in (clean, corrupt))
    ways: list[set[Way]] = [{(route.carrier, route.second) for route in routes} for routes in bundles]
    return swap.margin(patched_reads(model, rows, old, new, [ways])[:, 0])


class Reads(NamedTuple):
    """What layer 1 reads of strings in which one token is changed, for several such changes (swaps).

    Attributes:
        stream, q: the stream before layer 1 and the queries, at the row of each swap.
        k, v: at every position.
    """

    stream: Float[Tensor, "swap batch d_model"]
    q: Float[Tensor, "swap batch head d_head"]
    k: Float[Tensor, "#swap batch kv_head pos d_head"]
    v: Float[Tensor, "#swap batch kv_head pos d_head"]

    @classmethod
    def of(cls, run: Trace, rows: Sequence[int]) -> "Reads":
        """Those of one run, at several rows."""
        at = torch.tensor(rows, device=run.logits.device)
        stream = run.resid_post[0].index_select(1, at).transpose(0, 1)
        q = run.q[1].index_select(2, at).permute(2, 0, 1, 3)
        return cls(stream, q, run.k[1][None], run.v[1][None])


@torch.no_grad()
def patched_reads(
    model: Model,
    rows: Sequence[int],
    clean: Reads,
    corrupt: Reads,
    bundles: Sequence[Sequence[set[Way]]],
) -> Float[Tensor, "bundle swap batch d_vocab"]:
    """Logits at each swap's row when all heads read the corrupt run in the ways of a bundle, and the clean one else.

    Args:
        model: of two layers.
        rows: of the swaps.
        clean, corrupt: what layer 1 reads of either.
        bundles: as many of each swap.
    """
    n_pos, device = max(rows) + 1, clean.stream.device
    by_key = torch.tensor(
        [[[(key, "key") in own for key in range(n_pos)] for own in of_swap] for of_swap in bundles], device=device
    )[:, None, None]  # [swap, batch, head, bundle, key]
    asks, stays = (
        torch.tensor(
            [[(row, second) in own for own in of_swap] for row, of_swap in zip(rows, bundles, strict=True)],
            device=device,
        )
        for second in ("query", "residual")
    )  # [swap, bundle]
    (k, v), (new_k, new_v) = (
        [blocks.by_query_head(model, x[..., :n_pos, :].flatten(0, 1)).unflatten(0, x.shape[:2]) for x in run[2:]]
        for run in (clean, corrupt)
    )
    q = torch.stack([clean.q, corrupt.q], 3)  # [swap, batch, head, run, d_head]
    at = torch.tensor(rows, device=device)[:, None, None, None]
    old, new = (blocks.scores(model, 1, q, x, at) for x in (k, new_k))
    asked = asks.long()[:, None, None, :, None].expand(*old.shape[:3], -1, n_pos)
    chosen = torch.where(by_key, new.gather(3, asked), old.gather(3, asked))
    pattern = blocks.pattern(chosen, blocks.causal(at, n_pos))
    z = (pattern * ~by_key) @ v + (pattern * by_key) @ new_v
    stream = torch.where(stays[:, None, :, None], corrupt.stream[:, :, None], clean.stream[:, :, None])
    mid = stream + blocks.attn_out(model, 1, z.transpose(2, 3).flatten(3))
    return blocks.logits(model, blocks.resid_post(model, 1, stream, mid)).permute(2, 0, 1, 3)
