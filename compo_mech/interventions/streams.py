"""What writers put out, and the streams that it adds up to."""

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.edges import TOK, Writer

Stream = Float[Tensor, "batch pos d_model"]
Outputs = dict[Writer, Stream]


def total_of(outputs: Outputs) -> Stream:
    """The stream that these writers make together.

    >>> total_of({TOK: torch.ones(1, 1, 2), Writer("pos"): torch.tensor([[[0.0, 2.0]]])}).tolist()
    [[[1.0, 3.0]]]
    """
    total = outputs[TOK]
    for writer, out in outputs.items():
        if writer != TOK:
            total = total + out
    return total


class Totals:
    """Streams of one run, each summed on from the one before it, so that the readers of a layer share theirs.

    Writers must come in one order, that of computation, and nothing that is summed may change.

    >>> totals, outputs = Totals(), {TOK: torch.ones(1, 1, 2), Writer("pos"): torch.tensor([[[0.0, 2.0]]])}
    >>> torch.equal(totals.of(outputs), total_of(outputs))
    True
    """

    def __init__(self) -> None:
        self._last: Writer | None = None
        self._n, self._total = 0, torch.zeros(())

    def of(self, outputs: Outputs) -> Stream:
        """`total_of` these writers."""
        writers = list(outputs)
        if self._n == 0 or len(writers) < self._n or writers[self._n - 1] != self._last:
            self._n, self._total = 1, outputs[writers[0]]
        for writer in writers[self._n :]:
            self._total = self._total + outputs[writer]
        self._n, self._last = len(writers), writers[-1]
        return self._total
