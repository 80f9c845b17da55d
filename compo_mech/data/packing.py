"""Which positions of a padded batch need any work, as index tensors."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.layout import Layout


@dataclass(frozen=True)
class Packing:
    """Index tensors that say which positions of a padded batch need any work.

    The network reads `n_read` tokens of each row and scores the last `n_scored` of them. A *token* below counts the
    read ones of the whole batch, row after row; a *slot* is a cell of the padded grid [batch, pos] (or [batch, query]
    for the scored rows). Padded slots refer to some token of the same batch and are never attended to or taken back
    out.

    Attributes:
        token_slot: slot of each token. None if nothing is padded.
        slot_token: token of each slot. None if nothing is padded.
        row, position: of each token.
        scored_token: token of each scored row.
        scored_slot, slot_scored: the same two maps for the grid [batch, query].
        query_position: position of each scored slot (padded slots: position 0).

    Example:
        >>> from compo_mech.data import Layout, Packing
        >>> packing = Packing.of_lengths(Layout(), [1, 2])
        >>> packing.row.tolist()
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
        >>> packing.scored_position.tolist()
        [2, 3, 3, 4, 5]
    """

    batch_size: int
    n_pos: int
    n_queries: int
    token_slot: Int[Tensor, "token"] | None
    slot_token: Int[Tensor, "slot"] | None
    row: Int[Tensor, "token"]
    position: Int[Tensor, "token"]
    scored_token: Int[Tensor, "scored"]
    scored_slot: Int[Tensor, "scored"] | None
    slot_scored: Int[Tensor, "query_slot"] | None
    query_position: Int[Tensor, "batch query"]
    _device: torch.device = field(default=torch.device("cpu"), repr=False)

    @cached_property
    def causal(self) -> Bool[Tensor, "pos pos"]:
        """True where a query may attend. Padding sits to the right, so the causal mask masks it as well."""
        return torch.ones(self.n_pos, self.n_pos, dtype=torch.bool, device=self._device).tril()

    @cached_property
    def causal_scored(self) -> Bool[Tensor, "batch 1 query pos"]:
        """The same for the scored rows alone."""
        keys = torch.arange(self.n_pos, device=self._device)
        return (keys <= self.query_position[..., None])[:, None]

    @cached_property
    def unpadded(self) -> Bool[Tensor, "batch 1 1 pos"] | None:
        """True where a row has a token, which is what attention both ways sees; None if nothing is padded."""
        if self.token_slot is None:
            return None
        has_token = torch.zeros(self.batch_size * self.n_pos, dtype=torch.bool, device=self._device)
        return has_token.index_fill(0, self.token_slot, True).view(self.batch_size, 1, 1, self.n_pos)

    @cached_property
    def scored_row(self) -> Int[Tensor, "scored"]:
        """Batch row of each scored row."""
        return self.row[self.scored_token]

    @cached_property
    def scored_position(self) -> Int[Tensor, "scored"]:
        """Position of each scored row."""
        return self.position[self.scored_token]

    @classmethod
    def build(cls, n_read: list[int], n_scored: list[int], device: torch.device | str = "cpu") -> "Packing":
        """Pack rows of which `n_read` tokens are read and the last `n_scored` scored."""
        read, scored = torch.tensor(n_read), torch.tensor(n_scored)
        n_pos, n_queries = int(read.max()), int(scored.max())
        row, position, token_slot, slot_token = _ragged(read, n_pos)
        offset = (read - scored)[:, None]
        step = torch.arange(n_queries)
        is_query = step < scored[:, None]
        query_position = torch.where(is_query, offset + step, 0)
        _, _, scored_slot, slot_scored = _ragged(scored, n_queries)
        scored_token = slot_token[(torch.arange(len(read))[:, None] * n_pos + query_position)[is_query]]
        even, even_scored = bool((read == n_pos).all()), bool((scored == n_queries).all())

        def put(index: Tensor) -> Tensor:
            return index.to(device)

        return cls(
            batch_size=len(read),
            n_pos=n_pos,
            n_queries=n_queries,
            token_slot=None if even else put(token_slot),
            slot_token=None if even else put(slot_token),
            row=put(row),
            position=put(position),
            scored_token=put(scored_token),
            scored_slot=None if even_scored else put(scored_slot),
            slot_scored=None if even_scored else put(slot_scored),
            query_position=put(query_position),
            _device=torch.device(device),
        )

    @classmethod
    def of_lengths(cls, layout: Layout, lengths: list[int], device: torch.device | str = "cpu") -> "Packing":
        """Pack rows of these lengths."""
        n_read = [layout.n_read(length) for length in lengths]
        return cls.build(n_read, [layout.n_scored(length) for length in lengths], device)

    @classmethod
    def dense(cls, batch_size: int, n_pos: int, device: torch.device | str = "cpu") -> "Packing":
        """Pack rows of which every position is read and scored, as in a plain forward pass."""
        return cls.build([n_pos] * batch_size, [n_pos] * batch_size, device)


def _ragged(counts: Int[Tensor, "batch"], width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For rows of `counts` items padded to `width`: row and column of each item, and both maps."""
    columns = torch.arange(width)
    taken = columns < counts[:, None]
    slots = taken.flatten().nonzero()[:, 0]
    slot_item = torch.zeros(taken.numel(), dtype=torch.long)
    slot_item[slots] = torch.arange(len(slots))
    return slots // width, slots % width, slots, slot_item
