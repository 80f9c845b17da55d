"""Between text and token ids: what prompts need of a tokenizer, and that of our own vocabularies."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from compo_mech.data.vocabulary import Vocabulary


@runtime_checkable
class Tokenizer(Protocol):
    """What turns text into token ids and back, such as the tokenizer of a HookedTransformer or of `transformers`.

    >>> from compo_mech import Parity
    >>> isinstance(SymbolTokenizer(Vocabulary((Parity(),))), Tokenizer)
    True
    """

    def encode(self, text: str, /) -> Any:
        """Return the ids of a text, special tokens in front included; or an object that has them as `ids`."""
        ...

    def decode(self, token_ids: Any, /) -> str:
        """Return the text of some ids."""
        ...


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text.

    >>> from compo_mech import Parity
    >>> encoded(SymbolTokenizer(Vocabulary((Parity(),))), "[parity] 1 0 [EoI]")
    [5, 1, 0, 2]
    """
    found = tokenizer.encode(text)
    return [int(i) for i in getattr(found, "ids", found)]


def decoded(tokenizer: Tokenizer | None, ids: Sequence[int]) -> str:
    """Return the text of some ids; without a tokenizer, the ids.

    >>> decoded(None, [5, 1, 2])
    '5 1 2'
    """
    return " ".join(map(str, ids)) if tokenizer is None else tokenizer.decode(ids)


def pieces(tokenizer: Tokenizer | None, ids: Sequence[int]) -> list[str]:
    """Return the text of each token by itself; without a tokenizer, its id.

    >>> from compo_mech import Parity
    >>> pieces(SymbolTokenizer(Vocabulary((Parity(),))), [5, 1, 0, 2])
    ['[parity]', '1', '0', '[EoI]']
    """
    return [decoded(tokenizer, [i]) for i in ids]


@dataclass(frozen=True)
class SymbolTokenizer:
    """A vocabulary of tasks as a tokenizer: symbols with blanks between them, as in `[parity] 1 0 1 [EoI]`.

    Attributes:
        vocabulary: that has the symbols.

    >>> from compo_mech import Parity
    >>> SymbolTokenizer(Vocabulary((Parity(),))).decode([5, 1, 2])
    '[parity] 1 [EoI]'
    """

    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """Return the ids of the symbols.

        Raises:
            ValueError: a symbol is not of the vocabulary.
        """
        # the spelling of a task may have blanks
        spelled = [re.escape(symbol) for symbol in self.vocabulary.symbols if " " in symbol]
        words = "|".join([*(rf"{symbol}(?!\S)" for symbol in spelled), r"\S+"])
        return self.vocabulary.encode(re.findall(words, text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the symbols of the ids.

        Raises:
            ValueError: an id is not of the vocabulary.
        """
        return " ".join(self.vocabulary.decode([int(i) for i in token_ids]))
