"""Does MLP 1 update the state, s_t = F(s_{t-1}, x_t)? And which of its neurons make what no sum of both parts can be?

python probes/state_update.py runs/parity-seed0
python probes/state_update.py runs/parity-seed0 --step 600
python probes/state_update.py runs/parity-seed0 --all-steps

Writes tables into RUN/analysis/ and adds a section with a verdict to RUN/report.html. With fewer than 12
pairs (s, x), as for parity, one pair is left out in turn and each is reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor

from compo_mech.causal.interchange import FOLLOWED, HOLDS, interchange, interchange_traces
from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import Rows, Variable
from compo_mech.causal.variables import Others, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.traces import RowTrace
from compo_mech.model import blocks
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.additivity import Without, made_additive
from compo_mech.probing.controls import best_from
from compo_mech.probing.grid import StateGrid, state_grid
from compo_mech.probing.neurons import hidden, without_neurons
from compo_mech.probing.probes import linear_probe, separable
from compo_mech.probing.sites import read_sites
from compo_mech.probing.variance import additive_rest, group_means
from compo_mech.runs.trajectory import Measured
from compo_mech.weights.qk_ov import direct_logits

N_SWAPS = 400
SITES = ("MLP input", "MLP output", "stream after")
BEFORE = ("raw embeddings", "MLP input")


@dataclass(frozen=True)
class UpdateFindings:
    """What one network does with states.

    Attributes:
        layer: of the MLP that is asked about.
        probes: a row a site (see `readings.read_sites`), and `separable`: accuracy of the best line.
        left_out: columns s, x, answer and, a site each, the share told right when that pair is left out;
            None where folds hold several.
        guess_from_s, guess_from_x: accuracy of the best guess of s_t from either alone.
        held: columns variable, site, others, interchange, low, high, placebo, arbitrary.
        subspaces: columns variable, dims, share, interchange, low, high, placebo, arbitrary, random: spanned
            by class means in the MLP's input.
        overlap: mean squared cosine between the two subspaces; None where the task has but one.
        additive: accuracy with the MLP's output made additive in s and x.
        neurons: columns neuron, added, share, pattern, in order of what they add to the right answer.
        table: activation of each neuron on each pair, rows (s, x) with s = n_states for the start.
        curve: accuracy without the first neurons' rest; None unless thorough.
        starts: whether the table has the start's pairs.
        computed: whether F is more than a sum of functions of s and x: copy's is not.
    """

    layer: int
    probes: pd.DataFrame
    left_out: pd.DataFrame | None
    guess_from_s: float
    guess_from_x: float
    held: pd.DataFrame
    subspaces: pd.DataFrame
    overlap: float | None
    additive: Without
    neurons: pd.DataFrame
    table: pd.DataFrame
    curve: pd.DataFrame | None
    starts: bool
    computed: bool

    def probe(self, site: str) -> pd.Series:
        """The row of a site."""
        return self.probes.set_index("site").loc[[site]].iloc[0]

    @property
    def decodable(self) -> bool:
        """Whether s_t is told on pairs left out from the MLP's output, or the stream after it, by more than half of
        the way from what its input, the embeddings, s or x alone and chance tell to all.

        With few pairs labels dealt at random are often functions of s or of x: what they can be told by
        says nothing of F.
        """
        known = self.guess_from_s, self.guess_from_x, *(self.probe(site)["linear"] for site in BEFORE)
        few = self.left_out is not None
        rows = self.probe("MLP output"), self.probe("stream after")
        return any(bool(row["low"] > (1 + max(*known, 0.0 if few else row["chance_high"])) / 2) for row in rows)

    @property
    def separates(self) -> bool:
        """Whether a line parts the states after the MLP, and none did before."""
        return bool(self.probe("MLP output")["separable"] > 0.999 > self.probe("MLP input")["separable"])

    def _answer(self) -> pd.Series:
        rows = self.held[(self.held["variable"] == "answer") & (self.held["others"] == "free")]
        return rows.iloc[0]

    @property
    def holds(self) -> bool:
        """Whether the MLP's output holds s_t and nothing else that matters, and no control passes."""
        row = self._answer()
        return bool(row["interchange"] >= HOLDS > max(row["placebo"], row["arbitrary"]))

    @property
    def followed(self) -> bool:
        """Whether more than half of the answers beyond chance follow the MLP's output, and no control passes."""
        row = self._answer()
        return bool(row["low"] > FOLLOWED > max(row["placebo"], row["arbitrary"]))

    @property
    def needed(self) -> bool:
        """Whether answers go with what the MLP's output has beyond sums, and do not go with the placebo."""
        found = self.additive
        return found.additive.high < found.placebo.low and found.additive.mean < found.whole.mean - 0.1

    def measures(self) -> Iterator[Measured]:
        """The figures to follow over training."""
        for row in self.probes.to_dict("records"):
            yield Measured("probe of the state", str(row["site"]), row["linear"], row["low"], row["high"])
        for row in self.held.to_dict("records"):
            name = f"interchange of {row['variable']}, {row['others']} others"
            yield Measured(name, str(row["site"]), row["interchange"], row["low"], row["high"])
        for row in self.subspaces.to_dict("records"):
            name = f"interchange of {row['variable']} in its subspace"
            yield Measured(name, "MLP input", row["interchange"], row["low"], row["high"])
        yield Measured("right if additive", "MLP output", *self.additive.additive)
        yield Measured("right if additive", "MLP output, placebo", *self.additive.placebo)


@torch.no_grad()
def examine_update(
    model: Model, data: DataConfig, task: Task, seed: int, layer: int = 1, thorough: bool = True
) -> UpdateFindings:
    """Ask one network.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        seed: of strings, folds, placebos and bootstraps.
        layer: of the MLP.
        thorough: also what does not go into trajectories: small MLPs as probes, lines, and neurons one by one.

    Raises:
        ValueError: there is no chain of thought, no layer before the MLP's, or there are too few pairs.
    """
    if not 0 < layer < model.config.n_layers:
        raise ValueError(f"n_layers = {model.config.n_layers}: must be at least 2, since x_t is fetched before the MLP")
    generator = torch.Generator().manual_seed(seed)
    grid = state_grid(data, task, generator)
    device = model.device
    rows = grid.rows.to(device)
    found = trace_rows(model, rows)
    features = {"raw embeddings": torch.cat([blocks.token_embedding(model, ids) for ids in (rows.s, rows.x)], 1)}
    kinds = dict(zip(SITES, (Site("resid_mid", layer), Site("mlp_out", layer), Site("resid_post", layer)), strict=True))
    features |= {name: found.at(site) for name, site in kinds.items()}
    keys = grid.s, grid.x
    probes = read_sites(features, grid.split, keys, generator, thorough)
    if thorough:
        with threadpool_limits(1):  # several threads wait for each other: up to 80 times as long
            lines = [float(separable(values.cpu(), grid.split.labels)) for values in features.values()]
        probes["separable"] = lines
    groups = grid.split.groups
    means = group_means(hidden(model, found, layer), groups).means
    rest = additive_rest(means, *keys)
    neurons, table = _neurons(model, found, layer, rows, grid, means, rest)
    curve = None
    if thorough:
        order = neurons["neuron"].tolist()
        curve = without_neurons(model, rows, found, layer, rest, groups, order, generator)
    subspaces, overlapping = _subspaces(model, data, task, grid, found, layer, generator, thorough)
    labels = grid.split.group_labels
    return UpdateFindings(
        layer=layer,
        probes=probes,
        left_out=_left_out(features, grid) if len(grid.s) < 12 else None,
        guess_from_s=best_from(grid.rows.s, grid.split),
        guess_from_x=best_from(grid.rows.x, grid.split),
        held=_held(model, data, task, layer, generator, thorough),
        subspaces=subspaces,
        overlap=overlapping,
        additive=made_additive(model, rows, found, Site("mlp_out", layer), groups, keys, generator),
        neurons=neurons,
        table=table if not len(grid.start) else _with_start(model, layer, grid.start.to(device), table, task),
        curve=curve,
        starts=bool(len(grid.start)),
        computed=bool(additive_rest(torch.nn.functional.one_hot(labels).double(), *keys).abs().max() > 1e-6),
    )


def _left_out(features: dict[str, Tensor], grid: StateGrid) -> pd.DataFrame:
    """Share told right of each pair when it is left out."""
    columns: dict[str, list] = {"s": grid.s.tolist(), "x": grid.x.tolist(), "answer": grid.split.group_labels.tolist()}
    for site, values in features.items():
        right = (linear_probe(values.cpu(), grid.split) == grid.split.labels).double()
        means = group_means(right[:, None], grid.split.groups).means[:, 0]
        columns[site] = means.where(grid.split.of_groups(grid.split.fold) >= 0, float("nan")).tolist()
    return pd.DataFrame(columns)


def _held(
    model: Model, data: DataConfig, task: Task, layer: int, generator: torch.Generator, thorough: bool
) -> pd.DataFrame:
    """Interchanges at the MLP's output, at what attention brings, and in the row's embedding."""
    plans: list[tuple[Variable, Site]] = [
        ("x", Site("attn_out", layer)),
        ("s", Site("resid_pre", 0)),
        ("answer", Site("mlp_out", layer)),
    ]
    kinds: tuple[Others, ...] = ("same", "free") if thorough else ("free",)
    n = N_SWAPS if thorough else N_SWAPS // 2
    device, rows = model.device, []
    for variable, site in plans:
        if not uses(task, variable):
            continue
        for others in ("same",) if variable == "s" else kinds:
            pairs = make_interchanges(data, variable, others, n, generator, task).to(device)
            score = interchange(model, pairs, site, generator)
            named = {"variable": variable, "site": str(site), "others": others, "interchange": score.accuracy.mean}
            named |= {"low": score.accuracy.low, "high": score.accuracy.high}
            rows.append(named | {"placebo": score.placebo, "arbitrary": score.arbitrary})
    return pd.DataFrame(rows)


def _subspaces(
    model: Model,
    data: DataConfig,
    task: Task,
    grid: StateGrid,
    found: RowTrace,
    layer: int,
    generator: torch.Generator,
    thorough: bool,
) -> tuple[pd.DataFrame, float | None]:
    """Class means of s and of x in the MLP's input, and interchanges in what they span."""
    site = Site("resid_mid", layer)
    values = found.at(site).double()
    means = group_means(values, grid.split.groups).means
    spread, rows, bases = (values - values.mean(0)).square().sum(), [], {}
    names: tuple[Variable, ...] = ("s", "x")
    for variable, key in zip(names, (grid.s, grid.x), strict=True):
        if not uses(task, variable):
            continue
        centres = group_means(means, key).means
        basis = torch.linalg.svd((centres - centres.mean(0)).mT, full_matrices=False)[0][:, : len(centres) - 1]
        bases[variable] = basis
        share = float(((values - values.mean(0)) @ basis).square().sum() / spread)
        pairs = make_interchanges(data, variable, "free", 2 * N_SWAPS if thorough else N_SWAPS, generator, task)
        pairs = pairs[(pairs.base.t > 1) & (pairs.source.t > 1)].to(values.device)  # [EoI] is no state
        traces = interchange_traces(model, pairs)
        drawn = torch.linalg.qr(torch.randn(basis.shape, generator=generator, dtype=torch.float64)).Q.to(basis)
        score, random = (
            interchange(model, pairs, site, generator, part.to(found.logits.dtype), traces) for part in (basis, drawn)
        )
        named = {"variable": variable, "dims": basis.shape[1], "share": share, "interchange": score.accuracy.mean}
        named |= {"low": score.accuracy.low, "high": score.accuracy.high}
        rows.append(named | {"placebo": score.placebo, "arbitrary": score.arbitrary, "random": random.accuracy.mean})
    if len(bases) < 2:
        return pd.DataFrame(rows), None
    s, x = bases["s"], bases["x"]
    return pd.DataFrame(rows), float((s.mT @ x).square().sum() / min(s.shape[1], x.shape[1]))


def _neurons(
    model: Model,
    found: RowTrace,
    layer: int,
    rows: Rows,
    grid: StateGrid,
    means: Float[Tensor, "pair neuron"],
    rest: Float[Tensor, "pair neuron"],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Neurons in order of what their rest adds to the right answer's logit above the other states', by the
    direct way through the last LayerNorm as it is; and each one's activation on each pair."""
    direct = direct_logits(model, blocks.neuron_outputs(model, layer))
    post = found.at(Site("resid_post", model.config.n_layers - 1))
    scale = post.std(1, correction=0)[:, None] if model.config.normalization == "LN" else torch.ones_like(post[:, :1])
    inverse = group_means(1 / scale, grid.split.groups).means[:, 0]
    states = direct[:, : int(grid.split.labels.max()) + 1].double()
    n_states, right = states.shape[1], grid.split.group_labels
    above = (states[:, right] - (states.sum(1, keepdim=True) - states[:, right]) / max(1, n_states - 1)).mT
    added = (rest * inverse[:, None] * above).mean(0)
    peak = means.max(0).values
    fires = means > means.min(0).values + 0.5 * (peak - means.min(0).values)
    names = [f"{s},{x}" for s, x in zip(grid.s.tolist(), grid.x.tolist(), strict=True)]
    varied = (means - means.mean(0)).square().sum(0)
    frame = pd.DataFrame(
        {
            "neuron": range(means.shape[1]),
            "added": added.tolist(),
            "share": (added / added.sum()).tolist(),
            "share beyond s and x": (rest.square().sum(0) / varied.clamp_min(1e-30)).tolist(),
            "fires on (s, x)": [
                " ".join(name for name, on in zip(names, column, strict=True) if on)
                if sum(column) <= 8
                else f"{sum(column)} pairs"
                for column in fires.mT.tolist()
            ],
        }
    )
    frame = frame.sort_values("added", ascending=False, kind="stable").reset_index(drop=True)
    table = pd.DataFrame(
        {"s": grid.s.tolist(), "x": grid.x.tolist()}
        | dict(zip(map(str, range(means.shape[1])), means.mT.tolist(), strict=True))
    )
    return frame, table


def _with_start(model: Model, layer: int, start: Rows, table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The table with the pairs of the start, whose state is numbered n_states."""
    found = trace_rows(model, start)
    means = group_means(hidden(model, found, layer), start.x)
    columns = {"s": [task.n_states] * len(means.groups), "x": means.groups.tolist()}
    columns |= dict(zip(map(str, range(means.means.shape[1])), means.means.mT.tolist(), strict=True))
    return pd.concat([table, pd.DataFrame(columns)], ignore_index=True)
