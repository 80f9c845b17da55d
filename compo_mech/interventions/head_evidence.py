"""What each head does to answers and logits, alone and beside another: what roles are named by."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_swaps import CARRIES, Followed, Logits, Swaps, logits_change
from compo_mech.interventions.swapped_rows import Content, end_rows, input_rows
from compo_mech.model import blocks
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval

N_ROWS = 256
"""Rows of each kind."""

MAX_HEADS_PAIRED = 9
"""Of more heads only those of one layer are swapped two at a time."""


@dataclass(frozen=True)
class HeadEvidence:
    """What the answers and logits do when one head puts out what it does in another string.

    Attributes:
        at_row: by content, where the head does so at the row alone.
        before: by content, where it does so at every row up to that one; empty in the last layer.
        lead: by how much the right answer's lead over the next grows, of what it is.
        moved: the largest change of the logits, of what they vary, by swapping the head or zeroing it, alone or after
            another head was swapped.
        shares: by content, the heads together with which it carries what neither carries as far alone, and how the
            answers go with it when both are swapped.
    """

    at_row: Mapping[Content, Followed]
    before: Mapping[Content, Followed]
    lead: Interval
    moved: float
    shares: Mapping[Content, Mapping[Writer, Followed]]


@dataclass(frozen=True)
class SwapEvidence:
    """What the answers and logits do when heads put out what they do in another string.

    Attributes:
        heads: when one head does.
        layers: by layer and content, when all its heads do.
        beside: the fraction of the rows of the other strings about which the network is right.
    """

    heads: Mapping[Writer, HeadEvidence]
    layers: Sequence[Mapping[Content, Followed]]
    beside: Interval


@torch.no_grad()
def head_evidence(
    model: Model, data: DataConfig, task: Task, generator: torch.Generator, n_rows: int = N_ROWS
) -> SwapEvidence:
    """What answers and logits do when each head, and every two heads, put out what they do in another string.

    Of more than `MAX_HEADS_PAIRED` heads only those of one layer are swapped two at a time.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        generator: draws the rows.
        n_rows: rows of each kind.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=5)
    >>> found = head_evidence(built.model, built.data, Parity(), torch.Generator().manual_seed(0)).heads
    >>> {str(head): [name for name, one in of.at_row.items() if one.carries(CARRIES)] for head, of in found.items()}
    {'L0H0': ['end'], 'L0H1': [], 'L1H0': ['x'], 'L1H1': []}
    """
    blocks.check_causal(model)
    drawn = (input_rows(data, task, n_rows, generator), end_rows(data, task, n_rows, generator))
    kinds, config = [Swaps(model, rows) for rows in drawn if rows is not None], model.config
    layers = [[Writer("head", layer, head) for head in range(config.n_heads)] for layer in range(config.n_layers)]
    heads = list(itertools.chain(*layers))
    swapped: dict[tuple[Writer, ...], list[Logits]] = {
        (head,): [kind.swapped(head) for kind in kinds] for head in heads
    }
    for pair in itertools.combinations(heads, 2):
        if len(heads) <= MAX_HEADS_PAIRED or pair[0].layer == pair[1].layer:
            swapped[pair] = [kind.swapped(*pair) for kind in kinds]
    moved = {head: max(_moves(head, kinds, swapped)) for head in heads}
    before: dict[Writer, dict[Content, Followed]] = {head: {} for head in heads}
    for kind in kinds:
        for head, everywhere, zeroed in kind.everywhere(heads[: -config.n_heads]):
            before[head] |= kind.followed(everywhere)
            moved[head] = max(moved[head], *(logits_change(of, kind.clean, kind.clean) for of in (everywhere, zeroed)))
    counted = {of: _followed(kinds, logits) for of, logits in swapped.items()}
    leads = {head: kinds[0].lead(swapped[(head,)][0]) for head in heads}
    return SwapEvidence(
        {
            head: HeadEvidence(counted[(head,)], before[head], leads[head], moved[head], _shares(head, counted))
            for head in heads
        },
        [_followed(kinds, [kind.swapped(*layer) for kind in kinds]) for layer in layers],
        kinds[0].beside,
    )


def _moves(
    head: Writer, kinds: Sequence[Swaps], swapped: Mapping[tuple[Writer, ...], Sequence[Logits]]
) -> Iterator[float]:
    """How far the logits move when a head is zeroed, and when it is swapped, alone or after another was."""
    for i, kind in enumerate(kinds):
        yield logits_change(kind.zeroed(head), kind.clean, kind.clean)
        for heads, logits in swapped.items():
            if head in heads:
                others = tuple(other for other in heads if other != head)
                yield logits_change(logits[i], swapped[others][i] if others else kind.clean, kind.clean)


def _followed(kinds: Sequence[Swaps], logits: Sequence[Logits]) -> dict[Content, Followed]:
    found: dict[Content, Followed] = {}
    for kind, swapped in zip(kinds, logits, strict=True):
        found |= kind.followed(swapped)
    return found


def _shares(
    head: Writer, counted: Mapping[tuple[Writer, ...], Mapping[Content, Followed]]
) -> dict[Content, dict[Writer, Followed]]:
    """By content, the heads together with which a head carries it, and neither carries it as far alone."""
    found: dict[Content, dict[Writer, Followed]] = {}
    for pair, together in counted.items():
        if len(pair) == 1 or head not in pair:
            continue
        for content, joint in together.items():
            alone = max(counted[(one,)][content].carried.high for one in pair)
            if joint.carries(CARRIES) and joint.carried.low > alone:
                (other,) = (one for one in pair if one != head)
                found.setdefault(content, {})[other] = joint
    return found
