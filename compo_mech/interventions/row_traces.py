"""One row of each string: what it holds, and the keys and values that it sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.interventions.traces import qkv_of
from compo_mech.model import blocks
from compo_mech.model.entries import embedded_pairs, taken
from compo_mech.model.params import Model
from compo_mech.model.sites import Site

N_CUTS, N_AT_ONCE = 4, 64
"""Groups of rows at positions near each other, of which each is read no further than its last one: so many at least,
and no more rows in one."""
OF_ROWS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "q", "z")
"""What a `RowTrace` has of each layer at the row itself."""


class Joined:
    """Keys or values of all rows, a layer each, put together from those of groups of rows when they are asked for.

    Args:
        groups: of each group which rows it has, and what they have in each layer, up to the group's last position.
        rows: which of all rows these are.
        n_pos: positions in each; those that a group has not are 0.
    """

    def __init__(self, groups: Sequence[tuple[Int[Tensor, "_"], Sequence[Tensor]]], rows: range, n_pos: int) -> None:
        self._groups, self._rows, self._n_pos = groups, rows, n_pos
        self._known: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._groups[0][1])

    def __getitem__(self, layer: int) -> Tensor:
        layer = range(len(self))[layer]
        if layer not in self._known:
            _, kv_head, _, width = self._groups[0][1][layer].shape
            whole = self._groups[0][1][layer].new_zeros(len(self._rows), kv_head, self._n_pos, width)
            for index, values in self._groups:
                own = values[layer]
                if len(self._rows) < sum(len(each) for each, _ in self._groups):
                    here = ((index >= self._rows.start) & (index < self._rows.stop)).nonzero()[:, 0]
                    index, own = index[here] - self._rows.start, own[here]
                whole[index, :, : own.shape[2]] = own
            self._known[layer] = whole
        return self._known[layer]

    def of(self, rows: slice) -> "Joined":
        """Those of some of the rows."""
        return Joined(self._groups, self._rows[rows], self._n_pos)


@dataclass(frozen=True)
class RowTrace:
    """What one row of each string holds, and the keys and values that it sees, one entry a layer.

    Attributes:
        position: of the row in its string.
        resid_pre, resid_mid, resid_post, attn_out, mlp_out, q, z: of the row, as in `Trace`.
        k, v: of every position up to the row, [row, kv_head, pos, d_head]; those after it mean nothing.
        logits: at the row.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> run = row_trace(model, torch.tensor([[5, 1, 2, 1]]), torch.arange(4)[None], torch.tensor([2]))
    >>> run.at(Site("z", 1, 0)).shape == (1, model.config.d_head)
    True
    """

    position: Int[Tensor, "row"]
    resid_pre: list[Float[Tensor, "row d_model"]]
    resid_mid: list[Float[Tensor, "row d_model"]]
    resid_post: list[Float[Tensor, "row d_model"]]
    attn_out: list[Float[Tensor, "row d_model"]]
    mlp_out: list[Float[Tensor, "row d_model"]]
    q: list[Float[Tensor, "row head d_head"]]
    z: list[Float[Tensor, "row head d_head"]]
    k: Joined
    v: Joined
    logits: Float[Tensor, "row d_vocab"]

    def __getitem__(self, rows: slice) -> "RowTrace":
        """The trace of some of the strings."""
        own = {name: [value[rows] for value in getattr(self, name)] for name in OF_ROWS}
        return RowTrace(self.position[rows], **own, k=self.k.of(rows), v=self.v.of(rows), logits=self.logits[rows])

    def at(self, site: Site) -> Float[Tensor, "row dim"]:
        """What a site holds at each string's row: of its head, or, without one, of all heads side by side."""
        values = getattr(self, site.kind)[site.layer]
        return values.flatten(1) if site.head is None else values[:, site.head]


@torch.no_grad()
def row_trace(
    model: Model, tokens: Int[Tensor, "row pos"], position_ids: Int[Tensor, "row pos"], position: Int[Tensor, "row"]
) -> RowTrace:
    """Run the network as far as one row of each string needs it: nothing after the row, and in the last layer the row.

    Args:
        model: the network.
        tokens, position_ids: of whole strings.
        position: of each string's row.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> tokens = torch.tensor([[5, 1, 0, 1, 2, 1, 1, 0]]).expand(3, 8)  # [task] x1 x2 x3 [EoI] s1 s2 s3
    >>> run = row_trace(model, tokens, torch.arange(8).expand(3, 8), torch.tensor([6, 4, 5]))
    >>> run.logits.argmax(-1).tolist()  # s3 s1 s2
    [0, 1, 1]
    """
    blocks.check_causal(model)
    order, n_pos = position.argsort(), tokens.shape[1]
    chunks = order.split(max(1, min(N_AT_ONCE, -(-len(order) // N_CUTS))))
    groups: list[dict[str, list[Tensor]]] = []
    for index in chunks:
        n_read = int(position[index[-1]]) + 1
        groups.append(_rows_run(model, tokens[index, :n_read], position_ids[index, :n_read], position[index]))
    back = order.argsort()
    k, v = (
        Joined([(index, group[name]) for index, group in zip(chunks, groups, strict=True)], range(len(order)), n_pos)
        for name in ("k", "v")
    )
    whole = {
        name: [torch.cat(values)[back] for values in zip(*(group[name] for group in groups), strict=True)]
        for name in (*OF_ROWS, "logits")
    }
    (logits,) = whole.pop("logits")
    return RowTrace(position, **whole, k=k, v=v, logits=logits)


def _rows_run(
    model: Model, tokens: Int[Tensor, "row pos"], position_ids: Int[Tensor, "row pos"], position: Int[Tensor, "row"]
) -> dict[str, list[Tensor]]:
    """The fields of a `RowTrace` by name; logits in a list of one."""
    n_pos, index = tokens.shape[1], torch.arange(len(tokens), device=tokens.device)
    kept: dict[str, list[Tensor]] = {name: [] for name in (*OF_ROWS, "k", "v")}
    source, entry = embedded_pairs(model, tokens, position_ids)
    stream = taken(source, entry)
    for layer in range(model.config.n_layers):
        at, queries, asked = position, torch.arange(n_pos, device=tokens.device), (slice(None),)
        if layer > 0:
            source, entry = stream, None
        if layer == model.config.n_layers - 1:  # from here on the row stands alone
            asked = (index[:, None], position[:, None])
            at, queries = torch.zeros_like(position), position[:, None, None]
            stream = stream[asked]
        q, k, v = qkv_of(model, layer, source, entry, asked)
        keys, values = blocks.by_query_head(model, k), blocks.by_query_head(model, v)
        scores = blocks.scores(model, layer, q, keys, queries)
        z = blocks.pattern(scores, blocks.causal(queries, n_pos)) @ values
        attn_out = blocks.attn_out(model, layer, blocks.merge_heads(z))
        mid = stream + attn_out
        mlp_out = blocks.mlp_out_in_parts(model, layer, blocks.mlp_input(model, stream, mid))
        of_rows = {"resid_pre": stream, "resid_mid": mid, "resid_post": mid + mlp_out}
        for name, value in (of_rows | {"attn_out": attn_out, "mlp_out": mlp_out}).items():
            kept[name].append(value[index, at])
        for name, value in (("q", q), ("z", z)):
            kept[name].append(value[index, :, at])
        kept["k"].append(k)
        kept["v"].append(v)
        stream = of_rows["resid_post"]
    return kept | {"logits": [blocks.logits(model, stream[:, 0])]}
