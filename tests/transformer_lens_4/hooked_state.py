"""Write for `check_exchange.py` what a HookedTransformer says: to be run with 3.9.

A small one's state dict and logits, and logits of the language model that SMOLLM2 names.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from compo_mech.pretrained.smollm2 import smollm2

SIZES = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 12, "n_ctx": 6, "d_vocab": 7}


def write(path: Path) -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(HookedTransformerConfig(**SIZES, act_fn="gelu", normalization_type="LN"))
    draws = torch.Generator().manual_seed(0)
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.5, generator=draws)
    tokens = torch.arange(7).repeat(6).view(7, 6)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    said = {"tokens": tokens, "logits": model(tokens).detach()}
    language_model = smollm2(os.environ["SMOLLM2"], n_ctx=64)
    said["smollm2.tokens"] = torch.randint(0, 49152, (2, 40), generator=draws)
    with torch.no_grad():
        said["smollm2.logits"] = language_model(said["smollm2.tokens"])
    save_file(state | said, path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
