"""The randomly initialised control of a language model."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@torch.no_grad()
def control_of(model: "HookedTransformer", generator: torch.Generator) -> "HookedTransformer":
    """Return a network of the same shape and tokenizer that nobody trained.

    Each matrix is drawn from N(0, 0.64 / d_model), TransformerLens' default; gains are 1, biases 0, and the unembedding
    is the embedding's transpose where it is the model's.
    """
    from transformer_lens import HookedTransformer

    control = HookedTransformer(model.cfg)
    scale = 0.8 / model.cfg.d_model**0.5
    for name, parameter in control.named_parameters():
        last = name.split(".")[-1].removeprefix("_")
        if last.startswith("W"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        else:
            parameter.fill_(float(last == "w"))
    if torch.equal(model.W_U, model.W_E.T):
        control.unembed.W_U.copy_(control.W_E.T)
    control.tokenizer = model.tokenizer
    control.cfg.tokenizer_prepends_bos = model.cfg.tokenizer_prepends_bos
    return control.eval()
