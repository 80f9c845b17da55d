"""Prompts of many examples, `x1…xL=s1…sL` a line, in several forms, and where inputs and states are in them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_DIGITS = 10
_DIGITS = range(N_DIGITS)


class Form(NamedTuple):
    """How a line is written: what stands before it, between its digits, before the states, and after it."""

    before: str
    between: str
    arrow: str
    after: str

    def line(self, inputs: Sequence[int], states: Sequence[int]) -> str:
        """Write one string and its states.

        Example:
            >>> from compo_mech.pretrained import FORMS
            >>> FORMS["commas"].line([1, 0, 1], [1, 1, 0])
            '1,0,1 -> 1,1,0\\n'
        """
        x, s = (self.between.join(map(str, digits)) for digits in (inputs, states))
        return f"{self.before}{x}{self.arrow}{s}{self.after}"


FORMS = {
    "plain": Form("", "", "=", "\n"),
    "commas": Form("", ",", " -> ", "\n"),
    "words": Form("Input: ", " ", "\nOutput: ", "\n\n"),
}

TASKS: dict[str, Task] = {
    "copy digits": Automaton(transitions=tuple(tuple(_DIGITS) for _ in _DIGITS)),
    "copy bits": Copy(),
    "parity": Parity(),
    "running maximum": Automaton(transitions=tuple(tuple(max(s, x) for x in _DIGITS) for s in _DIGITS)),
    "sum mod 10": Counter(modulus=N_DIGITS),
}


Line = tuple[Sequence[int], Sequence[int]]
"""Inputs, and the states that are written: all of them with a chain of thought, else the last."""


@dataclass(frozen=True)
class FewShot:
    """A prompt of several lines, of which the last is looked at.

    Attributes:
        tokens: of all lines.
        lines: inputs and states.
        input_positions, state_positions: of each line, where their tokens are. The row that predicts a state is the one
            before it.
    """

    tokens: Int[Tensor, "pos"]
    lines: Sequence[Line]
    input_positions: Sequence[Sequence[int]]
    state_positions: Sequence[Sequence[int]]

    @property
    def first_row(self) -> int:
        """The row that predicts the last line's first state: nothing before it depends on the states."""
        return self.state_positions[-1][0] - 1

    @property
    def tail(self) -> Int[Tensor, "row"]:
        """Tokens of the last line from `first_row` to the last that predicts a state."""
        return self.tokens[self.first_row : self.state_positions[-1][-1]]

    @property
    def rows(self) -> Int[Tensor, "state"]:
        """Rows of the tail that predict a state."""
        return torch.tensor(self.state_positions[-1]) - 1 - self.first_row

    @property
    def answers(self) -> Int[Tensor, "state"]:
        """Tokens of the last line's states."""
        return self.tokens[list(self.state_positions[-1])]


def few_shot(tokenizer: "PreTrainedTokenizerBase", form: Form, lines: Sequence[Line]) -> FewShot:
    """Write lines in a form and find their digits.

    Raises:
        ValueError: a digit is no token of its own.
    """
    tokens = torch.tensor(tokenizer("".join(form.line(*line) for line in lines))["input_ids"])
    found = iter(torch.isin(tokens, digit_tokens(tokenizer)).nonzero()[:, 0].tolist())
    inputs, states = [], []
    for x, s in lines:
        inputs.append(list(itertools.islice(found, len(x))))
        states.append(list(itertools.islice(found, len(s))))
    if len(states[-1]) < len(lines[-1][1]) or next(found, None) is not None:
        raise ValueError("tokenizer = one that joins digits: must make each a token of its own")
    return FewShot(tokens, lines, inputs, states)


def digit_tokens(tokenizer: "PreTrainedTokenizerBase") -> Int[Tensor, "digit"]:
    """Return the tokens of 0 .. 9."""
    return torch.tensor([tokenizer.convert_tokens_to_ids(str(digit)) for digit in _DIGITS])


def drawn_lines(
    task: Task, n_lines: int, length: int, generator: torch.Generator, chain_of_thought: bool = True
) -> list[Line]:
    """Draw strings of a task, uniformly, with their states.

    Example:
        >>> import torch
        >>> from compo_mech.pretrained import TASKS, drawn_lines
        >>> ((x, s),) = drawn_lines(TASKS["copy digits"], 1, 6, torch.Generator().manual_seed(0))
        >>> x == s
        True
    """
    inputs = torch.randint(task.first_input, task.n_inputs, (n_lines, length), generator=generator)
    states = task.states(inputs)[:, 0 if chain_of_thought else -1 :]
    return list(zip(inputs.tolist(), states.tolist(), strict=True))
