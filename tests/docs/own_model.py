"""A network of none of our kinds, with a tokenizer: what the README calls `model`."""

import tokenizers
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import PreTrainedTokenizerFast


def words_of_names() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each word of the README's prompts, as those of language models have them."""
    behind = [f" {word}" for word in ["and", "met", "gave", "a", "drink", "to", "Mary", "John", "Anna", "Paul"]]
    words = ["<s>", "When", *behind, ","]
    pieces = {word.replace(" ", "Ġ"): i for i, word in enumerate(words)}
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel(pieces, unk_token="<s>"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="<s>", pad_token="<s>", eos_token="<s>")


def own_model() -> HookedTransformer:
    cfg = HookedTransformerConfig(
        n_layers=2, n_heads=4, n_key_value_heads=2, d_model=32, d_head=8, d_mlp=48, n_ctx=16, act_fn="silu", seed=0,
        normalization_type="RMS", final_rms=True, gated_mlp=True, positional_embedding_type="rotary", rotary_dim=8,
        default_prepend_bos=False, device="cpu",
    )  # fmt: skip
    return HookedTransformer(cfg, words_of_names())
