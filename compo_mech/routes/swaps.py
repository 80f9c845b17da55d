"""Strings in which one token is changed, x_t or s_{t-1}, and every other one held."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Task

SwapVariable = Literal["x", "s"]
"""x_t or s_{t-1}."""


class Answers(NamedTuple):
    """What is right before and after a token is changed, of one swap or, stacked, of several.

    Attributes:
        target, foil: the right answer before and after.
        valid: False where no other token changes the answer.

    >>> answers = Answers(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([True, False]))
    >>> margin = answers.margin(torch.tensor([[3.0, 1.0], [3.0, 1.0]]))
    >>> margin.tolist(), answers.mean(margin).item()
    ([2.0, -2.0], 2.0)
    """

    target: Int[Tensor, "*swap batch"]
    foil: Int[Tensor, "*swap batch"]
    valid: Bool[Tensor, "*swap batch"]

    def margin(self, logits: Float[Tensor, "*rest batch d_vocab"]) -> Float[Tensor, "*rest batch"]:
        """Logit of the right answer above the foil's."""
        index = torch.stack([self.target, self.foil], -1).expand(*logits.shape[:-1], 2)
        right, wrong = logits.gather(-1, index).unbind(-1)
        return right - wrong

    def mean(self, values: Float[Tensor, "*rest batch"] | Bool[Tensor, "*rest batch"]) -> Float[Tensor, "*rest"]:
        """Mean over the valid strings."""
        return (values * self.valid).sum(-1) / self.valid.sum(-1).clamp(min=1)

    @classmethod
    def stacked(cls, swaps: "Sequence[Swap]") -> "Answers":
        """Those of several swaps, one after the other."""
        return cls(*(torch.stack(values) for values in zip(*(swap.answers for swap in swaps), strict=True)))


@dataclass(frozen=True)
class Swap:
    """Strings of one length in which one token is changed, x_t or s_{t-1}.

    Attributes:
        source: position of that token.
        row: position that predicts.
        tokens: the corrupt input.
        target, foil: the right answer at the row before and after the change.
        valid: False where no other token changes the answer.
    """

    length: int
    t: int
    variable: SwapVariable
    source: int
    row: int
    tokens: Int[Tensor, "batch pos"]
    target: Int[Tensor, "batch"]
    foil: Int[Tensor, "batch"]
    valid: Bool[Tensor, "batch"]

    @property
    def answers(self) -> Answers:
        return Answers(self.target, self.foil, self.valid)

    def margin(self, logits: Float[Tensor, "*rest batch d_vocab"]) -> Float[Tensor, "*rest batch"]:
        """Logit of the right answer above the foil's."""
        return self.answers.margin(logits)

    def mean(self, values: Float[Tensor, "*rest batch"] | Bool[Tensor, "*rest batch"]) -> Float[Tensor, "*rest"]:
        """Mean over the valid strings."""
        return self.answers.mean(values)


@dataclass(frozen=True)
class RouteStrings:
    """Strings of one length, and every change of one of their tokens that is asked of their routes.

    Attributes:
        tokens: the strings as they are read, at positions 0, 1, 2 ...
        swaps: x_t first.
    """

    length: int
    tokens: Int[Tensor, "batch pos"]
    swaps: tuple[Swap, ...]


def route_strings(
    data: DataConfig,
    task: Task,
    lengths: Iterable[int],
    n_strings: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> list[RouteStrings]:
    """Draw strings of each length and the tokens that are changed, which any number of networks can be asked about.

    Args:
        data: tasks, layout, vocabulary.
        task: one of the data's.
        lengths: which ones.
        n_strings: of each.
        generator: source of the strings and of the changed tokens, on the CPU.
        device: of what is drawn.

    Raises:
        ValueError: the task is not one of the data's, or there is no string.

    >>> from compo_mech import Parity
    >>> generator = torch.Generator().manual_seed(0)
    >>> (found,) = route_strings(DataConfig(max_length=3), Parity(), [3], 8, generator)
    >>> found.tokens.shape, [f"{swap.variable}{swap.t}" for swap in found.swaps]
    (torch.Size([8, 8]), ['x1', 'x2', 'x3', 's2', 's3'])
    """
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if n_strings < 1:
        raise ValueError(f"n_strings = {n_strings}: must be at least 1")
    found = []
    for length in lengths:
        if length < 1:
            raise ValueError(f"length = {length}: must be at least 1")
        inputs = torch.randint(task.first_input, task.n_inputs, (n_strings, length), generator=generator)
        tokens = encode(data, task, inputs).read.to(device)
        found.append(RouteStrings(length, tokens, tuple(make_swaps(task, data.layout, inputs, tokens, generator))))
    return found


def make_swaps(
    task: Task,
    layout: Layout,
    inputs: Int[Tensor, "batch length"],
    tokens: Int[Tensor, "batch pos"],
    generator: torch.Generator,
) -> list[Swap]:
    """x_t replaced by an input that changes the answer, for every t; then s_{t-1} by such a state.

    All else stays as it is read, later states included. Without chain of thought the answer is
    s_L, and no state is read. s_{t-1} sits at the row that predicts s_t, from t = 2 on.
    """
    states, length = task.states(inputs), inputs.shape[1]
    rows = layout.iteration_edges(length)[0] or [layout.scored(length)[0]] * length
    plans: list[tuple[SwapVariable, int, int, Tensor]] = []  # t, position of the variable, answer to each value
    for t, source in enumerate(layout.inputs(length), 1):
        if layout.chain_of_thought:
            before = states[:, t - 2] if t > 1 else torch.full_like(states[:, 0], task.n_states)
            answers = task.table[before]  # whose last row is the start's
        else:
            every = inputs[:, None].repeat(1, task.n_inputs, 1)
            every[:, :, t - 1] = torch.arange(task.n_inputs)
            answers = task.states(every)[..., -1]
        plans.append(("x", t, source, answers))
    for t in range(2, length + 1) if layout.chain_of_thought else ():
        plans.append(("s", t, rows[t - 1], task.table[:-1].T[inputs[:, t - 1]]))
    swaps = []
    for variable, t, source, answers in plans:
        target = states[:, t - 1 if layout.chain_of_thought else -1]
        allowed = answers != target[:, None]
        if variable == "x":
            allowed[:, : task.first_input] = False  # never drawn
        valid = allowed.any(1)
        value = torch.multinomial((allowed | ~valid[:, None]).float(), 1, generator=generator)
        corrupt = tokens.clone()
        corrupt[:, source] = value[:, 0].to(tokens.device)
        scored = (index.to(tokens.device) for index in (target, answers.gather(1, value)[:, 0], valid))
        swaps.append(Swap(length, t, variable, source, rows[t - 1], corrupt, *scored))
    return swaps
