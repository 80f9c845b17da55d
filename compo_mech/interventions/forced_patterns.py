"""Runs in which rows of some heads of one layer attend as they are told, many such runs at once.

Runs that tell a row the same share what the layer makes of it. In layer 0, where a value is its token's and its
position's alone, so do strings that have the same tokens at the row and at the one key that all heads attend to.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.interventions.traces import Trace
from compo_mech.model import blocks
from compo_mech.model.params import Model

Forcing = Mapping[int, int | None]
"""For each row that is told, the key that has all of its attention; None: all keys that it sees, equally."""

Edit = tuple[int, int | None]
"""A row and its key."""


def edit_weights(edits: Iterable[Edit], n_pos: int) -> Float[Tensor, "edit pos"]:
    """Attention weights of rows that are told.

    >>> edit_weights([(1, None), (2, 1)], n_pos=4).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    return _weights(*_rows_and_keys(edits), torch.arange(n_pos))


def _rows_and_keys(edits: Iterable[Edit]) -> tuple[Int[Tensor, "edit"], Int[Tensor, "edit"]]:
    """A key of -1: all that the row sees."""
    rows, keys = torch.tensor([(row, -1 if key is None else key) for row, key in edits]).T
    return rows, keys


def _weights(
    rows: Int[Tensor, "edit"], keys: Int[Tensor, "edit"], every: Int[Tensor, "pos"]
) -> Float[Tensor, "edit pos"]:
    even = (every <= rows[:, None]) / (rows[:, None] + 1)
    return torch.where(keys[:, None] < 0, even, (every == keys[:, None]).to(even))


class ForcedRuns:
    """Runs on the same strings, of which each tells some rows of a layer where to attend, for any layer of any network.

    Attributes:
        start, end: the first row that any run forces, and the one behind the last.
        n_runs: how many.

    Args:
        tokens: all strings at the same positions.
        runs: what each forces, one row at least.
    """

    def __init__(self, tokens: Int[Tensor, "batch pos"], runs: Sequence[Forcing]) -> None:
        self.start, self.end = min(min(run) for run in runs), max(max(run) for run in runs) + 1
        self.n_runs, self.tokens = len(runs), tokens
        edits = list(dict.fromkeys(edit for run in runs for edit in run.items()))
        self.rows, self.keys = (x.to(tokens.device) for x in _rows_and_keys(edits))
        self.weights = _weights(self.rows, self.keys, torch.arange(tokens.shape[1], device=tokens.device))
        self._runs, self._edits = runs, edits

    @cached_property
    def each(self) -> tuple[Int[Tensor, "run batch position"], None]:
        """Which row stands at each position of each run before the end, of the whole run or of every string's edited
        rows behind them; of which kind there is one each (None: every edited row is its own)."""
        n_batch = len(self.tokens)
        return self._places(torch.arange(n_batch * len(self._edits), device=self.tokens.device).view(n_batch, -1)), None

    @cached_property
    def alike(self) -> tuple[Int[Tensor, "run batch position"], Int[Tensor, "kind"]]:
        """The same, of edited rows only one of each kind, and which.

        Those with the same tokens at the row and at its key are of one kind; where a row sees all keys (-1), each is
        its own.
        """
        n_values, n_batch = self.tokens.max() + 1, len(self.tokens)
        pairs = self.tokens[:, self.rows] * n_values + self.tokens[:, self.keys]
        alone = n_values**2 + torch.arange(n_batch, device=pairs.device)[:, None]
        of_edit = (n_values**2 + n_batch) * torch.arange(len(self.rows), device=pairs.device)
        known, of_each = (torch.where(self.keys < 0, alone, pairs) + of_edit).flatten().unique(return_inverse=True)
        one = of_each.new_empty(len(known)).scatter_(0, of_each, torch.arange(len(of_each), device=pairs.device))
        return self._places(of_each.view(n_batch, -1)), one

    def _places(self, row_of: Int[Tensor, "batch edit"]) -> Int[Tensor, "run batch position"]:
        place = {edit: self.end + i for i, edit in enumerate(self._edits)}
        taken = [[place[row, run[row]] if row in run else row for row in range(self.end)] for run in self._runs]
        (n_batch, n_pos), device = self.tokens.shape, self.tokens.device
        own = torch.arange(n_batch, device=device)[:, None] * n_pos + torch.arange(self.end, device=device)
        return torch.cat([own, n_batch * n_pos + row_of], 1)[:, torch.tensor(taken, device=device)].transpose(0, 1)


@torch.no_grad()
def forced_tails(
    model: Model, whole: Trace, layer: int, heads: Sequence[int], runs: ForcedRuns
) -> Float[Tensor, "run batch tail d_vocab"]:
    """Logits of the rows from the first that any run forces to the last, with these heads of a layer forced.

    What lies before the layer, and the rows before the first forced one, is as in the whole run: in a causal network
    nothing of it can change.

    Args:
        model: the network.
        whole: its run on the strings.
        layer, heads: whose attention is forced.
        runs: what is forced.

    Raises:
        ValueError: attention goes both ways.
    """
    blocks.check_causal(model)
    start, end, n_runs = runs.start, runs.end, runs.n_runs
    all_alike = layer == 0 and len(set(heads)) == model.config.n_heads
    index, kinds = runs.alike if all_alike else runs.each
    stream = _edited(model, whole, layer, heads, runs, kinds)

    def taken(own: Float[Tensor, "batch pos width"], edited: Float[Tensor, "edited width"], first: int) -> Tensor:
        """What each run has at its positions from the first on: [run_batch position width]."""
        which = index[:, :, first:]
        rows = torch.cat([own.flatten(0, 1), edited]).index_select(0, which.flatten())
        return rows.view(-1, which.shape[2], rows.shape[1])

    if layer == model.config.n_layers - 1:
        return taken(whole.logits, blocks.logits(model, stream), start).unflatten(0, (n_runs, -1))
    projected = blocks.project(model, layer + 1, "QKV", blocks.attention_input(model, layer + 1, stream))
    own = (blocks.merge_heads(x[layer + 1]) for x in (whole.q, whole.k, whole.v))
    q, k, v = (
        blocks.split_heads(model, taken(*both, first))
        for both, first in zip(zip(own, projected, strict=True), (start, 0, 0), strict=True)
    )
    stream = taken(whole.resid_pre[layer + 1], stream, start)
    tail = torch.arange(start, end, device=stream.device)
    for later in range(layer + 1, model.config.n_layers):
        if later > layer + 1:
            q, k, v = blocks.qkv(model, later, stream)
            k, v = (
                torch.cat([before[later][:, :, :start].repeat(n_runs, 1, 1, 1), after], 2)
                for before, after in ((whole.k, k), (whole.v, v))
            )
        scores = blocks.scores(model, later, q, blocks.by_query_head(model, k), tail)
        z = blocks.pattern(scores, blocks.causal(tail, end)) @ blocks.by_query_head(model, v)
        mid = stream + blocks.attn_out(model, later, blocks.merge_heads(z))
        stream = blocks.resid_post(model, later, stream, mid)
    return blocks.logits(model, stream).unflatten(0, (n_runs, -1))


def _edited(
    model: Model,
    whole: Trace,
    layer: int,
    heads: Sequence[int],
    runs: ForcedRuns,
    kinds: Int[Tensor, "kind"] | None,
) -> Float[Tensor, "edited d_model"]:
    """The stream behind the layer at every edited row of every string, or at one of each kind."""
    pattern = whole.pattern[layer][:, :, runs.rows]
    pattern[:, heads] = runs.weights.to(pattern)
    z = blocks.merge_heads(pattern @ blocks.by_query_head(model, whole.v[layer])).flatten(0, 1)
    before = whole.resid_pre[layer][:, runs.rows].flatten(0, 1)
    if kinds is not None:
        z, before = z.index_select(0, kinds), before.index_select(0, kinds)
    return blocks.resid_post(model, layer, before, before + blocks.attn_out(model, layer, z))
