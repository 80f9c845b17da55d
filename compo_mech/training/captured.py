"""Training steps on a GPU as CUDA graphs: hundreds of small kernels are started by one call, beside those that draw the
next batch."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.packing import Packing
from compo_mech.data.stream import Batch

N_GRAPHS = 64
"""Shapes of batches that are captured; where there are more, the others' steps run kernel by kernel."""
N_AHEAD = 2
"""Batches that are drawn before their steps."""

Noise = dict[str, Tensor]
"""What a step draws beside its batch. Arguments of the forward pass, under their names there: position_shift [*member
batch], embed_mask [*member token d_model]; and label [*member scored], which replaces that of the batch, or -1."""
Drawn = Sequence[tuple[Batch, Noise]]
"""The batches of a step, which hold all members in their order, and the noise of each: one, where all share lengths."""
Update = Callable[[Drawn, Float[Tensor, "*member"]], Float[Tensor, "*member"]]
"""A step: what is drawn, learning rate -> loss."""


@dataclass(frozen=True)
class _Captured:
    """A graph, the tensors that it reads, and the loss that it writes."""

    graph: torch.cuda.CUDAGraph
    drawn: Drawn
    loss: Float[Tensor, "*member"]

    def replay(self, drawn: Drawn) -> Float[Tensor, "*member"]:
        """Take the step on other batches of its shapes; return its loss."""
        for own, new in zip(_parts(self.drawn), _parts(drawn), strict=True):
            own.copy_(new)
        self.graph.replay()
        return self.loss.clone()


class CapturedSteps:
    """Steps that are captured when a shape of batch comes for the second time, and replayed from then on.

    What a step reads beside its arguments (parameters, optimisers' state, index tensors of the packing) must stay where
    it is. The first step of a shape runs kernel by kernel: it makes what is made once. Batches are drawn on a stream of
    their own, while the steps before them run.

    Args:
        update: the step; it must not wait for the device.
        device: a CUDA device.
    """

    def __init__(self, update: Update, device: torch.device) -> None:
        self._update, self._device = update, device
        self._lr = torch.zeros((), device=device)
        self._drawing, self._stepping = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._drawing.wait_stream(torch.cuda.current_stream(device))
        self._done: deque[torch.cuda.Event] = deque(maxlen=N_AHEAD)
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: dict[tuple[object, ...], list[Packing]] = {}  # whose identities are in the key
        self._graphs: dict[tuple[object, ...], _Captured] = {}

    def __call__(self, draw: Callable[[], Drawn], lr: float | Float[Tensor, "member"]) -> Float[Tensor, "*member"]:
        """Draw batches and take their step; return its loss."""
        current = torch.cuda.current_stream(self._device)
        if len(self._done) == N_AHEAD:
            self._drawing.wait_event(self._done[0])
        with torch.cuda.stream(self._drawing):
            drawn = draw()
        current.wait_stream(self._drawing)
        self._put(lr)
        loss = self._step(drawn, current)
        done = torch.cuda.Event()
        done.record(current)
        self._done.append(done)
        return loss

    def _put(self, lr: float | Float[Tensor, "member"]) -> None:
        """Put the learning rates where steps read them; nothing waits."""
        if not isinstance(lr, Tensor):
            self._lr.fill_(lr)
            return
        if self._lr.shape != lr.shape:  # at the first step
            self._lr = torch.zeros(lr.shape, device=self._device)
        self._lr.copy_(lr, non_blocking=True)

    def _step(self, drawn: Drawn, current: torch.cuda.Stream) -> Float[Tensor, "*member"]:
        key = tuple((id(batch.packing), batch.tokens.shape, *noise) for batch, noise in drawn)
        if key in self._seen and key not in self._graphs and len(self._graphs) < N_GRAPHS:
            self._graphs[key] = self._captured(drawn)
        if key in self._graphs:
            for part in _parts(drawn):
                part.record_stream(current)
            return self._graphs[key].replay(drawn)
        if len(self._seen) < N_GRAPHS:
            self._seen[key] = [batch.packing for batch, _ in drawn]
        self._stepping.wait_stream(current)  # gradients must be accumulated on the stream that is captured later
        with torch.cuda.stream(self._stepping):
            loss = self._update(drawn, self._lr)
        current.wait_stream(self._stepping)
        self._drawing.wait_stream(current)  # so that no batch is drawn over this one
        return loss

    def _captured(self, drawn: Drawn) -> _Captured:
        own = [
            (
                replace(batch, tokens=batch.tokens.clone(), task=batch.task.clone(), weight=batch.weight.clone()),
                {name: tensor.clone() for name, tensor in noise.items()},
            )
            for batch, noise in drawn
        ]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stepping):
            loss = self._update(own, self._lr)
        return _Captured(graph, own, loss)


def _parts(drawn: Drawn) -> list[Tensor]:
    """What is drawn anew for each step."""
    return [part for batch, noise in drawn for part in (batch.tokens, batch.task, batch.weight, *noise.values())]
