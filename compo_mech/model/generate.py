"""Generation token by token, with the keys and values of what was read before."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model.blocks import grid, heads_out, logits, mlp, norm, project
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Params

# positions have no name, since a call adds to them
Past = list[tuple[Float[Tensor, "batch head _ d_head"], Float[Tensor, "batch head _ d_head"]]]
"""Keys and values of every layer at the positions read so far; empty before the first."""


def read_on(
    params: Params, config: ModelConfig, tokens: Int[Tensor, "batch new"], past: Past
) -> Float[Tensor, "batch d_vocab"]:
    """Logits of the last position, given the keys and values of those before; `past` is brought up to date.

    Args:
        params: parameters under HookedTransformer's names.
        config: the network that they belong to.
        tokens: one or more that follow what was read, rows of one length.
        past: of the rows, changed in place.
    """
    n, n_new = tokens.shape
    n_before = past[0][0].shape[2] if past else 0
    position = torch.arange(n_before, n_before + n_new, device=tokens.device)
    later = torch.arange(n_before + n_new, device=tokens.device) > position[:, None]
    x = (params["embed.W_E"][tokens] + params["pos_embed.W_pos"][position]).flatten(0, 1)
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        normed = norm(params, config, f"{block}.ln1", x)
        key, value = (grid(project(params, config, block, w, normed), None, (n, n_new), config.n_heads) for w in "KV")
        if layer < len(past):
            key, value = (torch.cat(pair, 2) for pair in zip(past[layer], (key, value), strict=True))
            past[layer] = key, value
        else:
            past.append((key, value))
        if layer == config.n_layers - 1:  # no one needs the rows before the last
            x, normed, later = x[n_new - 1 :: n_new], normed[n_new - 1 :: n_new], later[-1:]
        query = grid(project(params, config, block, "Q", normed), None, (n, len(later)), config.n_heads)
        scores = query @ key.transpose(-1, -2) / math.sqrt(config.head_width)
        z = (scores.masked_fill(later, -torch.inf).softmax(-1) @ value).transpose(1, 2).flatten(2).flatten(0, 1)
        x = x + heads_out(params, config, block, z)
        x = x + mlp(params, config, block, norm(params, config, f"{block}.ln2", x))
    return logits(params, config, x)


@torch.no_grad()
def generate(
    params: Params, model: ModelConfig, prompts: Int[Tensor, "batch pos"], n_new: int
) -> Int[Tensor, "batch n_new"]:
    """The likeliest continuation, token by token, of prompts of one length."""
    past: Past = []
    written = [prompts[:, :0]]
    tokens = prompts
    for _ in range(n_new):
        tokens = read_on(params, model, tokens, past).argmax(-1)[:, None]
        written.append(tokens)
    return torch.cat(written, 1)
