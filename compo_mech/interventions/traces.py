"""Every activation of one run, and the steps from one to the next: what patches start from and go on with."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.interventions.graph import check_pairs
from compo_mech.interventions.pairs import Pairs
from compo_mech.model import blocks
from compo_mech.model.entries import embedded_pairs, taken
from compo_mech.model.finite import check_weights
from compo_mech.model.params import Model
from compo_mech.model.sites import Site


@dataclass(frozen=True)
class Trace:
    """Every activation of one run, one entry a layer.

    Attributes:
        resid_pre, resid_mid, resid_post: the residual stream before attention, after it, and after the MLP, which in a
            parallel block reads `resid_pre`.
        q, z: of all heads.
        k, v: of all heads of keys and values.
        pattern: attention weights.
        attn_out, mlp_out: what attention and the MLP add.
        logits: at every position.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> run = trace(model, torch.tensor([[5, 1, 2, 1]]), torch.arange(4)[None])
    >>> run.at(Site("pattern", 1, 0))[0, 2].round().tolist()  # [EoI] attends to x1
    [0.0, 1.0, 0.0, 0.0]
    """

    resid_pre: list[Float[Tensor, "batch pos d_model"]]
    resid_mid: list[Float[Tensor, "batch pos d_model"]]
    resid_post: list[Float[Tensor, "batch pos d_model"]]
    q: list[Float[Tensor, "batch head pos d_head"]]
    k: list[Float[Tensor, "batch kv_head pos d_head"]]
    v: list[Float[Tensor, "batch kv_head pos d_head"]]
    z: list[Float[Tensor, "batch head pos d_head"]]
    pattern: list[Float[Tensor, "batch head pos pos"]]
    attn_out: list[Float[Tensor, "batch pos d_model"]]
    mlp_out: list[Float[Tensor, "batch pos d_model"]]
    logits: Float[Tensor, "batch pos d_vocab"]

    def __getitem__(self, strings: slice) -> "Trace":
        """The trace of some of the strings."""
        layers = {name: [value[strings] for value in values] for name, values in vars(self).items() if name != "logits"}
        return Trace(**layers, logits=self.logits[strings])

    def at(self, site: Site) -> Float[Tensor, "batch *head pos dim"]:
        """What a site holds: of its head, or, without one, of all heads; `result` is not kept."""
        values = getattr(self, site.kind)[site.layer]
        return values if site.head is None else values[:, site.head]

    def replaced(self, site: Site, value: Float[Tensor, "batch *head pos dim"]) -> "Trace":
        """The same trace with another value at a site that is no single head's."""
        layers = list(getattr(self, site.kind))
        layers[site.layer] = value
        return replace(self, **{site.kind: layers})


@torch.no_grad()
def trace(
    model: Model, tokens: Int[Tensor, "batch pos"], position_ids: Int[Tensor, "batch pos"], first: int = 0
) -> Trace:
    """Run the network and keep everything.

    Args:
        model: the network.
        tokens, position_ids: that it reads.
        first: the first position at which more of the last layer than keys and values is computed; all else of that
            layer is 0 before it.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> tokens = torch.tensor([[5, 1, 0, 1, 2, 1, 1, 0]])  # [task] x1 x2 x3 [EoI] s1 s2 s3
    >>> trace(model, tokens, torch.arange(8)[None]).logits[0, 4:].argmax(-1).tolist()  # s1 s2 s3 [EoS]
    [1, 1, 0, 3]
    """
    n_pos = tokens.shape[1]
    kept: dict[str, list[Tensor]] = {name: [] for name in Trace.__dataclass_fields__ if name != "logits"}
    source, entry = embedded_pairs(model, tokens, position_ids)
    stream = taken(source, entry)
    for layer in range(model.config.n_layers):
        n_left_out = first if layer == model.config.n_layers - 1 else 0
        here = stream[:, n_left_out:]
        if layer > 0:
            source, entry = stream, None
        q, k, v = qkv_of(model, layer, source, entry, (slice(None), slice(n_left_out, None)))
        queries = torch.arange(n_left_out, n_pos, device=tokens.device)
        seen = blocks.seen(model, queries, n_pos)
        keys, values = blocks.by_query_head(model, k), blocks.by_query_head(model, v)
        pattern = blocks.pattern(blocks.scores(model, layer, q, keys, queries), seen)
        z = pattern @ values
        attn_out = blocks.attn_out(model, layer, blocks.merge_heads(z))
        mid = here + attn_out
        mlp_out = blocks.mlp_out_in_parts(model, layer, blocks.mlp_input(model, here, mid))
        values = {"resid_mid": mid, "resid_post": mid + mlp_out, "q": q, "z": z, "pattern": pattern}
        values |= {"attn_out": attn_out, "mlp_out": mlp_out}
        if n_left_out:
            values = {name: F.pad(value, (0, 0, n_left_out, 0)) for name, value in values.items()}
        for name, value in (values | {"resid_pre": stream, "k": k, "v": v}).items():
            kept[name].append(value)
        stream = values["resid_post"]
    logits = F.pad(blocks.logits(model, stream[:, first:]), (0, 0, first, 0))
    return Trace(**kept, logits=logits)  # pyright: ignore[reportArgumentType]


def qkv_of(
    model: Model, layer: int, source: Tensor, entry: Int[Tensor, "batch pos"] | None, asked: tuple[slice | Tensor, ...]
) -> tuple[
    Float[Tensor, "batch head query d_head"],
    Float[Tensor, "batch kv_head pos d_head"],
    Float[Tensor, "batch kv_head pos d_head"],
]:
    """Queries, keys and values, of rows that `entry` names or of a whole stream; queries at the positions that are
    asked for, an index of [batch, pos]."""
    normed = blocks.attention_input(model, layer, source)
    k, v = (taken(x, entry) for x in blocks.project(model, layer, "KV", normed))
    if entry is None:
        (q,) = blocks.project(model, layer, "Q", normed[asked])
    else:
        (every,) = blocks.project(model, layer, "Q", normed)
        q = taken(every, entry[asked])
    return blocks.split_heads(model, q), blocks.split_heads(model, k), blocks.split_heads(model, v)


def both_traces(model: Model, pairs: Pairs) -> tuple[Trace, Trace]:
    """The clean and the corrupt run.

    Raises:
        ValueError: the model cannot read the pairs, or a weight is not finite.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs = both_traces(built.model, pairs)
    >>> answers = [run.logits[pairs.row, pairs.position].argmax(-1) for run in runs]
    >>> torch.equal(answers[0], pairs.target), torch.equal(answers[1], pairs.foil)
    (True, True)
    """
    check_pairs(model, pairs)
    check_weights(model)
    return (
        trace(model, pairs.clean_tokens, pairs.clean_position_ids),
        trace(model, pairs.corrupt_tokens, pairs.corrupt_position_ids),
    )
