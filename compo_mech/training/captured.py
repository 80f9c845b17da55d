"""Training steps on a GPU as CUDA graphs: hundreds of small kernels are started by one call, beside those that draw the
next batch."""

from collections import deque
from collections.abc import Callable
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

Drawn = tuple[Batch, dict[str, Tensor]]
"""A batch, and the noise of its step."""
Update = Callable[[Batch, dict[str, Tensor], Float[Tensor, ""]], Float[Tensor, "*member"]]
"""A step: batch, noise, learning rate -> loss."""


@dataclass(frozen=True)
class _Captured:
    """A graph, the tensors that it reads, and the loss that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    noise: dict[str, Tensor]
    loss: Float[Tensor, "*member"]

    def replay(self, batch: Batch, noise: dict[str, Tensor]) -> Float[Tensor, "*member"]:
        """Take the step on another batch of its shape; return its loss."""
        for own, new in zip(_parts(self.batch, self.noise), _parts(batch, noise), strict=True):
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
        self._seen: dict[tuple[object, ...], Packing] = {}  # whose identity is in the key
        self._graphs: dict[tuple[object, ...], _Captured] = {}

    def __call__(self, draw: Callable[[], Drawn], lr: float) -> Float[Tensor, "*member"]:
        """Draw a batch and take its step; return its loss."""
        current = torch.cuda.current_stream(self._device)
        if len(self._done) == N_AHEAD:
            self._drawing.wait_event(self._done[0])
        with torch.cuda.stream(self._drawing):
            batch, noise = draw()
        current.wait_stream(self._drawing)
        self._lr.fill_(lr)
        loss = self._step(batch, noise, current)
        done = torch.cuda.Event()
        done.record(current)
        self._done.append(done)
        return loss

    def _step(self, batch: Batch, noise: dict[str, Tensor], current: torch.cuda.Stream) -> Float[Tensor, "*member"]:
        key = (id(batch.packing), batch.tokens.shape, *noise)
        if key in self._seen and key not in self._graphs and len(self._graphs) < N_GRAPHS:
            self._graphs[key] = self._captured(batch, noise)
        if key in self._graphs:
            for part in _parts(batch, noise):
                part.record_stream(current)
            return self._graphs[key].replay(batch, noise)
        if len(self._seen) < N_GRAPHS:
            self._seen[key] = batch.packing
        self._stepping.wait_stream(current)  # gradients must be accumulated on the stream that is captured later
        with torch.cuda.stream(self._stepping):
            loss = self._update(batch, noise, self._lr)
        current.wait_stream(self._stepping)
        self._drawing.wait_stream(current)  # so that no batch is drawn over this one
        return loss

    def _captured(self, batch: Batch, noise: dict[str, Tensor]) -> _Captured:
        own = replace(batch, tokens=batch.tokens.clone(), task=batch.task.clone(), weight=batch.weight.clone())
        own_noise = {name: tensor.clone() for name, tensor in noise.items()}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stepping):
            loss = self._update(own, own_noise, self._lr)
        return _Captured(graph, own, own_noise, loss)


def _parts(batch: Batch, noise: dict[str, Tensor]) -> list[Tensor]:
    """What is drawn anew for each step."""
    return [batch.tokens, batch.task, batch.weight, *noise.values()]
