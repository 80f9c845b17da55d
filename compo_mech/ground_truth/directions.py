"""Which directions of the residual stream each writer writes and each reader reads, by the weights alone.

It says something only of networks in whose basis every direction stands for something, as in compiled and hand-built
ones, with keys and values of every head's own and plain MLPs.
"""

import torch
from torch import Tensor

from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer, all_edges
from compo_mech.model.params import Model

NEGLIGIBLE = 1e-6


def written(model: Model, writer: Writer) -> frozenset[int]:
    """Return the directions of the residual stream that a writer puts different values into, by its weights.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.ground_truth.directions import written
        >>> from compo_mech.interventions import TOK
        >>> sorted(written(build(Parity(), max_length=3).model, TOK))  # six words
        [0, 1, 2, 3, 4, 5]
    """
    params, block = model.params, f"blocks.{writer.layer}"
    if writer in (TOK, POS):
        table = params["embed.W_E" if writer == TOK else "pos_embed.W_pos"]
        return _large((table - table[:1]).abs().amax(0))
    if writer.kind == "head":
        ov = params[f"{block}.attn.W_V"][writer.head] @ params[f"{block}.attn.W_O"][writer.head]
        return _large(ov.abs().amax(0))
    reads = params[f"{block}.mlp.W_in"].abs().amax(0) > NEGLIGIBLE
    return _large(params[f"{block}.mlp.W_out"][reads].abs().sum(0))


def read_by(model: Model, reader: Reader) -> frozenset[int]:
    """Return the directions of the residual stream that a reader makes anything of, by its weights.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.ground_truth.directions import read_by, written
        >>> from compo_mech.interventions import LOGITS, Writer
        >>> model = build(Parity(), max_length=3).model
        >>> written(model, Writer("mlp", 1)) <= read_by(model, LOGITS)
        True
    """
    params, block = model.params, f"blocks.{reader.layer}"
    if reader == LOGITS:
        return _large(params["unembed.W_U"].abs().amax(1))
    if reader.kind == "mlp":
        writes = params[f"{block}.mlp.W_out"].abs().amax(1) > NEGLIGIBLE
        return _large(params[f"{block}.mlp.W_in"][:, writes].abs().sum(1))
    q, k, v, o = (params[f"{block}.attn.W_{letter}"][reader.head] for letter in "QKVO")
    biases = model.params.get(f"{block}.attn.b_Q")
    asked = q if biases is None else torch.cat([q, biases[reader.head, None]])  # a key is also read by what all ask
    products = {"q": q @ k.T, "k": k @ asked.T, "v": v @ o}
    return _large(products[reader.kind].abs().amax(1))


def _large(sizes: Tensor) -> frozenset[int]:
    return frozenset((sizes > NEGLIGIBLE).nonzero()[:, 0].tolist())


def connected(model: Model) -> frozenset[Edge]:
    """Return the edges along which something can reach the logits: what is written is read, and so on to the end.

    An edge that is true is one of them. The converse holds where nothing that is read is redundant.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.ground_truth.directions import connected
        >>> built = build(Parity(), max_length=3)
        >>> built.edges <= connected(built.model)
        True
    """
    edges = all_edges(model.config)
    writes = {writer: written(model, writer) for writer in {edge.writer for edge in edges}}
    reads = {reader: read_by(model, reader) for reader in {edge.reader for edge in edges}}
    overlapping = [edge for edge in edges if writes[edge.writer] & reads[edge.reader]]
    found: set[Edge] = set()
    alive, n_before = {Writer("logits")}, 0
    while len(alive) > n_before:
        n_before = len(alive)
        found = {edge for edge in overlapping if _component(edge.reader) in alive}
        alive |= {edge.writer for edge in found}
    return frozenset(found)


def _component(reader: Reader) -> Writer:
    """What a reader is a part of."""
    return Writer("head" if reader.kind in ("q", "k", "v") else reader.kind, reader.layer, reader.head)
