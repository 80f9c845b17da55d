"""Full circuits of a head in tokens and positions, and logits by the writer that they come from."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.streams import total_of
from compo_mech.model import blocks, norms
from compo_mech.model.architecture import check_embeds_positions
from compo_mech.model.finite import check_weights
from compo_mech.model.params import Model

BIAS = Writer("bias")
"""What the biases of the final norm and of the unembedding add to the logits, which is no writer's."""


@dataclass(frozen=True)
class QKCircuit:
    """Attention scores split by source: the query's source times the key's source."""

    tok_tok: Float[Tensor, "d_vocab d_vocab"]
    tok_pos: Float[Tensor, "d_vocab n_ctx"]
    pos_tok: Float[Tensor, "n_ctx d_vocab"]
    pos_pos: Float[Tensor, "n_ctx n_ctx"]


@dataclass(frozen=True)
class OVCircuit:
    """What attending to a token, or to a position, adds to the logits."""

    tok: Float[Tensor, "d_vocab d_vocab"]
    pos: Float[Tensor, "n_ctx d_vocab"]


def qk_circuit(model: Model, layer: int, head: int) -> QKCircuit:
    """Scores, divided by sqrt(d_head), that a head gives to the embeddings alone.

    The score of a key at (token, position) for a query at (token, position) is the sum of the four blocks; biases count
    with the positions. A norm has its gain, and LayerNorm centres; its division is left out, so that each row's result
    holds up to a positive factor of its own (except for biases). After layer 0 what earlier components write is left
    out.

    Raises:
        ValueError: there is no such head, positions have no embedding, or queries and keys are normalised.
    """
    query, key = (_projected(model, layer, head, which) for which in "QK")
    return QKCircuit(*(q @ k.mT / model.config.score_scale for q in query for k in key))


def ov_circuit(model: Model, layer: int, head: int) -> OVCircuit:
    """Logits that a head adds directly to the output when it attends, with weight 1, to the embeddings alone.

    Value biases count with the positions; biases of the whole layer and of the output are no head's.
    Both norms have their gain, LayerNorms centre, and neither divides: see `qk_circuit`.

    Raises:
        ValueError: there is no such head, or positions have no embedding.
    """
    tok, pos = (
        direct_logits(model, blocks.head_result(model, layer, head, value))
        for value in _projected(model, layer, head, "V")
    )
    return OVCircuit(tok, pos)


def direct_logits(model: Model, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_vocab"]:
    """Logits that summands of the last layer's stream add straight, but for the final norm's division."""
    return _seen(model, "ln_final", x) @ blocks.unembedding(model)


def _projected(model: Model, layer: int, head: int, which: str) -> tuple[Tensor, Tensor]:
    """Queries, keys or values of every token [d_vocab, d_head] and of every position [n_ctx, d_head]."""
    for name, value, n in (("layer", layer, model.config.n_layers), ("head", head, model.config.n_heads)):
        if not 0 <= value < n:
            raise ValueError(f"{name} = {value}: must be 0 .. {n - 1}")
    config = model.config
    check_embeds_positions(config)
    if config.use_qk_norm and which in "QK":
        raise ValueError("use_qk_norm = True: must be False, where scores are sums of what tokens and positions do")
    check_weights(model)
    params, block = model.params, f"blocks.{layer}"
    head = head if which == "Q" else head // config.n_sharing
    weight = params[f"{block}.attn.W_{which}"][head]
    tok, pos = (_seen(model, f"{block}.ln1", params[name]) @ weight for name in ("embed.W_E", "pos_embed.W_pos"))
    if f"{block}.ln1.b" in params:
        pos = pos + params[f"{block}.ln1.b"] @ weight
    return tok, pos + params[f"{block}.attn.b_{which}"][head] if model.config.biases else pos


def _seen(model: Model, name: str, x: Tensor) -> Tensor:
    """What a norm makes of a summand of the stream, but for its division and its bias."""
    if norms.centres(model, name):
        x = x - x.mean(-1, keepdim=True)
    gain = model.params.get(f"{name}.w")
    return x if gain is None else x * gain


def direct_logit_attribution(
    model: Model, tokens: Int[Tensor, "batch pos"], position_ids: Int[Tensor, "batch pos"]
) -> dict[Writer, Float[Tensor, "batch pos d_vocab"]]:
    """Logits by the writer that they come from directly; they sum to the network's.

    The final norm divides every summand by the size that the whole stream has. Its bias and the
    unembedding's, where there are any, are an entry of their own, `BIAS`; a layer's attention bias counts
    with its head 0, as in `graph.run_graph`.
    """
    check_weights(model)
    params = model.params
    outputs, _ = run_graph(model, embeddings(model, tokens, position_ids))
    stream = total_of(outputs)
    size = norms.norm_size(model, "ln_final", stream)
    unembedding = blocks.unembedding(model)
    parts = {writer: _seen(model, "ln_final", out) / size @ unembedding for writer, out in outputs.items()}
    if model.config.biases:
        constant = params["unembed.b_U"]
        if "ln_final.b" in params:
            constant = constant + params["ln_final.b"] @ unembedding
        parts[BIAS] = constant.expand(*tokens.shape, -1)
    return parts
