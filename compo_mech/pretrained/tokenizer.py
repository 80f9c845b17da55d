"""The tokenizer that a GGUF file brings, as transformers has them: byte pairs, without a token in front of its own."""

from typing import TYPE_CHECKING

from compo_mech.pretrained.gguf_file import GGUFFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTROL = 3
"""The token type of GGUF that is never a part of a text."""

SPLITS_DIGITS = {"smollm": True, "gpt-2": False}
"""Whether each digit is a token of its own, by the name of what cuts a text before its bytes are paired."""


def tokenizer_of(file: GGUFFile) -> "PreTrainedTokenizerFast":
    """Build the tokenizer of a language model.

    Raises:
        ValueError: the file has a tokenizer of another kind, or one that is damaged.
    """
    for name, known in (("model", ("gpt2",)), ("pre", tuple(SPLITS_DIGITS))):
        value = file.field(f"tokenizer.ggml.{name}")
        if value not in known:
            raise ValueError(f"tokenizer.ggml.{name} = {value}: must be {' or '.join(known)}")
    try:
        return _built(file)
    except ValueError:
        raise
    except Exception as error:  # tokenizers raises no narrower one
        why = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{file.path}: must have a whole tokenizer ({why[0]})") from None


def _built(file: GGUFFile) -> "PreTrainedTokenizerFast":
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = file.field("tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in file.field("tokenizer.ggml.merges")]
    types: list[int] = file.field("tokenizer.ggml.token_type")
    built = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    by_byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if SPLITS_DIGITS[file.field("tokenizer.ggml.pre")]:
        by_byte = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_byte])
    built.pre_tokenizer = by_byte
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL])
    special = {
        f"{name}_token": tokens[file.field(f"tokenizer.ggml.{key}_token_id")]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if f"tokenizer.ggml.{key}_token_id" in file.field_names()
    }
    special.setdefault("pad_token", special.get("eos_token", tokens[0]))  # TransformerLens pads any list of texts
    return PreTrainedTokenizerFast(tokenizer_object=built, clean_up_tokenization_spaces=False, **special)
