"""Where each token sits: the only arithmetic of positions in the project.

A row of length L (L inputs) with chain of thought, where `t` is the state being predicted:

    position   0      1 .. L    L+1    L+2 .. 2L+1    2L+2 ...
    token     [task]  x1 .. xL  [EoI]  s1 .. sL       [EoS] ...

Without chain of thought the one state s_L follows [EoI]. The row at L+t holds s_{t-1} ([EoI]
stands for s_0) and predicts s_t; the last row predicts [EoS]. Those rows are the *scored* ones:
the loss, the accuracy and every measure use them alone.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Span(NamedTuple):
    """A stretch of a row that moves with its length: `Span("inputs")`, `Span("state", 3)`.

    Rows of tasks have the kinds `first`, `inputs`, `end`, `states`, `input` and `state`; the last two take a number n,
    counted from 1. In prompts of one's own the kind is the name that they give to a span, and there is no number.

    Example:
        >>> from compo_mech.data import Layout, Span
        >>> list(Layout().span(Span("state", 2), length=3))
        [6]
    """

    kind: str
    n: int | None = None

    def __str__(self) -> str:
        names = {"first": "task", "end": "EoI", "input": f"x{self.n}", "state": f"s{self.n}"}
        return names.get(self.kind, self.kind)


@runtime_checkable
class Rows(Protocol):
    """How far rows of some length are read, which of their positions answer, and where their spans lie.

    Example:
        >>> from compo_mech.data import Layout, Rows
        >>> rows: Rows = Layout()
        >>> rows.n_read(3), rows.first_scored(3)
        (8, 4)
    """

    def n_read(self, length: Any) -> Any:
        """Return how many tokens the network has to read to predict all that is scored."""
        ...

    def first_scored(self, length: Any) -> Any:
        """Return the first position that predicts an answer."""
        ...

    def where(self, span: Span, lengths: Int[Tensor, "batch"], n_pos: int) -> Bool[Tensor, "batch pos"]:
        """Return a mask that is True where a span lies, in rows of these lengths.

        Raises:
            ValueError: there is no such span.
        """
        ...


WHOLE_SPANS = (Span("first"), Span("inputs"), Span("end"), Span("states"))
"""Together they hold every token that is read, each once."""


@dataclass(frozen=True)
class Layout:
    """Positions as functions of the length L, an integer or a tensor of lengths.

    Example:
        >>> from compo_mech.data import Layout
        >>> Layout().labels(2)
        ['task', 'x1', 'x2', 'EoI', 's1', 's2']
        >>> list(Layout().scored(2))
        [3, 4, 5]
    """

    chain_of_thought: bool = True

    def n_states(self, length):
        """Return how many states are written after [EoI]."""
        return length if self.chain_of_thought else length * 0 + 1

    def end_of_input(self, length):
        """Return the position of [EoI]."""
        return length + 1

    def first_scored(self, length):
        """Return the first position that predicts a state: that of [EoI]."""
        return self.end_of_input(length)

    def n_scored(self, length):
        """Return how many rows predict a state or the first [EoS]."""
        return self.n_states(length) + 1

    def n_read(self, length):
        """Return how many tokens the network has to read to predict all that is scored."""
        return self.end_of_input(length) + self.n_scored(length)

    def n_tokens(self, length):
        """Return how many tokens a whole row has, the first [EoS] included."""
        return self.n_read(length) + 1

    def inputs(self, length: int) -> range:
        """Return the positions of x_1 .. x_L."""
        return range(1, length + 1)

    def states(self, length: int) -> range:
        """Return the positions of the states."""
        return range(length + 2, length + 2 + self.n_states(length))

    def scored(self, length: int) -> range:
        """Return the positions of the scored rows."""
        return range(length + 1, length + 1 + self.n_scored(length))

    def span(self, span: Span, length: int) -> range:
        """Return the positions of a span; empty where a row is too short to have it.

        Raises:
            ValueError: there is no such span, or its number does not fit its kind.
        """
        numbered = {"input": self.inputs(length), "state": self.states(length)}
        whole = {
            "first": range(1),
            "inputs": self.inputs(length),
            "end": range(self.end_of_input(length), self.end_of_input(length) + 1),
            "states": self.states(length),
        }
        if span.kind not in (*whole, *numbered):
            raise ValueError(f"span.kind = {span.kind!r}: must be one of {', '.join((*whole, *numbered))}")
        if (span.kind in numbered) != (span.n is not None) or (span.n is not None and span.n < 1):
            takes = "needs a number from 1" if span.kind in numbered else "takes no number"
            raise ValueError(f"span.n = {span.n}: {span.kind} {takes}")
        if span.n is None:
            return whole[span.kind]
        return numbered[span.kind][span.n - 1 : span.n]

    def where(self, span: Span, lengths: Int[Tensor, "batch"], n_pos: int) -> Bool[Tensor, "batch pos"]:
        """Return a mask that is True where a span lies, in rows of these lengths.

        Raises:
            ValueError: no row is long enough to have it, or there is no such span.
        """
        where = torch.zeros(len(lengths), n_pos, dtype=torch.bool)
        for row, length in enumerate(lengths.tolist()):
            positions = self.span(span, length)
            where[row, positions.start : positions.stop] = True
        if not where.any():
            raise ValueError(f"span = {span}: must be one that some of the rows have")
        return where.to(lengths.device)

    def predicted(self, position, length):
        """Return the t whose state the row at this position predicts; L + 1 for the row that predicts [EoS]."""
        step = position - self.end_of_input(length) + 1
        return step if self.chain_of_thought else step + length - 1

    def length_of(self, end_of_input):
        """Return the length of a string whose [EoI] is at this position."""
        return end_of_input - 1

    def input_position(self, t):
        """Return the position of x_t."""
        return t

    def labels(self, length: int) -> list[str]:
        """Return a name for every token that the network reads, such as `x3` or `s2`."""
        inputs = [f"x{t}" for t in self.inputs(length)]
        states = [f"s{t}" for t in range(1, length + 1)] if self.chain_of_thought else [f"s{length}"]
        return ["task", *inputs, "EoI", *states]

    def lookup_edges(self, length: int) -> tuple[list[int], list[int]]:
        """Return the (query, key) positions of the lookup: every row of a state but the last attends to [EoI].

        The last row predicts [EoS] and needs no lookup, so it is left out.
        """
        queries = list(self.states(length))[:-1]
        return queries, [self.end_of_input(length)] * len(queries)

    def iteration_edges(self, length: int) -> tuple[list[int], list[int]]:
        """Return the (query, key) positions of the diagonal: the row that predicts s_t attends to x_t.

        Without chain of thought the one row that predicts a state has no x_t of its own.
        """
        if not self.chain_of_thought:
            return [], []
        return list(self.scored(length))[:-1], list(self.inputs(length))

    def assemble(
        self,
        first: Int[Tensor, "batch"],
        inputs: Int[Tensor, "batch max_length"],
        states: Int[Tensor, "batch max_length"],
        lengths: Int[Tensor, "batch"],
        end_of_input: int,
        end_of_states: int,
    ) -> Int[Tensor, "batch pos"]:
        """Assemble whole rows, each padded with [EoS] to the longest one."""
        max_length = inputs.shape[1]
        length = lengths[:, None]
        position = torch.arange(self.n_tokens(max_length), device=inputs.device)
        input_index = (position - 1).clamp(0, max_length - 1).expand(len(inputs), -1)
        step = position - self.end_of_input(length) - 1  # 0 where the first state sits
        shown = step if self.chain_of_thought else step + length - 1  # the one state shown is s_L
        tokens = states.gather(1, shown.clamp(0, max_length - 1))
        tokens = torch.where(step >= self.n_states(length), end_of_states, tokens)
        tokens = torch.where(step < 0, end_of_input, tokens)
        tokens = torch.where(position <= length, inputs.gather(1, input_index), tokens)
        return torch.where(position == 0, first[:, None], tokens)
