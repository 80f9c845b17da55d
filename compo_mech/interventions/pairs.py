"""Clean and corrupt inputs, with one switch for each variable that may differ between them.

A counterfactual can only reveal what it changes: an edge from `pos` has no effect on pairs with equal position ids.
`Switch` says what differs; switches combine.

Where the rows of a pair differ in length, some positions are read in one of them alone, and hold padding in the other.
Nothing is scored there. No scored row sees a later position, so that no padding enters any score, and a patch at such a
position does nothing. So late answers to long strings are asked less often, and the last ones to the longest never.

`make_pairs` draws pairs of a task; `Pairs.of` makes them of anybody's prompts, for any network that reads tokens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.layout import Rows, Span
from compo_mech.data.packing import Packing
from compo_mech.data.tasks import Task
from compo_mech.data.tokenizer import Tokenizer
from compo_mech.interventions.prompt_table import Answers, Positions, prompt_table
from compo_mech.interventions.prompts import Prompt, PromptReader, PromptRows, Where
from compo_mech.interventions.switches import Switch, corrupt_rows, other_lengths, strings
from compo_mech.model.params import Model

CorruptKind = Literal["trained", "shifted", "altered"]


@dataclass(frozen=True)
class Pairs:
    """Clean and corrupt inputs of equal shape, and the positions and answers that a metric needs.

    Attributes:
        clean_tokens, corrupt_tokens: what is read; shorter rows are padded.
        clean_position_ids, corrupt_position_ids: from which position embeddings are looked up.
        row, position: the scored positions of the clean input, all of which are read in both inputs.
        target: the right token at each of them, on the clean input.
        foil: the token that follows the same position in the corrupt input.
        lengths, corrupt_lengths: of the clean and of the corrupt strings.
        layout: where their tokens sit.
        corrupt_kind: what the corrupt rows are: `trained`, strings that the network should be right about; `shifted`,
            strings whose position ids are shifted further than it is known to be trained on; `altered`, rows whose
            states are not those of a string, or prompts that the foil is not the answer to.
        spans: where spans lie that the layout does not know, by name.
        tokenizer: that says what tokens mean; None: they are shown as numbers.

    Raises:
        ValueError: the inputs differ in shape, nothing is scored, something is where one of the inputs is not read, or
            there is no such kind of corrupt rows.

    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> pairs.where(Span("inputs")).sum(1).tolist() == pairs.lengths.tolist()
    True
    """

    # underscores: that the four are of one shape is checked below, with an error of one line
    clean_tokens: Int[Tensor, "_batch _pos"]
    corrupt_tokens: Int[Tensor, "_batch _pos"]
    clean_position_ids: Int[Tensor, "_batch _pos"]
    corrupt_position_ids: Int[Tensor, "_batch _pos"]
    row: Int[Tensor, "scored"]
    position: Int[Tensor, "scored"]
    target: Int[Tensor, "scored"]
    foil: Int[Tensor, "scored"]
    lengths: Int[Tensor, "batch"]
    corrupt_lengths: Int[Tensor, "batch"]
    layout: Rows
    corrupt_kind: CorruptKind
    spans: Mapping[str, Bool[Tensor, "_batch _pos"]] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        inputs = (self.clean_tokens, self.corrupt_tokens, self.clean_position_ids, self.corrupt_position_ids)
        if len({ids.shape for ids in inputs}) > 1:
            shapes = ", ".join(str(tuple(ids.shape)) for ids in inputs)
            raise ValueError(f"pairs = {shapes}: clean and corrupt inputs must be of one shape")
        _check_kind(self.corrupt_kind)
        if not len(self.row):
            raise ValueError("pairs = no scored position: a metric needs at least one")
        n_outside = int((~self.both_read[self.row, self.position]).sum())
        if n_outside:
            raise ValueError(f"pairs = {n_outside} scored positions in padding: must be read in both inputs")

    @classmethod
    def of(
        cls,
        model: Model,
        clean: Iterable[Prompt],
        corrupt: Iterable[Prompt],
        answer: Iterable[Answers],
        foil: Iterable[Answers],
        *,
        position: Iterable[Positions] | None = None,
        spans: Mapping[str, Where | Iterable[Where]] | None = None,
        tokenizer: Tokenizer | None = None,
        prepend_bos: bool = False,
        corrupt_kind: CorruptKind = "trained",
    ) -> "Pairs":
        """Make pairs of prompts of one's own, as texts or as token ids.

        The two prompts of a pair are best of one length, so that each token has its counterpart. Rows of different
        lengths are padded on their right, where nothing is scored or patched.

        Args:
            model: that reads them.
            clean, corrupt: prompts, one pair a row: lists, tensors or columns of a table, as all that follow.
            answer, foil: one token each: what follows the clean and the corrupt prompt, as texts or ids; several a row
                where `position` names several.
            position: where each row answers, counted from its end where negative; None: at its last token.
            spans: named stretches of the clean rows: a position, a range of them or a text, in all rows or in each.
            tokenizer: of the texts; None: the model's.
            prepend_bos: whether to put the tokenizer's `bos_token_id` in front of texts.
            corrupt_kind: `trained` where the foil is the right answer to the corrupt prompt, else `altered`.

        Raises:
            ValueError: one line that names the prompt, and what is wrong with it, its answer, foil, position or span.

        >>> from compo_mech import Parity, build
        >>> built = build(Parity(), max_length=3)
        >>> pairs = Pairs.of(built.model, [[5, 1, 0, 1, 2]], [[5, 0, 0, 1, 2]], [1], [0], spans={"x1": 1})
        >>> pairs.target.tolist(), pairs.foil.tolist(), pairs.where(Span("x1")).int().tolist()
        ([1], [0], [[0, 1, 0, 0, 0]])
        """
        _check_kind(corrupt_kind)
        reader = PromptReader(model, tokenizer := tokenizer or model.tokenizer, prepend_bos)
        prompts, answers = {"clean": clean, "corrupt": corrupt}, {"answer": answer, "foil": foil}
        found = prompt_table(reader, prompts, answers, position, spans or {})
        position_ids = torch.arange(found.clean.shape[1]).expand_as(found.clean)
        return cls(
            clean_tokens=found.clean,
            corrupt_tokens=found.corrupt,
            clean_position_ids=position_ids,
            corrupt_position_ids=position_ids,
            row=found.row,
            position=found.position,
            target=found.target,
            foil=found.foil,
            lengths=found.lengths,
            corrupt_lengths=found.corrupt_lengths,
            layout=PromptRows(tuple(found.spans)),
            corrupt_kind=corrupt_kind,
            spans=found.spans,
            tokenizer=tokenizer,
        ).to(model.device)

    @property
    def read(self) -> Bool[Tensor, "batch pos"]:
        """True where the clean rows have tokens, False in their padding."""
        return is_read(self.layout, self.lengths, self.clean_tokens.shape[1])

    @property
    def both_read(self) -> Bool[Tensor, "batch pos"]:
        """True where the clean and the corrupt row both have tokens."""
        return self.read & is_read(self.layout, self.corrupt_lengths, self.clean_tokens.shape[1])

    @property
    def foil_is_answer(self) -> Bool[Tensor, "scored"]:
        """True where the foil is the right answer to the corrupt input."""
        return (self.position >= self.layout.first_scored(self.corrupt_lengths)[self.row]) & (
            self.corrupt_kind != "altered"
        )

    def where(self, span: Span) -> Bool[Tensor, "batch pos"]:
        """True where a span of the clean rows lies.

        Raises:
            ValueError: no row has it, or there is no such span.
        """
        named = self.spans.get(span.kind if span.n is None else str(span), self.spans.get(str(span)))
        return self.layout.where(span, self.lengths, self.clean_tokens.shape[1]) if named is None else named

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is read and scored, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on a device."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return replace(self, **tensors, spans={name: where.to(device) for name, where in self.spans.items()})


def is_read(layout: Rows, lengths: Int[Tensor, "batch"], n_pos: int) -> Bool[Tensor, "batch pos"]:
    """True where rows of these lengths have tokens, False in their padding.

    >>> from compo_mech.data.layout import Layout
    >>> is_read(Layout(), torch.tensor([1, 2]), 6).sum(1).tolist()
    [4, 6]
    """
    return torch.arange(n_pos, device=lengths.device) < layout.n_read(lengths)[:, None]


def make_pairs(
    data: DataConfig,
    switch: Switch,
    n_rows: int,
    generator: torch.Generator,
    max_shift: int = 4,
    task: Task | None = None,
) -> Pairs:
    """Draw pairs of one task, with lengths drawn uniformly from those that training asks about.

    Args:
        data: task, lengths and layout.
        switch: what differs. TOKEN and LENGTH draw new strings; STATE and END change the tokens that they name in
            whatever string the corrupt input has by then.
        n_rows: pairs.
        generator: source of the strings.
        max_shift: largest shift of position ids, which is at least 1 where SHIFT is on.
        task: one of the data's; None: its first.

    Raises:
        ValueError: the switch is empty, or needs other lengths where there is only one; the task is not one of the
            data's, or has no other state; there is no shift or no row.

    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.SHIFT, 4, torch.Generator().manual_seed(0))
    >>> torch.equal(pairs.clean_tokens, pairs.corrupt_tokens)
    True
    >>> bool((pairs.corrupt_position_ids > pairs.clean_position_ids).all())
    True
    """
    task = task or data.tasks[0]
    _check(data, switch, n_rows, max_shift, task)
    layout, drawn = data.layout, torch.tensor(data.drawn_lengths)
    lengths = drawn[torch.randint(len(drawn), (n_rows,), generator=generator)]
    inputs = strings(task, n_rows, data.max_length, generator)
    clean = encode(data, task, inputs, lengths)
    other = other_lengths(layout, drawn, lengths, generator) if Switch.LENGTH in switch else lengths
    corrupt = corrupt_rows(data, task, switch, inputs, other, generator)
    packing = Packing.of_lengths(layout, lengths.tolist())
    shift = torch.randint(1, max_shift + 1, (n_rows, 1), generator=generator) if Switch.SHIFT in switch else 0
    row, position = packing.scored_row, packing.scored_position
    kept = is_read(layout, other, clean.read.shape[1])[row, position]
    row, position = row[kept], position[kept]
    return Pairs(
        clean_tokens=clean.read,
        corrupt_tokens=corrupt.read,
        clean_position_ids=clean.position_ids,
        corrupt_position_ids=corrupt.position_ids + shift,
        row=row,
        position=position,
        target=clean.tokens[row, position + 1],
        foil=corrupt.tokens[row, position + 1],
        lengths=lengths,
        corrupt_lengths=other,
        layout=layout,
        corrupt_kind=_corrupt_kind(switch),
    )


def _check(data: DataConfig, switch: Switch, n_rows: int, max_shift: int, task: Task) -> None:
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if n_rows < 1:
        raise ValueError(f"n_rows = {n_rows}: must be at least 1")
    if max_shift < 1 and Switch.SHIFT in switch:
        raise ValueError(f"max_shift = {max_shift}: must be at least 1 for pairs that shift")
    if not switch:
        raise ValueError("switch = none: pairs need something to differ in")
    if Switch.STATE in switch and task.n_states < 2:
        raise ValueError(f"switch = STATE: {task} must have more than one state")
    if Switch.LENGTH in switch and len(data.drawn_lengths) < 2:
        raise ValueError("switch = LENGTH: the data must have more than one length")


def _check_kind(kind: str) -> None:
    known = get_args(CorruptKind)
    if kind not in known:
        raise ValueError(f"corrupt_kind = {kind!r}: must be one of {', '.join(known)}")


def _corrupt_kind(switch: Switch) -> CorruptKind:
    if switch & (Switch.STATE | Switch.END):
        return "altered"
    return "shifted" if Switch.SHIFT in switch else "trained"
