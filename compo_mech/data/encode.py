"""The only way from inputs to tokens.

encode(data, task, inputs)                     strings of one length, with the task's own states
encode(data, task, inputs, lengths)            of several lengths, padded with [EoS]
encode(data, task, inputs, lengths, states)    with whatever states are written
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task


@dataclass(frozen=True)
class Encoded:
    """Whole rows of tokens, and what a network reads of them.

    Attributes:
        tokens: whole rows, the first [EoS] of the longest included; shorter ones go on with [EoS].

    Example:
        >>> from compo_mech.data import DataConfig, Parity, encode
        >>> rows = encode(DataConfig(), Parity(), torch.tensor([[1, 1]]))
        >>> rows.tokens.tolist(), rows.read.tolist()
        ([[5, 1, 1, 2, 1, 0, 3]], [[5, 1, 1, 2, 1, 0]])
    """

    tokens: Int[Tensor, "batch n_tokens"]

    @property
    def read(self) -> Int[Tensor, "batch pos"]:
        """The tokens that the network reads: all but the last column, which is only predicted."""
        return self.tokens[:, :-1]

    @property
    def position_ids(self) -> Int[Tensor, "batch pos"]:
        """The position of every token that is read."""
        return torch.arange(self.read.shape[1], device=self.tokens.device).expand(self.read.shape)


class Encoder:
    """Assembles rows of any of the data's tasks, with the constants of that kept on a device.

    Args:
        data: tasks, layout, and whether rows begin with the task's own token or with [BoS].
        device: where the inputs are.

    Example:
        >>> from compo_mech.data import DataConfig, Encoder
        >>> ones = torch.ones(1, 2, dtype=torch.long)
        >>> Encoder(DataConfig()).tokens(torch.tensor([0]), ones, states=ones, lengths=torch.tensor([1])).tolist()
        [[5, 1, 2, 1, 3, 3, 3]]
    """

    def __init__(self, data: DataConfig, device: torch.device | str = "cpu") -> None:
        words = data.vocabulary
        first = [words.task_token(task) if data.task_token else words.beginning_id for task in data.tasks]
        self.first_ids = torch.tensor(first, device=device)
        self.layout = data.layout
        self.end_of_input_id, self.end_of_states_id = words.end_of_input_id, words.end_of_states_id

    def tokens(
        self,
        task: Int[Tensor, "batch"],
        inputs: Int[Tensor, "batch max_length"],
        states: Int[Tensor, "batch max_length"],
        lengths: Int[Tensor, "batch"],
    ) -> Int[Tensor, "batch n_tokens"]:
        """Return whole rows of tokens.

        Args:
            task: index of each row's task among the data's.
            inputs: of each row; those beyond its length are not shown.
            states: that are written after [EoI], one an input.
            lengths: of the strings.
        """
        first = self.first_ids[task]
        return self.layout.assemble(first, inputs, states, lengths, self.end_of_input_id, self.end_of_states_id)


def encode(
    data: DataConfig,
    task: Task,
    inputs: Int[Tensor, "batch max_length"],
    lengths: Int[Tensor, "batch"] | None = None,
    states: Int[Tensor, "batch max_length"] | None = None,
) -> Encoded:
    """Write out rows of one task as tokens.

    Args:
        data: tasks, layout, and how rows begin.
        task: one of the data's.
        inputs: of each row; those beyond its length are not shown.
        lengths: of the strings; None: all inputs.
        states: that are written; None: the task's own.

    Raises:
        ValueError: the task is not one of the data's.

    Example:
        >>> from compo_mech.data import DataConfig, Parity, encode
        >>> data = DataConfig()
        >>> rows = encode(data, Parity(), torch.tensor([[1, 1]]))
        >>> " ".join(data.vocabulary.decode(rows.tokens[0].tolist()))
        '[parity] 1 1 [EoI] 1 0 [EoS]'
    """
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if lengths is None:
        lengths = torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
    states = task.states(inputs) if states is None else states
    index = torch.full((len(inputs),), data.tasks.index(task), device=inputs.device)
    return Encoded(Encoder(data, inputs.device).tokens(index, inputs, states, lengths))
