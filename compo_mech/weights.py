"""What weights say by themselves: no string is run, no attention is measured.

Full circuits of a head in tokens and positions (Elhage et al. 2021, *A Mathematical Framework for
Transformer Circuits*), logits by writer, the geometry of position embeddings, and how MLP 0 subtracts
positions. The last is asked of an idealised lookup: a row at position i, whose stream holds its own
embeddings and what layer 0 writes when each of its heads looks at [EoI], at position j, and at nothing else.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data import DataConfig
from compo_mech.forward import ACTIVATIONS, LAYER_NORM_EPS
from compo_mech.graph import Model, Writer, bias_of, embeddings, norm_of, run_graph, total_of
from compo_mech.model import Params
from compo_mech.tasks import Task
from compo_mech.traces import attn_out_of, mlp_out_of, project_qkv

BIAS = Writer("bias")
"""What the final LayerNorm's bias and the unembedding's add to the logits: no writer's."""

NOTHING = 1e-12
"""What varies by less than this share of its mean square does not vary: that is rounding in single precision."""

RULE, RULE_MEDIAN = 0.9, 0.95
"""Neurons are a rule if i - j explains this share of their activation, in the mean and in the median.

The median tells i - j from i - j / 2, which without shifts of position ids reaches 0.92, since i - j < j.
"""

TABLE, FEW_PAIRS = 0.5, 0.2
"""Neurons are a table if i - j explains at most the one in the mean, and the median one is active on at most
the other share of pairs. In freshly initialised networks (seeds from 1000 on) that median is 0.35 or more."""


# ------------------------------------------------------------------------------- circuits


@dataclass(frozen=True)
class QKCircuit:
    """Attention scores by what they come from: query's source times key's source."""

    tok_tok: Float[Tensor, "d_vocab d_vocab"]
    tok_pos: Float[Tensor, "d_vocab n_ctx"]
    pos_tok: Float[Tensor, "n_ctx d_vocab"]
    pos_pos: Float[Tensor, "n_ctx n_ctx"]


@dataclass(frozen=True)
class OVCircuit:
    """What looking at a token, or at a position, adds to the logits."""

    tok: Float[Tensor, "d_vocab d_vocab"]
    pos: Float[Tensor, "n_ctx d_vocab"]


def qk_circuit(model: Model, layer: int, head: int) -> QKCircuit:
    """Scores, divided by sqrt(d_head), that a head gives to the embeddings alone.

    The score of a key at (token, position) for a query at (token, position) is the sum of the four
    blocks; biases count with the positions. LayerNorm centres and has its gain; its division is left
    out, so that what each row of the stream gives holds up to a positive factor of its own (but for
    biases). Behind layer 0 what earlier parts write is left out.

    Raises:
        ValueError: there is no such head.
    """
    query, key = (_projected(model, layer, head, which) for which in "QK")
    blocks = [q @ k.T / math.sqrt(model.config.head_width) for q in query for k in key]
    return QKCircuit(*blocks)


def ov_circuit(model: Model, layer: int, head: int) -> OVCircuit:
    """Logits that a head adds straight to the output by looking, with weight 1, at the embeddings alone.

    Value biases count with the positions; biases of the whole layer and of the output are no head's.
    Both LayerNorms centre and have their gain, and neither divides: see `qk_circuit`.

    Raises:
        ValueError: there is no such head.
    """
    tok, pos = (
        _seen(model, "ln_final", value @ model.params[f"blocks.{layer}.attn.W_O"][head]) @ model.params["unembed.W_U"]
        for value in _projected(model, layer, head, "V")
    )
    return OVCircuit(tok, pos)


def _projected(model: Model, layer: int, head: int, which: str) -> tuple[Tensor, Tensor]:
    """Queries, keys or values of every token [d_vocab, d_head] and of every position [n_ctx, d_head]."""
    for name, value, n in (("layer", layer, model.config.n_layers), ("head", head, model.config.n_heads)):
        if not 0 <= value < n:
            raise ValueError(f"{name} = {value}: must be 0 .. {n - 1}")
    params, block = model.params, f"blocks.{layer}"
    weight = params[f"{block}.attn.W_{which}"][head]
    tok, pos = (_seen(model, f"{block}.ln1", params[name]) @ weight for name in ("embed.W_E", "pos_embed.W_pos"))
    if f"{block}.ln1.b" in params:
        pos = pos + params[f"{block}.ln1.b"] @ weight
    return tok, pos + bias_of(params, f"{block}.attn.b_{which}", head)


def _seen(model: Model, name: str, x: Tensor) -> Tensor:
    """What a LayerNorm makes of a summand of the stream, but for its division and its bias."""
    if model.config.normalization == "none":
        return x
    return (x - x.mean(-1, keepdim=True)) * model.params[f"{name}.w"]


def direct_logit_attribution(
    model: Model, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch pos"]
) -> dict[Writer, Float[Tensor, "batch pos d_vocab"]]:
    """Logits by the writer that they come from directly; they sum to the network's.

    The final LayerNorm divides every summand by the size that the whole stream has. Its bias and the
    unembedding's, where there are any, are an entry of their own, `BIAS`; a layer's attention bias counts
    with its head 0, as in `graph.run_graph`.
    """
    params = model.params
    outputs, _ = run_graph(model, embeddings(model, tokens, positions))
    stream = total_of(outputs)
    size = 1.0
    if model.config.normalization == "LN":
        size = (stream.var(-1, keepdim=True, correction=0) + LAYER_NORM_EPS).sqrt()
    parts = {writer: _seen(model, "ln_final", out) / size @ params["unembed.W_U"] for writer, out in outputs.items()}
    if model.config.biases:
        constant = params["unembed.b_U"]
        if "ln_final.b" in params:
            constant = constant + params["ln_final.b"] @ params["unembed.W_U"]
        parts[BIAS] = constant.expand(*tokens.shape, -1)
    return parts


# -------------------------------------------------------------------- position embeddings


def position_gram(params: Params, positions: range) -> Float[Tensor, "position position"]:
    """Inner products of position embeddings, the mean over these positions taken away.

    Raises:
        ValueError: there are fewer than two positions, or the network does not have them (here and below).
    """
    centred = _centred(params, positions)
    return centred @ centred.T


def position_spectrum(params: Params, positions: range) -> Float[Tensor, "rank"]:
    """Singular values of the centred embeddings, the largest first."""
    return torch.linalg.svdvals(_centred(params, positions))


def effective_dimension(params: Params, positions: range) -> float:
    """Participation ratio (sum l)^2 / sum l^2 of the Gram matrix' eigenvalues; 0 if all embeddings are equal."""
    return float(_participation(position_spectrum(params, positions).square()))


def fourier_power(params: Params, positions: range) -> Float[Tensor, "frequency"]:
    """Share of the centred embeddings' power at 0, 1, .. n // 2 periods over these n positions.

    Nothing is left at 0. All shares are 0 if all embeddings are equal.
    """
    n = len(positions)
    power = torch.fft.rfft(_centred(params, positions), dim=0).abs().square().sum(1)
    power[1 : (n + 1) // 2] *= 2  # as much again at the negative frequency
    return power / power.sum().clamp(min=torch.finfo(power.dtype).tiny)


def toeplitz_share(params: Params, positions: range) -> float:
    """Share of the variance of the Gram matrix off its diagonal that |i - j| alone explains; 1 if there is none."""
    gram = position_gram(params, positions)
    i, j = torch.triu_indices(len(gram), len(gram), 1, device=gram.device)
    between, total = _sums_of_squares(gram[i, j, None], j - i)
    if total <= NOTHING * gram.square().sum():
        return 1.0
    return float(between / total)


def _centred(params: Params, positions: range) -> Float[Tensor, "position d_model"]:
    every = params["pos_embed.W_pos"]
    if len(positions) < 2 or min(positions) < 0 or max(positions) >= len(every):
        raise ValueError(f"positions = {positions}: must be two or more of 0 .. {len(every) - 1}")
    chosen = every[list(positions)].double()
    centred = chosen - chosen.mean(0)
    return centred if centred.square().sum() > NOTHING * chosen.square().sum() else torch.zeros_like(centred)


# ------------------------------------------------------------------ the subtraction of positions


def explained_share(values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]) -> float:
    """Share of the rows' variance about their mean that the means of classes explain; 0 if nothing varies.

    It is the R^2 of a regression on one-hot labels, not adjusted: k classes explain (k - 1) / (n - 1)
    of n rows of noise.
    """
    between, total = _sums_of_squares(values, labels)
    if total.sum() <= NOTHING * values.double().square().sum():
        return 0.0
    return float(between.sum() / total.sum())


def _sums_of_squares(
    values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]
) -> tuple[Float[Tensor, "dim"], Float[Tensor, "dim"]]:
    """Sums of squares of class means and of all values, about the mean, for each dimension."""
    values = values.double() - values.double().mean(0)
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(counts), values.shape[1]).index_add(0, index, values)
    return (sums.square() / counts[:, None]).sum(0), values.square().sum(0)


def subtraction_score(queries: Float[Tensor, "pair dim"], i: Int[Tensor, "pair"], j: Int[Tensor, "pair"]) -> float:
    """Share of the variance of queries over pairs (row's position i, [EoI]'s j) that i - j alone explains."""
    return explained_share(queries, i - j)


def pair_queries(
    model: Model, data: DataConfig, task: Task, layer: int, head: int, max_shift: int = 0
) -> tuple[Float[Tensor, "pair d_head"], Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    """The query of a head of layer 1 for every pair of positions, and the pairs: row i, [EoI] j.

    Pairs are those of rows that predict a state in strings of the data's lengths, position ids shifted
    by 0 .. max_shift, each pair once. The row's stream is the idealised lookup's, behind MLP 0 and
    through layer 1's LayerNorm; the query is the mean over the tokens that the row may hold. The row of
    t = 1 is [EoI] itself, so that what its token does there is a function of i - j too.

    Raises:
        ValueError: another layer than 1, before which there is more or less than the lookup; no such
            head; no chain of thought; a task that is not the data's; positions that the model lacks.
    """
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    if layer != 1:
        raise ValueError(f"layer = {layer}: must be 1, since the lookup alone is before it")
    if n_layers < 2:
        raise ValueError(f"n_layers = {n_layers}: must be at least 2, the lookup's and the query's")
    if not 0 <= head < n_heads:
        raise ValueError(f"head = {head}: must be 0 .. {n_heads - 1}")
    mid, i, j = _looked_up(model, data, task, max_shift)
    query, _, _ = project_qkv(model, layer, mid + mlp_out_of(model, 0, mid))
    return query[:, head].mean(1), i, j


def _looked_up(
    model: Model, data: DataConfig, task: Task, max_shift: int
) -> tuple[Float[Tensor, "pair token d_model"], Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    """Streams in front of MLP 0 by the idealised lookup: every pair of positions, every token of its row."""
    params, layout, words = model.params, data.layout, data.vocabulary
    if not data.chain_of_thought:
        raise ValueError("chain_of_thought = False: positions are subtracted where states are written")
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    rows = [
        (i, layout.end_of_input(length)) for length in data.drawn_lengths for i in layout.iteration_edges(length)[0]
    ]
    room = len(params["pos_embed.W_pos"]) - 1 - max(i for i, _ in rows)
    if room < 0:
        raise ValueError(f"max_length = {data.max_length}: rows must fit into n_ctx = {len(params['pos_embed.W_pos'])}")
    if not 0 <= max_shift <= room:
        raise ValueError(f"max_shift = {max_shift}: must be 0 .. {room}, so that positions stay below n_ctx")
    pairs = sorted({(i + shift, j + shift) for i, j in rows for shift in range(max_shift + 1)})
    i, j = torch.tensor(pairs, device=params["embed.W_E"].device).T
    own = torch.arange(task.n_states, device=i.device).expand(len(pairs), -1)
    own = own.where((i != j)[:, None], words.end_of_input)  # the first row is [EoI] itself
    end = (params["embed.W_E"][words.end_of_input] + params["pos_embed.W_pos"][j])[:, None]
    _, _, value = project_qkv(model, 0, end)
    stream = params["embed.W_E"][own] + params["pos_embed.W_pos"][i][:, None]
    return stream + attn_out_of(model, 0, value), i, j


def subtraction_neurons(model: Model, data: DataConfig, task: Task, layer: int = 0, max_shift: int = 0) -> pd.DataFrame:
    """Each neuron of MLP 0 over the pairs of `pair_queries`, as a mean over the tokens that a row may hold.

    Columns:
        weight: norm of its output weights times the standard deviation of its activation over pairs.
        n_pairs: effective number of pairs on which it is active, (sum a)^2 / sum a^2 of its activation
            above its lowest, so that a GELU's negative tail counts for nothing.
        all_pairs: number of pairs.
        by_difference: share of the variance of its activation that i - j alone explains.
        pre_by_difference: the same of what it reads, before the nonlinearity.

    A neuron whose activation does not vary has weight, n_pairs and by_difference 0.

    Raises:
        ValueError: another layer than 0, before which there is more than the lookup; and as `pair_queries`.
    """
    if layer != 0:
        raise ValueError(f"layer = {layer}: must be 0, since the lookup alone is before it")
    mid, i, j = _looked_up(model, data, task, max_shift)
    params, mlp = model.params, f"blocks.{layer}.mlp"
    pre = norm_of(model, f"blocks.{layer}.ln2", mid) @ params[f"{mlp}.W_in"] + bias_of(params, f"{mlp}.b_in")
    active = ACTIVATIONS[model.config.act_fn](pre).mean(1)
    by_difference, varies = _shares(active, i - j)
    norms, deviations = params[f"{mlp}.W_out"].norm(dim=1), active.double().std(0, correction=0)
    columns = {
        "weight": (norms * deviations).where(varies, 0.0),
        "n_pairs": _participation(active - active.min(0).values).where(varies, 0.0),
        "all_pairs": torch.full_like(norms, len(i), dtype=torch.long),
        "by_difference": by_difference,
        "pre_by_difference": _shares(pre.mean(1), i - j)[0],
    }
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


class Subtraction(NamedTuple):
    """How MLP 0 subtracts positions, and what that rests on.

    Attributes:
        verdict: a `rule`, whose neurons are functions of i - j; a `table`, whose neurons are each for
            few pairs; or `neither`.
        by_difference, n_pairs: means over neurons, by weight.
        median_by_difference, median_n_pairs: medians, by weight.
    """

    verdict: Literal["rule", "table", "neither"]
    by_difference: float
    n_pairs: float
    median_by_difference: float
    median_n_pairs: float


def rule_or_table(neurons: pd.DataFrame) -> Subtraction:
    """Whether neurons, as `subtraction_neurons` has them, subtract by a rule or by a table.

    The bounds are `RULE` and `RULE_MEDIAN`, `TABLE` and `FEW_PAIRS`. Without weight it is neither, and
    so is whatever tells fewer than 1 / `FEW_PAIRS` pairs apart.
    """
    weight = torch.tensor(neurons["weight"].to_numpy(), dtype=torch.float64)
    if not weight.sum() > 0:
        return Subtraction("neither", 0.0, 0.0, 0.0, 0.0)
    weight = weight / weight.sum()
    columns = [torch.tensor(neurons[name].to_numpy()).double() for name in ("by_difference", "n_pairs")]
    by_difference, n_pairs = (float(weight @ column) for column in columns)
    explained, active = (_median(column, weight) for column in columns)
    verdict = "neither"
    if by_difference >= RULE and explained >= RULE_MEDIAN:
        verdict = "rule"
    elif by_difference <= TABLE and active <= FEW_PAIRS * float(neurons["all_pairs"].iloc[0]):
        verdict = "table"
    return Subtraction(verdict, by_difference, n_pairs, explained, active)


def _median(values: Float[Tensor, "row"], weight: Float[Tensor, "row"]) -> float:
    """The value up to which half of the weight lies, all of which is 1."""
    ordered = values.argsort()
    middle = torch.searchsorted(weight[ordered].cumsum(0), 0.5).clamp(max=len(values) - 1)
    return float(values[ordered[middle]])


def _shares(values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]) -> tuple[Tensor, Tensor]:
    """`explained_share` of each dimension by itself [dim], and whether it varies [dim]."""
    between, total = _sums_of_squares(values, labels)
    varies = total > NOTHING * values.double().square().sum(0)
    return (between / total.where(varies, 1.0)).where(varies, 0.0), varies


def _participation(values: Float[Tensor, "row *dim"]) -> Float[Tensor, "*dim"]:
    """(sum v)^2 / sum v^2 over rows, for values from 0 on; 0 where all are 0."""
    values = values.double()
    return values.sum(0).square() / values.square().sum(0).clamp(min=torch.finfo(values.dtype).tiny)
