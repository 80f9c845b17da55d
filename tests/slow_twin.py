"""The network and patches of its edges, written out weight by weight: for networks with biases, relu and no norm."""

import torch

from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer


def run_plainly(model, tokens, position_ids, edges=(), other=None, causal=True):
    """What every writer puts out, and the logits, where some edges carry what their writers put out in another run."""
    p, config = model.params, model.config
    out = {TOK: p["embed.W_E"][tokens], POS: p["pos_embed.W_pos"][position_ids]}

    def seen(reader):
        return sum((other if Edge(writer, reader) in edges else out)[writer] for writer in out)

    future = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool() & causal
    for layer in range(config.n_layers):
        a, m = f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
        written = {}
        for h in range(config.n_heads):
            q, k, v = (seen(Reader(x, layer, h)) @ p[f"{a}W_{x.upper()}"][h] + p[f"{a}b_{x.upper()}"][h] for x in "qkv")
            scores = (q @ k.transpose(1, 2) / config.head_width**0.5).masked_fill(future, -1e30)
            written[Writer("head", layer, h)] = scores.softmax(-1) @ v @ p[f"{a}W_O"][h]
        written[Writer("head", layer, 0)] = written[Writer("head", layer, 0)] + p[f"{a}b_O"]
        out |= written
        hidden = (seen(Reader("mlp", layer)) @ p[f"{m}W_in"] + p[f"{m}b_in"]).relu()
        out[Writer("mlp", layer)] = hidden @ p[f"{m}W_out"] + p[f"{m}b_out"]
    return out, seen(LOGITS) @ p["unembed.W_U"] + p["unembed.b_U"]
