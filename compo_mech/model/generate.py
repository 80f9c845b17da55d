"""Generation token by token, with the keys and values of what was read before."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model import blocks
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model

# positions have no name, since a call adds to them
_KeysValues = tuple[Float[Tensor, "batch kv_head _ d_head"], Float[Tensor, "batch kv_head _ d_head"]]
Past = list[_KeysValues]
"""Keys and values of every layer at the positions read so far; empty before the first."""


def read_on(model: Model, tokens: Int[Tensor, "batch new"], past: Past) -> Float[Tensor, "batch d_vocab"]:
    """Return the logits of the last position, given keys and values of those before; `past` is extended.

    Args:
        model: the network.
        tokens: one or more that follow what was read, rows of one length.
        past: keys and values of the rows, updated in place.

    Example:
        >>> from compo_mech.data import Parity, encode
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.model import read_on
        >>> built = build(Parity(), max_length=3)
        >>> read = encode(built.data, Parity(), torch.tensor([[1, 0, 1]])).read
        >>> past = []
        >>> read_on(built.model, read[:, :5], past).argmax(-1).tolist()  # s1
        [1]
        >>> read_on(built.model, read[:, 5:6], past).argmax(-1).tolist()  # s2
        [1]
    """
    blocks.check_causal(model)
    n_before = past[0][0].shape[2] if past else 0

    def longer(layer: int, new: _KeysValues) -> _KeysValues:
        if layer < len(past):
            (keys, values), (more_keys, more_values) = past[layer], new
            past[layer] = torch.cat([keys, more_keys], 2), torch.cat([values, more_values], 2)
        else:
            past.append(new)
        return past[layer]

    return _read(model, tokens, n_before, longer)


def read_at(model: Model, tokens: Int[Tensor, "batch"], past: Past, position: int) -> Float[Tensor, "batch d_vocab"]:
    """Return the logits at a position, given keys and values of those before; its own are written into `past`.

    Args:
        model: the network.
        tokens: at that position, one a row.
        past: keys and values of the rows at more positions than that, of which those after it are not looked at.
        position: of the tokens.

    Example:
        >>> from compo_mech.data import Parity, encode
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.model import forward, read_at
        >>> built = build(Parity(), max_length=3)
        >>> read = encode(built.data, Parity(), torch.tensor([[1, 0, 1]])).read
        >>> past = []
        >>> _ = forward(built.model, read, past=past)
        >>> read_at(built.model, torch.tensor([0]), past, position=5).argmax(-1).tolist()  # s2 after s1 = 0
        [0]
    """
    blocks.check_causal(model)

    def written(layer: int, new: _KeysValues) -> _KeysValues:
        for old, own in zip(past[layer], new, strict=True):
            old[:, :, position] = own[:, :, 0]
        k, v = (known[:, :, : position + 1] for known in past[layer])
        return k, v

    return _read(model, tokens[:, None], position, written)


def _read(
    model: Model, tokens: Int[Tensor, "batch new"], n_before: int, known: Callable[[int, _KeysValues], _KeysValues]
) -> Float[Tensor, "batch d_vocab"]:
    """The logits of the last position; `known` takes a layer's new keys and values, and returns all up to there."""
    position = torch.arange(n_before, n_before + tokens.shape[1], device=tokens.device)
    x = blocks.embed(model, tokens, position.expand(tokens.shape))
    for layer in range(model.config.n_layers):
        normed = blocks.attention_input(model, layer, x)
        new_k, new_v = (blocks.split_heads(model, new) for new in blocks.project(model, layer, "KV", normed))
        k, v = known(layer, (new_k, new_v))
        if layer == model.config.n_layers - 1:  # no one needs the rows before the last
            x, normed, position = x[:, -1:], normed[:, -1:], position[-1:]
        (q,) = blocks.project(model, layer, "Q", normed)
        q, k, v = blocks.split_heads(model, q), blocks.by_query_head(model, k), blocks.by_query_head(model, v)
        pattern = blocks.pattern(blocks.scores(model, layer, q, k, position), blocks.causal(position, k.shape[2]))
        mid = x + blocks.attn_out(model, layer, blocks.merge_heads(pattern @ v))
        x = mid + blocks.mlp_out(model, layer, blocks.mlp_input(model, x, mid))
    return blocks.logits(model, x[:, 0])


@torch.no_grad()
def generate(model: Model, prompts: Int[Tensor, "batch pos"], n_new: int) -> Int[Tensor, "batch n_new"]:
    """Continue prompts of one length by the likeliest token, again and again.

    Example:
        >>> from compo_mech.data import Parity, encode
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.model import generate
        >>> built = build(Parity(), max_length=3)
        >>> read = encode(built.data, Parity(), torch.tensor([[1, 0, 1]])).read
        >>> generate(built.model, read[:, :5], n_new=4).tolist()  # s1, s2, s3, [EoS]
        [[1, 1, 0, 3]]
    """
    past: Past = []
    written = [prompts[:, :0]]
    tokens = prompts
    for _ in range(n_new):
        tokens = likeliest(read_on(model, tokens, past))[:, None]
        written.append(tokens)
    return torch.cat(written, 1)
