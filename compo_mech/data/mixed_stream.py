"""Training batches of many networks whose data settings differ: a stream for each setting, drawn from side by side."""

import itertools
from collections.abc import Iterator, Sequence

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.stream import Batch, TrainingStream


class MixedStream:
    """Training batches of members that may differ in the mixture of tasks and lengths, its course, and loss weights.

    Every member draws what it would draw alone. Neighbours of one setting share a stream, and neighbours whose lengths
    are the same at a step share a batch, so members that share either should stand beside each other.

    Args:
        configs: one a member, of the same tasks and batch size.
        seeds: of the fixed training sets, if there are any: one a member.
        device: where batches, and the generators, live.

    Example:
        >>> import torch
        >>> from compo_mech.data import DataConfig, MixedStream
        >>> short, long = (DataConfig(max_length=2, length_weights=weights) for weights in ((1, 0), (0, 1)))
        >>> stream = MixedStream([short, short, long], seeds=[0, 1, 2])
        >>> [batch.tokens.shape[0] for batch in stream.batches(1, [torch.Generator() for _ in range(3)])]
        [2, 1]
    """

    def __init__(self, configs: Sequence[DataConfig], seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.config, self.device = configs[0], torch.device(device)
        runs = [list(same) for _, same in itertools.groupby(zip(configs, seeds, strict=True), key=lambda one: one[0])]
        self._streams = [TrainingStream(same[0][0], [seed for _, seed in same], device) for same in runs]
        self._sizes = [len(same) for same in runs]

    def batches(self, step: int, generators: torch.Generator | Sequence[torch.Generator]) -> list[Batch]:
        """Draw the batches of this step (from 1), which hold the members in their order.

        Args:
            step: from 1.
            generators: on the stream's device, one a member.

        Raises:
            ValueError: there is one for all members.
        """
        if isinstance(generators, torch.Generator):
            raise ValueError("generators = one: must be one a member of a mixed stream")
        return list(self._batches(step, generators))

    def _batches(self, step: int, generators: Sequence[torch.Generator]) -> Iterator[Batch]:
        drawn = iter(generators)
        of_each = zip(self._streams, self._sizes, strict=True)
        for _, some in itertools.groupby(of_each, key=lambda one: one[0].counts(step)):
            parts = [stream.batch(step, list(itertools.islice(drawn, n))) for stream, n in some]
            yield parts[0] if len(parts) == 1 else _joined(parts)


def stream_of(
    configs: Sequence[DataConfig], seeds: Sequence[int], device: torch.device | str = "cpu"
) -> TrainingStream | MixedStream:
    """Return the stream of these members: one that all share, or where their settings differ a mixed one.

    Args:
        configs, seeds: one a member.
        device: where batches, and the generators, live.

    Example:
        >>> from compo_mech.data import DataConfig, stream_of
        >>> type(stream_of([DataConfig(), DataConfig()], seeds=[0, 1])).__name__
        'TrainingStream'
    """
    if all(config == configs[0] for config in configs):
        return TrainingStream(configs[0], seeds, device)
    return MixedStream(configs, seeds, device)


def _joined(parts: Sequence[Batch]) -> Batch:
    """Join batches of the same lengths along their members."""
    tokens, task, weight = (torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "task", "weight"))
    return Batch(tokens, task, weight, parts[0].packing)
