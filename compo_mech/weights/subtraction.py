"""How MLP 0 subtracts positions, read off the weights alone: no string is run, no attention is measured.

Full circuits of a head in tokens and positions (Elhage et al. 2021, *A Mathematical Framework for Transformer
Circuits*), logits by writer, the geometry of position embeddings, and how MLP 0 subtracts positions. The last assumes
an idealised lookup: a row at position i, whose stream holds its own embeddings and what layer 0 writes when each of its
heads attends to [EoI], at position j, and to nothing else.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model import blocks
from compo_mech.model.architecture import check_embeds_positions, check_has_mlps
from compo_mech.model.finite import check_finite, check_weights
from compo_mech.model.params import Model
from compo_mech.weights.positions import NOTHING, explained_share, participation_ratio, sums_of_squares

if TYPE_CHECKING:
    import pandas as pd

RULE, RULE_MEDIAN = 0.9, 0.95
"""Neurons implement a rule if i - j explains this fraction of their activation's variance, in the mean and in the
median.

The median distinguishes i - j from i - j / 2, which without shifts of position ids reaches 0.92, since i - j < j.
"""

TABLE, FEW_PAIRS = 0.5, 0.2
"""Neurons implement a table if i - j explains at most the first fraction in the mean, and the median neuron is active
on at most the second fraction of pairs. In randomly initialised controls (seeds from 1000 on) that median is 0.35 or
more."""


FIGURES = ("weight", "n_pairs", "by_chance", "by_difference")
"""Columns that decide."""


def subtraction_score(queries: Float[Tensor, "pair dim"], i: Int[Tensor, "pair"], j: Int[Tensor, "pair"]) -> float:
    """Fraction of the variance of queries over pairs (row's position i, [EoI]'s j) that i - j alone explains."""
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
    pre, mid, i, j = _looked_up(model, data, task, max_shift)
    query, _, _ = blocks.qkv(model, layer, blocks.resid_post(model, 0, pre, mid))
    return query[:, head].mean(1), i, j


def _looked_up(
    model: Model, data: DataConfig, task: Task, max_shift: int
) -> tuple[Float[Tensor, "pair token d_model"], Float[Tensor, "pair token d_model"], Tensor, Tensor]:
    """Streams before and after layer 0's attention by the idealised lookup: of every pair of positions, which follow,
    and every token of its row."""
    check_has_mlps(model.config)
    check_embeds_positions(model.config)
    check_weights(model)
    layout, words = data.layout, data.vocabulary
    if not data.chain_of_thought:
        raise ValueError("chain_of_thought = False: positions are subtracted where states are written")
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    rows = [
        (i, layout.end_of_input(length)) for length in data.drawn_lengths for i in layout.iteration_edges(length)[0]
    ]
    room = model.n_ctx - 1 - max(i for i, _ in rows)
    if room < 0:
        raise ValueError(f"max_length = {data.max_length}: rows must fit into n_ctx = {model.n_ctx}")
    if not 0 <= max_shift <= room:
        raise ValueError(f"max_shift = {max_shift}: must be 0 .. {room}, so that positions stay below n_ctx")
    pairs = sorted({(i + shift, j + shift) for i, j in rows for shift in range(max_shift + 1)})
    i, j = torch.tensor(pairs, device=model.device).T
    own = torch.arange(task.n_states, device=i.device).expand(len(pairs), -1)
    own = own.where((i != j)[:, None], words.end_of_input_id)  # the first row is [EoI] itself
    end = blocks.embed(model, torch.full_like(j, words.end_of_input_id), j)[:, None]
    _, _, value = blocks.qkv(model, 0, end)
    stream = blocks.token_embedding(model, own) + blocks.position_embedding(model, i)[:, None]
    looked_up = blocks.merge_heads(blocks.by_query_head(model, value))
    return stream, stream + blocks.attn_out(model, 0, looked_up), i, j


def subtraction_neurons(
    model: Model, data: DataConfig, task: Task, layer: int = 0, max_shift: int = 0
) -> "pd.DataFrame":
    """Each neuron of MLP 0 over the pairs of `pair_queries`, as a mean over the tokens that a row may hold.

    Columns:
        weight: norm of its output weights times the standard deviation of its activation over pairs.
        n_pairs: effective number of pairs on which it is active, (sum a)^2 / sum a^2 of its activation
            above its lowest, so that a GELU's negative tail counts for nothing.
        all_pairs: number of pairs.
        by_chance: fraction of any variance over these pairs that their i - j explains on average where it tells
            nothing, (number of differences - 1) / (number of pairs - 1); 1 where each pair has its own.
        by_difference: fraction of the variance of its activation that i - j alone explains.
        pre_by_difference: the same of what it reads, before the nonlinearity.

    A neuron whose activation does not vary has weight, n_pairs and by_difference 0.

    Raises:
        ValueError: another layer than 0, before which there is more than the lookup; and as `pair_queries`.
    """
    import pandas as pd

    if layer != 0:
        raise ValueError(f"layer = {layer}: must be 0, since the lookup alone is before it")
    before, after, i, j = _looked_up(model, data, task, max_shift)
    mlp_in = blocks.mlp_input(model, before, after)
    active, pre = blocks.neurons(model, layer, mlp_in).mean(1), blocks.mlp_pre(model, layer, mlp_in)
    by_difference, varies = _shares(active, i - j)
    norms, deviations = blocks.neuron_outputs(model, layer).norm(dim=1), active.double().std(0, correction=0)
    columns = {
        "weight": (norms * deviations).where(varies, 0.0),
        "n_pairs": participation_ratio(active - active.min(0).values).where(varies, 0.0),
        "all_pairs": torch.full_like(norms, len(i), dtype=torch.long),
        "by_chance": torch.full_like(norms, (len((i - j).unique()) - 1) / (len(i) - 1) if len(i) > 1 else 1.0),
        "by_difference": by_difference,
        "pre_by_difference": _shares(pre.mean(1), i - j)[0],
    }
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


class Subtraction(NamedTuple):
    """How MLP 0 subtracts positions, and the evidence.

    Attributes:
        verdict: a `rule`, whose neurons are functions of i - j; a `table`, whose neurons are each for few pairs;
            `neither`; or `cannot be told`, where i - j would explain more than a table may have of anything.
        by_difference, n_pairs: means over neurons, by weight.
        median_by_difference, median_n_pairs: medians, by weight.
        all_pairs: number of pairs.
    """

    verdict: Literal["rule", "table", "neither", "cannot be told"]
    by_difference: float
    n_pairs: float
    median_by_difference: float
    median_n_pairs: float
    all_pairs: int


def rule_or_table(neurons: "pd.DataFrame") -> Subtraction:
    """Whether neurons, as `subtraction_neurons` has them, subtract by a rule or by a table.

    The bounds are `RULE` and `RULE_MEDIAN`, `TABLE` and `FEW_PAIRS`. With zero weight it is neither, and so it is when
    fewer than 1 / `FEW_PAIRS` pairs are distinguished. On few pairs it cannot be told: where i - j explains more than
    `TABLE` of any variance by chance alone, and all of it on strings of one length, where it numbers the pairs.

    Raises:
        NotFinite: a figure of a neuron is no number.
    """
    figures = {name: torch.tensor(neurons[name].to_numpy(dtype=float)) for name in FIGURES}
    for name, values in figures.items():
        check_finite(f"{name} of neurons", values)
    weight, all_pairs = figures["weight"], int(neurons["all_pairs"].iloc[0])
    if weight.sum() > 0:
        weight = weight / weight.sum()
        by_difference, n_pairs = (float(weight @ figures[name]) for name in ("by_difference", "n_pairs"))
        explained, active = (_median(figures[name], weight) for name in ("by_difference", "n_pairs"))
    else:
        by_difference, n_pairs, explained, active = 0.0, 0.0, 0.0, 0.0
    verdict: Literal["rule", "table", "neither", "cannot be told"] = "neither"
    if float(figures["by_chance"][0]) > TABLE:
        verdict = "cannot be told"
    elif by_difference >= RULE and explained >= RULE_MEDIAN:
        verdict = "rule"
    elif n_pairs > 0 and by_difference <= TABLE and active <= FEW_PAIRS * all_pairs:
        verdict = "table"
    return Subtraction(verdict, by_difference, n_pairs, explained, active, all_pairs)


def _median(values: Float[Tensor, "row"], weight: Float[Tensor, "row"]) -> float:
    """The value up to which half of the weight lies, all of which is 1."""
    ordered = values.argsort()
    middle = torch.searchsorted(weight[ordered].cumsum(0), 0.5).clamp(max=len(values) - 1)
    return float(values[ordered[middle]])


def _shares(values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]) -> tuple[Tensor, Tensor]:
    """`explained_share` of each dimension by itself [dim], and whether it varies [dim]."""
    between, total = sums_of_squares(values, labels)
    varies = total > NOTHING * values.double().square().sum(0)
    return (between / total.where(varies, 1.0)).where(varies, 0.0), varies
