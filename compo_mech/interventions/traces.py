"""Every activation of one run, and the steps from one to the next: what patches start from and go on with."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.interventions.graph import check_pairs, norm_of
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.params import ACTIVATIONS, Model


@dataclass(frozen=True)
class Trace:
    """Every activation of one run, one entry a layer.

    Attributes:
        resid_pre, resid_mid, resid_post: the residual stream before, between and after the parts.
        q, k, v, z: of all heads.
        pattern: attention weights.
        attn_out, mlp_out: what the parts add.
        logits: at every position.
    """

    resid_pre: list[Float[Tensor, "batch pos d_model"]]
    resid_mid: list[Float[Tensor, "batch pos d_model"]]
    resid_post: list[Float[Tensor, "batch pos d_model"]]
    q: list[Float[Tensor, "batch head pos d_head"]]
    k: list[Float[Tensor, "batch head pos d_head"]]
    v: list[Float[Tensor, "batch head pos d_head"]]
    z: list[Float[Tensor, "batch head pos d_head"]]
    pattern: list[Float[Tensor, "batch head pos pos"]]
    attn_out: list[Float[Tensor, "batch pos d_model"]]
    mlp_out: list[Float[Tensor, "batch pos d_model"]]
    logits: Float[Tensor, "batch pos d_vocab"]

    def __getitem__(self, strings: slice) -> "Trace":
        """The trace of some of the strings."""
        layers = {name: [value[strings] for value in values] for name, values in vars(self).items() if name != "logits"}
        return Trace(**layers, logits=self.logits[strings])


@torch.no_grad()
def trace(model: Model, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch pos"], first: int = 0) -> Trace:
    """Run the network and keep everything.

    Args:
        model: the network.
        tokens, positions: that it reads.
        first: the first position at which the last layer is asked for more than keys and values; all else of that layer
            is 0 before it.
    """
    params, n_pos = model.params, tokens.shape[1]
    kept: dict[str, list[Tensor]] = {name: [] for name in Trace.__dataclass_fields__ if name != "logits"}
    stream = params["embed.W_E"][tokens] + params["pos_embed.W_pos"][positions]
    for layer in range(model.config.n_layers):
        n_left_out = first if layer == model.config.n_layers - 1 else 0
        here, normed = stream[:, n_left_out:], norm_of(model, f"blocks.{layer}.ln1", stream)
        k, v = _project(model, layer, normed, "KV")
        (q,) = _project(model, layer, normed[:, n_left_out:], "Q")
        pattern = attention_pattern(model, q, k, torch.arange(n_left_out, n_pos, device=tokens.device))
        z = pattern @ v
        attn_out = attn_out_of(model, layer, z)
        mid = here + attn_out
        mlp_out = mlp_out_of(model, layer, mid)
        values = {"resid_mid": mid, "resid_post": mid + mlp_out, "q": q, "z": z, "pattern": pattern}
        values |= {"attn_out": attn_out, "mlp_out": mlp_out}
        if n_left_out:
            values = {name: F.pad(value, (0, 0, n_left_out, 0)) for name, value in values.items()}
        for name, value in (values | {"resid_pre": stream, "k": k, "v": v}).items():
            kept[name].append(value)
        stream = values["resid_post"]
    logits = F.pad(logits_of(model, stream[:, first:]), (0, 0, first, 0))
    return Trace(**kept, logits=logits)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class RowTrace:
    """What one row of each string holds, and the keys and values that it sees, one entry a layer.

    Attributes:
        place: position of the row.
        resid_pre, resid_mid, resid_post, attn_out, mlp_out, q, z: of the row, as in `Trace`.
        k, v: of every position up to the row; those after it mean nothing.
        logits: at the row.
    """

    place: Int[Tensor, "row"]
    resid_pre: list[Float[Tensor, "row d_model"]]
    resid_mid: list[Float[Tensor, "row d_model"]]
    resid_post: list[Float[Tensor, "row d_model"]]
    attn_out: list[Float[Tensor, "row d_model"]]
    mlp_out: list[Float[Tensor, "row d_model"]]
    q: list[Float[Tensor, "row head d_head"]]
    z: list[Float[Tensor, "row head d_head"]]
    k: list[Float[Tensor, "row head pos d_head"]]
    v: list[Float[Tensor, "row head pos d_head"]]
    logits: Float[Tensor, "row d_vocab"]


ROWS_AT_ONCE = 512
"""Of an MLP on a CPU: what its neurons hold then stays in the cache, which halves the time of thousands of rows."""

N_CUTS = 4
"""Groups of rows at places near each other, of which each is read no further than its last one."""


@torch.no_grad()
def row_trace(
    model: Model, tokens: Int[Tensor, "row pos"], positions: Int[Tensor, "row pos"], place: Int[Tensor, "row"]
) -> RowTrace:
    """Run the network as far as one row of each string needs it: nothing after the row, and in the last layer the row.

    Args:
        model: the network.
        tokens, positions: of whole strings.
        place: position of each string's row.
    """
    order, n_pos = place.argsort(), tokens.shape[1]
    parts: list[dict[str, list[Tensor]]] = []
    for index in order.chunk(N_CUTS):
        n_read = int(place[index[-1]]) + 1
        parts.append(_rows_run(model, tokens[index, :n_read], positions[index, :n_read], place[index]))
        for name in ("k", "v"):
            parts[-1][name] = [F.pad(value, (0, 0, 0, n_pos - n_read)) for value in parts[-1][name]]
    back = order.argsort()
    whole = {name: [torch.cat(v)[back] for v in zip(*(p[name] for p in parts), strict=True)] for name in parts[0]}
    (logits,) = whole.pop("logits")
    return RowTrace(place, **whole, logits=logits)  # pyright: ignore[reportArgumentType]


def _rows_run(
    model: Model, tokens: Int[Tensor, "row pos"], positions: Int[Tensor, "row pos"], place: Int[Tensor, "row"]
) -> dict[str, list[Tensor]]:
    """The fields of a `RowTrace` by name; logits in a list of one."""
    n_pos, index = tokens.shape[1], torch.arange(len(tokens), device=tokens.device)
    kept: dict[str, list[Tensor]] = {n: [] for n in RowTrace.__dataclass_fields__ if n not in ("place", "logits")}
    stream = model.params["embed.W_E"][tokens] + model.params["pos_embed.W_pos"][positions]
    for layer in range(model.config.n_layers):
        at, queries = place, torch.arange(n_pos, device=tokens.device)
        normed = norm_of(model, f"blocks.{layer}.ln1", stream)
        k, v = _project(model, layer, normed, "KV")
        if layer == model.config.n_layers - 1:  # from here on the row stands alone
            stream, normed = stream[index, place][:, None], normed[index, place][:, None]
            at, queries = torch.zeros_like(place), place[:, None, None]
        (q,) = _project(model, layer, normed, "Q")
        z = attention_pattern(model, q, k, queries) @ v
        attn_out = attn_out_of(model, layer, z)
        mid = stream + attn_out
        mlp_out = mlp_out_of(model, layer, mid)
        of_rows = {"resid_pre": stream, "resid_mid": mid, "resid_post": mid + mlp_out}
        for name, value in (of_rows | {"attn_out": attn_out, "mlp_out": mlp_out}).items():
            kept[name].append(value[index, at])
        for name, value in (("q", q), ("z", z)):
            kept[name].append(value[index, :, at])
        kept["k"].append(k)
        kept["v"].append(v)
        stream = of_rows["resid_post"]
    return kept | {"logits": [logits_of(model, stream[:, 0])]}


def project_qkv(model: Model, layer: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads of a layer."""
    q, k, v = _project(model, layer, norm_of(model, f"blocks.{layer}.ln1", stream), "QKV")
    return q, k, v


def _project(model: Model, layer: int, normed: Tensor, which: str) -> list[Tensor]:
    """Some of queries (Q), keys (K) and values (V) of all heads of a layer."""
    attention, n_heads = f"blocks.{layer}.attn", model.config.n_heads
    weights = [model.params[f"{attention}.W_{name}"].transpose(0, 1).flatten(1) for name in which]
    side_by_side = normed @ torch.cat(weights, 1)
    found = []
    for name, values in zip(which, side_by_side.chunk(len(which), -1), strict=True):
        values = _with_bias(model, values, f"{attention}.b_{name}")
        found.append(values.unflatten(-1, (n_heads, -1)).transpose(1, 2))
    return found


def _with_bias(model: Model, values: Float[Tensor, "*row dim"], name: str) -> Float[Tensor, "*row dim"]:
    """Plus the bias, where there is one; that of several heads is written side by side."""
    return values + model.params[name].flatten() if name in model.params else values


def attention_pattern(model: Model, q: Tensor, k: Tensor, query_positions: Tensor) -> Tensor:
    """Attention weights of some query rows."""
    keys = torch.arange(k.shape[-2], device=k.device)
    scores = q @ k.mT / math.sqrt(model.config.head_width)
    return scores.masked_fill(keys > query_positions[:, None], -torch.inf).softmax(-1)


def attn_out_of(model: Model, layer: int, z: Tensor) -> Tensor:
    """What the heads of a layer add."""
    weight = model.params[f"blocks.{layer}.attn.W_O"].flatten(0, 1)
    return _with_bias(model, z.transpose(1, 2).flatten(2) @ weight, f"blocks.{layer}.attn.b_O")


def mlp_out_of(model: Model, layer: int, mid: Tensor) -> Tensor:
    """What the MLP of a layer adds."""
    mlp, params = f"blocks.{layer}.mlp", model.params

    def written(rows: Tensor) -> Tensor:
        normed = norm_of(model, f"blocks.{layer}.ln2", rows)
        read = _with_bias(model, normed @ params[f"{mlp}.W_in"], f"{mlp}.b_in")
        return _with_bias(model, ACTIVATIONS[model.config.act_fn](read) @ params[f"{mlp}.W_out"], f"{mlp}.b_out")

    rows = mid.flatten(0, -2)
    n_at_once = ROWS_AT_ONCE if rows.device.type == "cpu" else len(rows)
    return torch.cat([written(part) for part in rows.split(max(1, n_at_once))]).view(mid.shape)


def logits_of(model: Model, stream: Tensor) -> Tensor:
    """Logits from the last stream."""
    return _with_bias(model, norm_of(model, "ln_final", stream) @ model.params["unembed.W_U"], "unembed.b_U")


def both_traces(model: Model, pairs: Pairs) -> tuple[Trace, Trace]:
    """The clean and the corrupt run.

    Raises:
        ValueError: the model cannot read the pairs.
    """
    check_pairs(model, pairs)
    return (
        trace(model, pairs.clean_tokens, pairs.clean_positions),
        trace(model, pairs.corrupt_tokens, pairs.corrupt_positions),
    )
