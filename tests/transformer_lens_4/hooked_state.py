"""Write the state dict of a HookedTransformer, and logits of it, for `check_exchange.py`: to be run with 3.9."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SIZES = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 12, "n_ctx": 6, "d_vocab": 7}


def write(path: Path) -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(HookedTransformerConfig(**SIZES, act_fn="gelu", normalization_type="LN"))
    draws = torch.Generator().manual_seed(0)
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.5, generator=draws)
    tokens = torch.arange(7).repeat(6).view(7, 6)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state | {"tokens": tokens, "logits": model(tokens).detach()}, path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
