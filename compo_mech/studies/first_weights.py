"""What a network's weights are like, in a few numbers: how large matrices are, and how much one reads of another."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.model.params import Params

MATRICES = (
    "embed.W_E", "pos_embed.W_pos", "unembed.W_U",
    *(f"blocks.{layer}.attn.W_{x}" for layer in (0, 1) for x in "QKVO"),
    *(f"blocks.{layer}.mlp.W_{x}" for layer in (0, 1) for x in ("in", "out")),
)  # fmt: skip
READERS = ("Q", "K", "V")
WEIGHTS = [
    *(f"{name} {what}" for name in MATRICES for what in ("norm", "stable rank")),
    *(f"{writer} into L1H0 {reader}" for writer in ("L0H0", "mlp0") for reader in READERS),
]
"""What `weight_measures` measures."""


@torch.no_grad()
def weight_measures(params: Params) -> dict[str, Float[np.ndarray, "member"]]:
    """Measure the weights of stacked networks of two layers of one head.

    Of each matrix its Frobenius norm and its stable rank, the squared ratio of that to its largest singular value; and
    composition scores of what layer 0 writes and layer 1's head reads, |AB| / (|A||B|) in Frobenius norms (Elhage et
    al. 2021), of the head by W_V W_O, of the MLP by W_in W_out, without its nonlinearity.

    Args:
        params: each [member, ...].
    """
    plain = {name: params[name].squeeze(1) if ".attn." in name else params[name] for name in MATRICES}
    found: dict[str, Tensor] = {}
    for name, matrix in plain.items():
        norm = torch.linalg.matrix_norm(matrix)
        found[f"{name} norm"] = norm
        found[f"{name} stable rank"] = (norm / torch.linalg.matrix_norm(matrix, ord=2)).square()
    written = {
        "L0H0": plain["blocks.0.attn.W_V"] @ plain["blocks.0.attn.W_O"],
        "mlp0": plain["blocks.0.mlp.W_in"] @ plain["blocks.0.mlp.W_out"],
    }
    for writer, out in written.items():
        for reader in READERS:
            read = plain[f"blocks.1.attn.W_{reader}"]
            both = torch.linalg.matrix_norm(out @ read)
            found[f"{writer} into L1H0 {reader}"] = (
                both / torch.linalg.matrix_norm(out) / torch.linalg.matrix_norm(read)
            )
    return {name: value.cpu().numpy() for name, value in found.items()}
