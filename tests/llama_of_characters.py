"""A network of llama's kind with a token for each character that prompts use."""

import torch
from helpers import generator

from compo_mech.pretrained.few_shot import FORMS


def llama_of_characters(n_ctx: int = 256):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformers import PreTrainedTokenizerFast

    characters = sorted({c for form in FORMS.values() for part in form for c in part} | set("0123456789"))
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(characters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    cfg = HookedTransformerConfig(
        n_layers=3,
        n_heads=4,
        n_key_value_heads=2,
        d_model=32,
        d_head=8,
        d_mlp=48,
        n_ctx=n_ctx,
        d_vocab=len(characters),
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_dim=8,
    )
    found, draws = HookedTransformer(cfg), generator()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if "b_" not in name.split(".")[-1]:
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=draws) + float(name.endswith(".w")))
    found.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return found
