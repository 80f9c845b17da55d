"""Token ids and what they mean, built from the set of tasks: values first, then the specials.

A value k, input or state, is token id k in every task, so that tasks share their values; then follow [EoI], [EoS],
[BoS] and one token for each task.
"""

from dataclasses import dataclass
from functools import cached_property

from compo_mech.data.tasks import Task


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a set of tasks. `str(vocabulary)` prints ids and symbols side by side.

    Example:
        >>> from compo_mech.data import Parity, Vocabulary
        >>> Vocabulary((Parity(),)).symbols
        ('0', '1', '[EoI]', '[EoS]', '[BoS]', '[parity]')
    """

    tasks: tuple[Task, ...]

    @property
    def n_values(self) -> int:
        return max(max(task.n_states, task.n_inputs) for task in self.tasks)

    @property
    def end_of_input_id(self) -> int:
        return self.n_values

    @property
    def end_of_states_id(self) -> int:
        return self.n_values + 1

    @property
    def beginning_id(self) -> int:
        """The generic first token, for data without task tokens."""
        return self.n_values + 2

    def task_token(self, task: Task) -> int:
        return self.n_values + 3 + self.tasks.index(task)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Symbol of every id."""
        values = tuple(str(value) for value in range(self.n_values))
        return (*values, "[EoI]", "[EoS]", "[BoS]", *(f"[{task}]" for task in self.tasks))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, symbols: list[str]) -> list[int]:
        """Return the ids of the symbols.

        Raises:
            ValueError: a symbol is not of this vocabulary.
        """
        ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        for symbol in symbols:
            if symbol not in ids:
                raise ValueError(f"symbol = {symbol!r}: must be one of {' '.join(self.symbols)}")
        return [ids[symbol] for symbol in symbols]

    def decode(self, ids: list[int]) -> list[str]:
        """Return the symbols of the ids.

        Raises:
            ValueError: an id is not of this vocabulary.
        """
        for i in ids:
            if not 0 <= i < len(self):
                raise ValueError(f"token id = {i}: must be 0 .. {len(self) - 1}")
        return [self.symbols[i] for i in ids]

    def __str__(self) -> str:
        return "\n".join(f"{i:>4}  {symbol}" for i, symbol in enumerate(self.symbols))
