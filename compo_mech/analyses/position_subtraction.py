"""Does MLP 0 subtract positions, so that t = (row's position i) - ([EoI]'s position j) + 1 is known to layer 1?

Probes decode t as a class: as a number it can be read linearly from its two summands before any MLP. Rows with t = 1
are left out, since their own token, [EoI], gives t away.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.analyses.examine import at_named_site, followed, holds, interchange_rows
from compo_mech.causal.interchange import (
    InterchangeScore,
    interchange,
    interchange_row,
    interchange_table,
    interchange_traces,
)
from compo_mech.causal.own_position import own_position
from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import Rows
from compo_mech.causal.variables import Context, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.table import highest
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model import blocks
from compo_mech.model.architecture import check_embeds_positions, check_has_mlps
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, mlp_input_site
from compo_mech.probing.additivity import Without, made_additive
from compo_mech.probing.controls import best_from
from compo_mech.probing.grid import PositionGrid, position_grid
from compo_mech.probing.neurons import hidden, without_neurons
from compo_mech.probing.sites import read_sites
from compo_mech.probing.unseen_pairs import Exposure, UnseenPairs, ask_unseen_pairs
from compo_mech.probing.variance import additive_rest, group_means
from compo_mech.runs.trajectory import Measured
from compo_mech.stats.intervals import NORMAL, Interval, bounded
from compo_mech.weights.subtraction import (
    Subtraction,
    pair_queries,
    rule_or_table,
    subtraction_neurons,
    subtraction_score,
)

if TYPE_CHECKING:
    import pandas as pd

N_SWAPS = 400

SCORE = 0.6
"""Subtraction score of a query that points by i - j; randomly initialised networks stay below 0.4 (see LOG.md)."""


@dataclass(frozen=True)
class SubtractionFindings:
    """What one network does with positions.

    Attributes:
        layer: of the MLP that is asked about; the query is the next layer's.
        probes: a row a site (see `read_sites`).
        guess_from_i: accuracy of the best guess of t from i alone.
        score: subtraction score of the query, averaged over strings.
        score_by_weights: the same by the weights alone, of each head; empty where that is ill-defined.
        interchanges: of t, at sites of the MLP and of the query (see `interchange_row`).
        additive: accuracy with the MLP's output, or the query, made additive in i and j.
        kind: rule or table by weights; None where that is ill-defined.
        neurons: columns neuron, added, share beyond i and j, share by t (of its variance), n_pairs, in order of what
            they add; None unless thorough.
        curve: accuracy without the first neurons' rest; None unless thorough.
        behaviour: at pairs never trained on; None where there are none, or it was not asked.
        state: interchange of s_{t-1} in the row's embedding; None where the task does not use it. Where answers do not
            follow it, it is not known what answers another t makes.
        own_position: answers for t' where the row, with all else as it is, has the position of the row of s_{t'}.
    """

    layer: int
    probes: "pd.DataFrame"
    guess_from_i: float
    score: Interval
    score_by_weights: list[float]
    interchanges: "pd.DataFrame"
    additive: dict[str, Without]
    kind: Subtraction | None
    neurons: "pd.DataFrame | None"
    curve: "pd.DataFrame | None"
    behaviour: UnseenPairs | None
    state: InterchangeScore | None
    own_position: InterchangeScore

    def probe(self, site: str) -> "pd.Series":
        """Return the row of a site."""
        return self.probes.set_index("site").loc[[site]].iloc[0]

    def best_site(self, kind: str, context: Context) -> "pd.Series":
        """Return the row of the site of this kind that holds t best."""
        table = self.interchanges
        rows = table[(table["kind"] == kind) & (table["context"] == context)]
        return highest(rows, "iia")

    @property
    def decodable(self) -> bool:
        """Whether t is decoded from the MLP's output better than from its input, from i alone and by chance."""
        out = self.probe("MLP output")
        others = self.guess_from_i, self.probe("MLP input")["linear"], self.probe("raw embeddings")["linear"]
        return bool(out["low"] > max(*others, out["chance_high"]))

    @property
    def query_by_difference(self) -> bool:
        """Whether the query is a function of i - j, by and large."""
        return self.score.low >= SCORE

    @property
    def updates(self) -> bool:
        """Whether answers follow s_{t-1}, so that they are known for another t: F(s_{t-1}, x_{t'})."""
        return self.state is None or self.state.followed

    @property
    def followed(self) -> bool:
        """Whether more than half of the answers beyond chance follow the query's t, and no control passes."""
        return followed(self.best_site("q", "independent"))

    def holds(self, kind: str) -> bool:
        """Whether a site of this kind holds t and nothing else that matters, and no control passes."""
        return holds(self.best_site(kind, "independent"))

    def measures(self) -> Iterator[Measured]:
        """Yield the figures to follow over training."""
        for row in self.probes.to_dict("records"):
            quantity = at_named_site("probe accuracy", "t", row["site"], self.layer)
            yield Measured(quantity, row["linear"], row["low"], row["high"])
        for row in self.probes.to_dict("records"):
            if row["site"] in ("MLP input", "MLP output", "query"):
                quantity = at_named_site("variance beyond i and j", "t", row["site"], self.layer)
                yield Measured(quantity, row["beyond"], row["beyond_low"], row["beyond_high"])
        yield Measured(at_named_site("subtraction score", "t", "query", self.layer), *self.score)
        yield from interchange_rows(self.interchanges)
        for site, found in self.additive.items():
            quantity = at_named_site("states right if additive", "t", site, self.layer)
            yield Measured(quantity, *found.additive)
            yield Measured(quantity._replace(statistic="placebo"), *found.placebo)


@torch.no_grad()
def examine_subtraction(
    model: Model,
    data: DataConfig,
    task: Task,
    seed: int,
    layer: int = 0,
    thorough: bool = True,
    exposure: Exposure | None = None,
) -> SubtractionFindings:
    """Ask by probes, interchange interventions and ablation whether an MLP of one network subtracts positions.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        seed: of strings, folds, placebos and bootstraps.
        layer: of the MLP; a layer after it is needed.
        thorough: also what does not go into trajectories: small MLPs as probes, and neurons.
        exposure: which pairs were trained on.

    Raises:
        ValueError: there is no chain of thought, no layer after the MLP, no MLP, no embedding of positions, or there
            are too few pairs.
    """
    if (n_layers := model.config.n_layers) < layer + 2:
        raise ValueError(f"n_layers = {n_layers}: must be at least {layer + 2}, since a pointer is used a layer later")
    check_has_mlps(model.config)
    check_embeds_positions(model.config)
    generator = torch.Generator().manual_seed(seed)
    grid = position_grid(data, task, generator)
    rows = grid.rows.to(model.device)
    found = trace_rows(model, rows)
    features = _features(model, rows, found, layer)
    keys, groups = (grid.i, grid.j), grid.split.groups
    probes = read_sites(features, grid.split, keys, generator, thorough)
    additive = {
        name: made_additive(model, rows, found, site, groups, keys, generator)
        for name, site in (("MLP output", Site("mlp_out", layer)), ("query", Site("q", layer + 1)))
    }
    neurons, curve = None, None
    if thorough:
        neurons, rest = _neurons(model, found, layer, rows, grid)
        order = neurons["neuron"].tolist()
        curve = without_neurons(model, rows, found, layer, rest, groups, order, generator)
    first, heads = layer == 0, range(model.config.n_heads)  # the weights alone tell positions in the first layer
    return SubtractionFindings(
        layer=layer,
        probes=probes,
        guess_from_i=best_from(grid.rows.position, grid.split),
        score=_score(group_means(features["query"], groups).means, grid),
        score_by_weights=[subtraction_score(*pair_queries(model, data, task, 1, h)) for h in heads] if first else [],
        interchanges=_interchanges(model, data, task, layer, generator, N_SWAPS if thorough else N_SWAPS // 2),
        additive=additive,
        kind=rule_or_table(subtraction_neurons(model, data, task)) if first else None,
        neurons=neurons,
        curve=curve,
        behaviour=None if exposure is None else ask_unseen_pairs(model, data, task, exposure, seed),
        state=_state(model, data, task, seed) if uses(task, "s") else None,
        own_position=own_position(model, data, task, N_SWAPS, torch.Generator().manual_seed(seed)),
    )


def _state(model: Model, data: DataConfig, task: Task, seed: int) -> InterchangeScore:
    """Score the interchange of s_{t-1} in the row's embedding."""
    generator = torch.Generator().manual_seed(seed)
    pairs = make_interchanges(data, "s", "matched", N_SWAPS, generator, task)
    return interchange(model, pairs, Site("resid_pre", 0), generator)


def _features(model: Model, rows: Rows, found: RowTrace, layer: int) -> Mapping[str, Float[Tensor, "row _"]]:
    """Read the activations that a probe is asked about, by the name of their site."""
    return {
        "raw embeddings": torch.cat([blocks.position_embedding(model, at) for at in (rows.position, rows.end)], 1),
        "MLP input": found.at(mlp_input_site(model.config, layer)),
        "MLP output": found.at(Site("mlp_out", layer)),
        "stream after": found.at(Site("resid_post", layer)),
        "query": found.at(Site("q", layer + 1)),
    }


def _score(queries: Float[Tensor, "pair dim"], grid: PositionGrid) -> Interval:
    """Return the subtraction score with its 95% interval, from its standard error by the jackknife over
    pairs.

    A bootstrap would draw pairs twice, whose variance t then explains for nothing.
    """
    own, n = subtraction_score(queries, grid.i, grid.j), len(grid.i)
    without = torch.ones(n, n).bool().fill_diagonal_(False)
    left = torch.tensor([subtraction_score(queries[kept], grid.i[kept], grid.j[kept]) for kept in without])
    error = float(((n - 1) / n * (left - left.mean()).square().sum()).sqrt())
    return bounded(own, NORMAL * error, (0.0, 1.0))


def _interchanges(
    model: Model, data: DataConfig, task: Task, layer: int, generator: torch.Generator, n: int
) -> "pd.DataFrame":
    """Score interchanges of t at the MLP's output, in the stream after it and in the queries of the next layer."""
    sites = [Site("mlp_out", layer), Site("resid_post", layer)]
    heads = range(model.config.n_heads) if model.config.n_heads > 1 else ()
    sites += [Site("q", layer + 1), *(Site("q", layer + 1, head) for head in heads)]
    device, rows = model.device, []
    for context in get_args(Context):
        pairs = make_interchanges(data, "t", context, n, generator, task).to(device)
        traces = interchange_traces(model, pairs)
        for site in sites:
            score = interchange(model, pairs, site, generator, traces=traces)
            rows.append(interchange_row(pairs, site, score))
    return interchange_table(rows)


def _neurons(
    model: Model, found: RowTrace, layer: int, rows: Rows, grid: PositionGrid
) -> "tuple[pd.DataFrame, Float[Tensor, 'pair neuron']]":
    """Rank neurons by how much of their output is beyond sums over i and j, and that rest."""
    import pandas as pd

    means = group_means(hidden(model, found, layer), grid.split.groups).means
    rest = additive_rest(means, grid.i, grid.j)
    weight = blocks.neuron_outputs(model, layer).norm(dim=1).cpu().double()
    varied = (means - means.mean(0)).square().sum(0)
    by_t = torch.stack(
        [(means[grid.t == t] - means.mean(0)).mean(0).square() * (grid.t == t).sum() for t in grid.t.unique()]
    )
    above = means - means.min(0).values
    table = pd.DataFrame(
        {
            "neuron": range(means.shape[1]),
            "added": (weight * rest.square().mean(0).sqrt()).tolist(),
            "share beyond i and j": (rest.square().sum(0) / varied.clamp_min(1e-30)).tolist(),
            "share by t": (by_t.sum(0) / varied.clamp_min(1e-30)).tolist(),
            "n_pairs": (above.sum(0).square() / above.square().sum(0).clamp_min(1e-30)).tolist(),
        }
    )
    return table.sort_values("added", ascending=False, kind="stable").reset_index(drop=True), rest
