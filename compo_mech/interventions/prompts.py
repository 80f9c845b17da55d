"""Prompts of one's own as token ids: what is read, which tokens answer, and where named spans lie."""

import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NoReturn

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.layout import Span
from compo_mech.data.tokenizer import Tokenizer, encoded, pieces
from compo_mech.model.blocks import unembedding
from compo_mech.model.params import Model
from compo_mech.settings import quoted, shown

Prompt = str | Sequence[int] | Int[Tensor, "_pos"]  # underscore: rows differ in length
"""A text, or the ids of its tokens."""

Answer = str | int
"""One token: what follows the prompt, or its id."""

Where = int | range | str
"""Of a row: a position, counted from the row's end where it is negative; a range of positions; or a text in it."""


@dataclass(frozen=True)
class PromptRows:
    """Rows of prompts, which are read to their end and may answer at every position.

    Attributes:
        names: of their spans.

    >>> PromptRows(("subject",)).n_read(torch.tensor([3, 5])).tolist()
    [3, 5]
    """

    names: tuple[str, ...] = ()

    def n_read(self, length):
        """Return how many tokens are read: all."""
        return length

    def first_scored(self, length):
        """Return the first position that may answer."""
        return length * 0

    def where(self, span: Span, lengths: Int[Tensor, "batch"], n_pos: int) -> Bool[Tensor, "batch pos"]:
        """Refuse a span, since the pairs themselves hold all that these rows have.

        Raises:
            ValueError: there is no such span.
        """
        raise ValueError(f"span = {span}: must be one of {', '.join(self.names) or 'none, the pairs name no spans'}")


@dataclass(frozen=True)
class PromptReader:
    """How a network reads prompts.

    Attributes:
        model: that reads them.
        tokenizer: of texts; None: all are token ids.
        prepend_bos: whether texts begin with the tokenizer's `bos_token_id`.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.data.tokenizer import SymbolTokenizer
    >>> built = build(Parity(), max_length=3)
    >>> reader = PromptReader(built.model, SymbolTokenizer(built.data.vocabulary))
    >>> reader.tokens("clean[0]", "[parity] 1 0 [EoI]"), reader.answer("answer[0]", " 1", "[parity] 1 0 [EoI]")
    ([5, 1, 0, 2], 1)
    """

    model: Model
    tokenizer: Tokenizer | None
    prepend_bos: bool = False

    def tokens(self, name: str, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt.

        Args:
            name: of the prompt, for what is said about it.
            prompt: a text, or its tokens.

        Raises:
            ValueError: there is none, it is too long, an id is no integer or not one of the network's, or a text has no
                tokenizer.
        """
        if isinstance(prompt, str):
            ids = self._bos() + self._encoded(name, prompt, first=not self.prepend_bos)
        else:
            ids = _token_ids(name, prompt)
        if not ids:
            refuse(name, quoted(""), "must have at least one token")
        if len(ids) > self.model.n_ctx:
            refuse(name, f"{len(ids)} tokens", f"must be at most {self.model.n_ctx}, what the model reads")
        self._check(name, ids, self.model.d_vocab)
        return ids

    def answer(self, name: str, answer: Answer, prompt: Prompt | None) -> int:
        """Return the id of an answer.

        A text is what follows the prompt, with the blank that stands before it, if there is one. Where it is written
        together with the prompt's last token, it is read by itself.

        Args:
            name: of the answer, for what is said about it.
            answer: a text, or its token.
            prompt: in front of it; None: it is read by itself.

        Raises:
            ValueError: it is not one token of the network's.
        """
        if not isinstance(answer, str):
            self._check(name, [answer], self._n_answers)
            return answer
        if not answer:
            refuse(name, quoted(""), "must be one token")
        alone = self._encoded(name, answer)
        continued = self._continued(prompt, answer) if isinstance(prompt, str) else None
        found = alone if continued is None or (len(continued) != 1 and len(alone) == 1) else continued
        if len(found) != 1:
            tokens = " ".join(map(repr, pieces(self.tokenizer, found)))
            refuse(name, quoted(answer), f"must be one token, and is {len(found)}: {tokens}")
        self._check(name, found, self._n_answers)
        return found[0]

    def span(self, name: str, where: Where, ids: Sequence[int]) -> range:
        """Return the positions of a stretch of a row.

        Args:
            name: of the span, for what is said about it.
            where: it lies.
            ids: of the row.

        Raises:
            ValueError: the row does not have it, or a text is there more than once.
        """
        n = len(ids)
        if isinstance(where, str):
            return self._substring(name, where, ids)
        if isinstance(where, range):
            if where.step != 1 or not 0 <= where.start < where.stop <= n:
                refuse(name, where, f"must lie within the {n} tokens of its row")
            return where
        if not -n <= where < n:
            refuse(name, where, f"must be {-n} .. {n - 1}, a position of its row")
        return range(where % n, where % n + 1)

    def _bos(self) -> list[int]:
        if not self.prepend_bos:
            return []
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if not isinstance(bos, int):
            refuse("prepend_bos", True, "must be False for a tokenizer without a bos_token_id")
        return [bos]

    def _encoded(self, name: str, text: str, first: bool = False) -> list[int]:
        """The tokens of a text; where it is not the first of its row, without those in front of every text."""
        if self.tokenizer is None:
            refuse(name, quoted(text), "must be token ids, or there must be a tokenizer")
        try:
            ids = encoded(self.tokenizer, text)
        except ValueError as error:  # a symbol that the vocabulary has not
            refuse(name, quoted(text), f"must be what the tokenizer reads ({error})")
        before = encoded(self.tokenizer, "")
        return ids if first or ids[: len(before)] != before else ids[len(before) :]

    def _continued(self, prompt: str, answer: str) -> list[int] | None:
        """The tokens that an answer adds to its prompt; None where they are not told apart."""
        assert self.tokenizer is not None
        before = encoded(self.tokenizer, prompt)
        try:
            whole = encoded(self.tokenizer, prompt + answer)
        except (ValueError, KeyError):  # a tokenizer of words, to which both together are an unknown one
            return None
        return whole[len(before) :] if whole[: len(before)] == before and len(whole) > len(before) else None

    def _substring(self, name: str, text: str, ids: Sequence[int]) -> range:
        if self.tokenizer is None:
            refuse(name, quoted(text), "must be positions, or there must be a tokenizer")
        whole = self.tokenizer.decode(list(ids))
        n_found = whole.count(text) if text else 0
        if n_found != 1:
            refuse(name, quoted(text), f"must be in its row once, and is {n_found} times in {quoted(whole)}")
        start = whole.index(text)
        ends = [len(self.tokenizer.decode(list(ids[: i + 1]))) for i in range(len(ids))]
        touched = [i for i, end in enumerate(ends) if end > start and (ends[i - 1] if i else 0) < start + len(text)]
        return range(touched[0], touched[-1] + 1)

    @property
    def _n_answers(self) -> int:
        """How many tokens have a logit: a network may read more of them, or fewer."""
        return unembedding(self.model).shape[-1]

    def _check(self, name: str, ids: Sequence[int], n_known: int) -> None:
        for i in ids:
            if not 0 <= i < n_known:
                refuse(name, f"token {i}", f"must be 0 .. {n_known - 1}, what the model knows")


def integer(value: object) -> int | None:
    """Return an integer of any library as one of Python's; None where it is none, or a truth value.

    >>> integer(torch.tensor(3)), integer(3.0), integer("3"), integer(True)
    (3, None, None, None)
    """
    if isinstance(value, Tensor):
        value = value.item() if value.ndim == 0 else None
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def several(given: object) -> list | None:
    """Return what is in a sequence, a tensor or a column of a table; None where it has no order, or is a text.

    >>> several(torch.tensor([3, 4])), several("34"), several(3)
    ([tensor(3), tensor(4)], None, None)
    """
    if isinstance(given, str | bytes | bytearray | Mapping | Set):
        return None
    try:
        return list(given)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except TypeError:
        return None


def _token_ids(name: str, prompt: object) -> list[int]:
    found = several(prompt)
    if found is None:
        refuse(name, shown(prompt), "must be a text or a list of token ids")
    ids: list[int] = []
    for i, value in enumerate(found):
        token = integer(value)
        if token is None:
            refuse(f"{name}[{i}]", shown(value), "must be a token id, which is an integer")
        ids.append(token)
    return ids


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Say in one line what is wrong with a prompt.

    Raises:
        ValueError: always.

    >>> refuse("answer[3]", quoted(" Mary Ann"), "must be one token")
    Traceback (most recent call last):
    ValueError: answer[3] = ' Mary Ann': must be one token
    """
    raise ValueError(f"{name} = {value}: {allowed}")


def padded(rows: Sequence[Sequence[int]], n_pos: int) -> Int[Tensor, "batch pos"]:
    """Return rows of tokens as one table; what stands behind a row's end is never read.

    >>> padded([[3, 4], [5]], n_pos=3).tolist()
    [[3, 4, 0], [5, 0, 0]]
    """
    return torch.tensor([[*row, *(0 for _ in range(n_pos - len(row)))] for row in rows])
