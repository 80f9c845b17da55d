"""Does MLP 1 update the state, s_t = F(s_{t-1}, x_t)? And which of its neurons make the non-additive part?

With fewer than 12 pairs (s, x), as for parity, each pair is left out in turn and reported by itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor

from compo_mech.analyses.class_means import class_mean_subspaces
from compo_mech.analyses.examine import at_named_site, followed, holds, interchange_rows
from compo_mech.analyses.update_neurons import activation_table, neuron_table, with_start
from compo_mech.causal.interchange import interchange, interchange_row, interchange_table
from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import Rows, Variable
from compo_mech.causal.variables import Context, Interchanges, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model import blocks
from compo_mech.model.architecture import check_has_mlps
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, mlp_input_site
from compo_mech.probing.additivity import Without, made_additive
from compo_mech.probing.controls import best_from
from compo_mech.probing.grid import StateGrid, state_grid
from compo_mech.probing.neurons import hidden, without_neurons
from compo_mech.probing.probes import linear_probe, separable
from compo_mech.probing.sites import read_sites
from compo_mech.probing.variance import additive_rest, group_means
from compo_mech.runs.trajectory import Measured

if TYPE_CHECKING:
    import pandas as pd

N_SWAPS = 400
SITES = ("MLP input", "MLP output", "stream after")
BEFORE = ("raw embeddings", "MLP input")


@dataclass(frozen=True)
class UpdateFindings:
    """What one network does with states.

    Attributes:
        layer: of the MLP that is asked about.
        probes: a row a site (see `read_sites`), and `separable`: accuracy of the best line.
        left_out: columns s, x, answer and, a site each, the fraction decoded right when that pair
            is left out; None where folds hold several.
        guess_from_s, guess_from_x: accuracy of the best guess of s_t from either alone.
        interchanges: of s, x and the answer, where the algorithm has them (see `interchange_row`).
        subspaces: spanned by class means in the MLP's input (see `class_mean_subspaces`).
        overlap: mean squared cosine between the two subspaces; None where the task has but one.
        additive: accuracy with the MLP's output made additive in s and x.
        neurons: in order of what they add to the right answer (see `neuron_table`).
        activations: activation of each neuron on each pair, rows (s, x) with s = n_states for the start.
        curve: accuracy without the first neurons' rest; None unless thorough.
        reads: interchanges of s alone and of x alone, with all else the same, at the MLP's output.
        starts: whether the activations have the start's pairs.
        computed: whether F is more than a sum of functions of s and x: copy's is not.
    """

    layer: int
    probes: "pd.DataFrame"
    left_out: "pd.DataFrame | None"
    guess_from_s: float
    guess_from_x: float
    interchanges: "pd.DataFrame"
    subspaces: "pd.DataFrame"
    overlap: float | None
    additive: Without
    neurons: "pd.DataFrame"
    activations: "pd.DataFrame"
    curve: "pd.DataFrame | None"
    reads: "pd.DataFrame"
    starts: bool
    computed: bool

    def probe(self, site: str) -> "pd.Series":
        """Return the row of a site."""
        return self.probes.set_index("site").loc[[site]].iloc[0]

    @property
    def decodable(self) -> bool:
        """Whether s_t is decoded on pairs left out from the MLP's output, or the stream after it, by more than half of
        the way from what its input, the embeddings, s or x alone and chance tell to all."""
        return any(bool(self.probe(site)["low"] > self.decodable_from(site)) for site in SITES[1:])

    def decodable_from(self, site: str) -> float:
        """Return the level that the interval of what is decoded from a site must lie above.

        With few pairs permuted labels are often functions of s or of x: what they can be decoded from says
        nothing of F.
        """
        chance = 0.0 if self.left_out is not None else self.probe(site)["chance_high"]
        known = self.guess_from_s, self.guess_from_x, *(self.probe(before)["linear"] for before in BEFORE)
        return (1 + max(*known, chance)) / 2

    @property
    def separates(self) -> bool:
        """Whether a line separates the states after the MLP, and none did before."""
        return bool(self.probe("MLP output")["separable"] > 0.999 > self.probe("MLP input")["separable"])

    def interchanges_of(self, variable: Variable, context: Context) -> "pd.Series | None":
        """Return the row of a variable and a context; None where the task does not use the variable."""
        table = self.interchanges
        rows = table[(table["variable"] == variable) & (table["context"] == context)]
        return rows.iloc[0] if len(rows) else None

    @property
    def answer(self) -> "pd.Series":
        """The interchange of s_t at the MLP's output, in an independent context."""
        row = self.interchanges_of("answer", "independent")
        assert row is not None  # every task has an answer
        return row

    @property
    def holds(self) -> bool:
        """Whether the MLP's output holds s_t and nothing else that matters, and no control passes."""
        return holds(self.answer)

    @property
    def followed(self) -> bool:
        """Whether more than half of the answers beyond chance follow the MLP's output, and no control passes."""
        return followed(self.answer)

    @property
    def unread(self) -> list[Variable]:
        """The variables that answers do not follow through the MLP's output when one of them alone is another."""
        return [row["variable"] for row in self.reads.to_dict("records") if not followed(row)]

    def measures(self) -> Iterator[Measured]:
        """Yield the figures to follow over training."""
        for row in self.probes.to_dict("records"):
            quantity = at_named_site("probe accuracy", "answer", row["site"], self.layer)
            yield Measured(quantity, row["linear"], row["low"], row["high"])
        yield from interchange_rows(self.interchanges)
        for row in self.subspaces.to_dict("records"):
            quantity = at_named_site("IIA of class means", row["variable"], "MLP input", self.layer)
            yield Measured(quantity, row["iia"], row["low"], row["high"])
        quantity = at_named_site("states right if additive", "answer", "MLP output", self.layer)
        yield Measured(quantity, *self.additive.additive)
        yield Measured(quantity._replace(statistic="placebo"), *self.additive.placebo)


@torch.no_grad()
def examine_update(
    model: Model, data: DataConfig, task: Task, seed: int, layer: int = 1, thorough: bool = True
) -> UpdateFindings:
    """Examine one network.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        seed: of strings, folds, placebos and bootstraps.
        layer: of the MLP.
        thorough: also what does not go into trajectories: small MLPs as probes, lines, and neurons one by one.

    Raises:
        ValueError: there is no chain of thought, no layer before the MLP's, no MLP, or there are too few pairs.
    """
    if not 0 < layer < model.config.n_layers:
        raise ValueError(f"n_layers = {model.config.n_layers}: must be at least 2, since x_t is fetched before the MLP")
    check_has_mlps(model.config)
    generator = torch.Generator().manual_seed(seed)
    grid = state_grid(data, task, generator)
    device, keys, groups = model.device, (grid.s, grid.x), grid.split.groups
    rows = grid.rows.to(device)
    found = trace_rows(model, rows)
    features = _features(model, rows, found, layer)
    probes = read_sites(features, grid.split, keys, generator, thorough)
    if thorough:
        with threadpool_limits(1):  # several threads wait for each other: up to 80 times as long
            probes["separable"] = [float(separable(v.cpu(), grid.split.labels)) for v in features.values()]
    means = group_means(hidden(model, found, layer), groups).means
    rest = additive_rest(means, *keys)
    neurons, curve = neuron_table(model, found, layer, grid, means, rest), None
    if thorough:
        order = neurons["neuron"].tolist()
        curve = without_neurons(model, rows, found, layer, rest, groups, order, generator)
    n_swaps = N_SWAPS if thorough else N_SWAPS // 2
    subspaces, overlap = class_mean_subspaces(model, data, task, grid, found, layer, generator, 2 * n_swaps)
    activations, starts = activation_table(grid, means), len(grid.start) > 0
    return UpdateFindings(
        layer=layer,
        probes=probes,
        left_out=_left_out(features, grid) if len(grid.s) < 12 else None,
        guess_from_s=best_from(grid.rows.s, grid.split),
        guess_from_x=best_from(grid.rows.x, grid.split),
        interchanges=_interchanges(model, data, task, layer, generator, thorough),
        subspaces=subspaces,
        overlap=overlap,
        additive=made_additive(model, rows, found, Site("mlp_out", layer), groups, keys, generator),
        neurons=neurons,
        activations=with_start(model, layer, grid.start.to(device), activations, task) if starts else activations,
        curve=curve,
        reads=_reads(model, data, task, layer, generator, n_swaps),  # last, so that draws before stay what they were
        starts=starts,
        computed=_is_computed(grid),
    )


def _is_computed(grid: StateGrid) -> bool:
    """Return whether F is more than a sum of functions of s and x."""
    answers = torch.nn.functional.one_hot(grid.split.group_labels).double()
    return bool(additive_rest(answers, grid.s, grid.x).abs().max() > 1e-6)


def _features(model: Model, rows: Rows, found: RowTrace, layer: int) -> Mapping[str, Float[Tensor, "row _"]]:
    """Read the activations that a probe is asked about, by the name of their site."""
    sites = mlp_input_site(model.config, layer), Site("mlp_out", layer), Site("resid_post", layer)
    features = {"raw embeddings": torch.cat([blocks.token_embedding(model, ids) for ids in (rows.s, rows.x)], 1)}
    return features | {name: found.at(site) for name, site in zip(SITES, sites, strict=True)}


def _left_out(features: Mapping[str, Tensor], grid: StateGrid) -> "pd.DataFrame":
    """Return the fraction of each pair's rows that is decoded right when the pair is left out."""
    import pandas as pd

    columns: dict[str, list] = {"s": grid.s.tolist(), "x": grid.x.tolist(), "answer": grid.split.group_labels.tolist()}
    for site, values in features.items():
        right = (linear_probe(values.cpu(), grid.split) == grid.split.labels).double()
        means = group_means(right[:, None], grid.split.groups).means[:, 0]
        columns[site] = means.where(grid.split.of_groups(grid.split.fold) >= 0, float("nan")).tolist()
    return pd.DataFrame(columns)


def _interchanges(
    model: Model, data: DataConfig, task: Task, layer: int, generator: torch.Generator, thorough: bool
) -> "pd.DataFrame":
    """Score interchanges at the MLP's output, at the attention's output and in the row's embedding."""
    plans: list[tuple[Variable, Site]] = [
        ("x", Site("attn_out", layer)),
        ("s", Site("resid_pre", 0)),
        ("answer", Site("mlp_out", layer)),
    ]
    contexts: tuple[Context, ...] = get_args(Context) if thorough else ("independent",)
    n = N_SWAPS if thorough else N_SWAPS // 2
    rows = []
    for variable, site in plans:
        if not uses(task, variable):
            continue
        for context in ("matched",) if variable == "s" else contexts:
            rows.append(
                _interchanged(model, make_interchanges(data, variable, context, n, generator, task), site, generator)
            )
    return interchange_table(rows)


def _reads(
    model: Model, data: DataConfig, task: Task, layer: int, generator: torch.Generator, n: int
) -> "pd.DataFrame":
    """Score interchanges of s alone and of x alone at the MLP's output: does it pass on either?"""
    variables: tuple[Variable, ...] = ("s", "x")
    pairs = [make_interchanges(data, v, "matched", n, generator, task) for v in variables if uses(task, v)]
    return interchange_table([_interchanged(model, of, Site("mlp_out", layer), generator) for of in pairs])


def _interchanged(model: Model, pairs: Interchanges, site: Site, generator: torch.Generator) -> dict[str, object]:
    pairs = pairs.to(model.device)
    return interchange_row(pairs, site, interchange(model, pairs, site, generator))
