"""Where a network holds the algorithm's variables: interchange maps over sites and steps, and searched subspaces.

Hypothesis: t is in the stream after layer 0, x_t comes with the attention of layer 1, s_{t-1} stays in the
row, and s_t is what MLP 1 adds. Primary measure: interchange accuracy on strings that were not searched on,
beside a placebo, arbitrary labels, random subspaces and a freshly initialised network.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from compo_mech.causal.das import Alignment, align
from compo_mech.causal.interchange import HOLDS, interchange_map
from compo_mech.causal.rows import Rows, Variable, check_data
from compo_mech.causal.variables import Interchanges, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.splits import is_split, is_test_string
from compo_mech.data.tasks import Task
from compo_mech.interventions.head_roles import carried_share
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.runs.run import Run

N_TRAIN, N_TEST = 768, 512
N_MAP = 400


@dataclass(frozen=True)
class Aligned:
    """What was found in one checkpoint.

    Attributes:
        own, fresh: interchange maps of the network and of a freshly initialised one.
        by_step: the network's maps at every checkpoint, with a column step; None if not asked for.
        searched: columns variable, site, dims, of (the site's width), interchange, low, high, placebo,
            random, arbitrary, fresh.
    """

    task: Task
    step: int
    own: pd.DataFrame
    fresh: pd.DataFrame
    by_step: pd.DataFrame | None
    searched: pd.DataFrame

    @property
    def sentences(self) -> list[str]:
        """What it comes to."""
        said = []
        for variable in self.own["variable"].unique():
            rows = self.own[(self.own["variable"] == variable) & (self.own["others"] == "free")]
            best = rows.sort_values("interchange").iloc[-1]
            fresh = self.fresh[self.fresh["variable"] == variable]["interchange"].max()
            held = "by itself held best" if best["interchange"] >= HOLDS else "held by no site by itself; best"
            text = (
                f"{variable}: {held} at {best['site']}, where {best['interchange']:.0%} "
                f"({best['low']:.0%} .. {best['high']:.0%}) of the answers follow it (placebo {best['placebo']:.0%}, "
                f"arbitrary labels {best['arbitrary']:.0%}, fresh network at best {fresh:.0%})."
            )
            for row in self.searched[self.searched["variable"] == variable].to_dict("records"):
                text += (
                    f" In {row['dims']} of {row['of']} dimensions of {row['site']}, found by search: "
                    f"{row['interchange']:.0%} ({row['low']:.0%} .. {row['high']:.0%}) on other strings (random "
                    f"{row['random']:.0%}, searched with arbitrary labels {row['arbitrary']:.0%}, fresh network "
                    f"{row['fresh']:.0%})."
                )
            said.append(text)
        return said


def aligned(
    run: Run,
    task: Task,
    step: int | None,
    all_steps: bool,
    seed: int,
    tell: Callable[[str, int], None] = lambda what, n_left: None,
) -> Aligned:
    """Maps and searches of one task.

    Args:
        run: whose checkpoint.
        task: one of its.
        step: of the checkpoint; None: the last.
        all_steps: also the interchange map of every checkpoint.
        seed: of all that is drawn.
        tell: is told what comes next, and how many pieces of work are left.

    Raises:
        RunError, ValueError: there is no such checkpoint, or the network or the task cannot be asked.
    """
    data, config = run.config.data, run.config.model
    check_data(data, task)
    if config.n_layers < 2:
        raise ValueError(f"n_layers = {config.n_layers}: must be at least 2, since a pointer is used a layer later")
    model, control = Model(run.params(step), config), Model(run.control(), config)
    generator = torch.Generator().manual_seed(seed)
    plans = search_plans(model, data, task, generator)
    steps = run.steps if all_steps else []
    n_left = 2 + len(steps) + 3 * len(plans)

    def mapped(asked: Model) -> pd.DataFrame:
        nonlocal n_left
        tell("interchange maps", n_left)
        table = interchange_map(asked, data, torch.Generator().manual_seed(seed), N_MAP, task)
        n_left -= 1
        return table

    own, fresh = mapped(model), mapped(control)
    by_step = [mapped(Model(run.params(s), config)).assign(step=s) for s in steps]
    rows = []
    for site, dims in plans:
        names: list[Variable] = list(dims)
        pairs = {v: _split(make_interchanges(data, v, "free", 3 * N_TRAIN, generator, task), task) for v in dims}
        train: dict[Variable, Interchanges] = {v: pairs[v][0] for v in names}
        test: dict[Variable, Interchanges] = {v: pairs[v][1] for v in names}
        results: list[Alignment] = []
        for asked, arbitrary in ((model, False), (model, True), (control, False)):
            tell(f"search at {site}", n_left)
            results.append(align(asked, site, dims, train, test, generator, arbitrary=arbitrary))
            n_left -= 1
        rows += _rows(site, dims, config.d_model, *results)
    return Aligned(
        task=task,
        step=run.steps[-1] if step is None else step,
        own=own,
        fresh=fresh,
        by_step=pd.concat(by_step, ignore_index=True) if by_step else None,
        searched=pd.DataFrame(rows),
    )


def search_plans(
    model: Model, data: DataConfig, task: Task, generator: torch.Generator
) -> list[tuple[Site, dict[Variable, int]]]:
    """Where each variable should be, by the algorithm, and in how many dimensions: one less than it has values."""
    layer = 1
    if model.config.n_layers > 2:
        layer += int(carried_share(model, data, "x", generator, task=task)[1][1:].argmax())
    n_inputs = task.n_inputs - task.first_input
    dims: list[tuple[Site, dict[Variable, int]]] = [
        (Site("resid_post", layer - 1), {"t": max(1, max(data.drawn_lengths) - 1)}),
        (Site("resid_mid", layer), {"x": max(1, n_inputs - 1), "s": task.n_states}),  # [EoI] is one more state
        (Site("resid_post", layer), {"answer": max(1, task.n_states - 1)}),
    ]
    used: list[tuple[Site, dict[Variable, int]]] = []
    for site, wanted in dims:
        kept: dict[Variable, int] = {v: n for v, n in wanted.items() if uses(task, v)}
        if kept and sum(kept.values()) <= model.config.d_model:
            used.append((site, kept))
    return used


def _split(pairs: Interchanges, task: Task) -> tuple[Interchanges, Interchanges]:
    """Pairs of training strings, and pairs whose base is a test string; short strings serve for both."""

    def held_out(rows: Rows) -> Tensor:
        split = torch.tensor([is_split(task, int(length)) for length in rows.length])
        return is_test_string(rows.inputs, rows.length) & split

    base, source = held_out(pairs.base), held_out(pairs.source)
    short = torch.tensor([not is_split(task, int(length)) for length in pairs.base.length])
    again = short & (torch.arange(len(short)) % 4 == 0)  # as many as there are test strings of other lengths
    train, test = (~base & ~source & ~again).nonzero()[:, 0], (base | again).nonzero()[:, 0]
    return pairs[train[:N_TRAIN]], pairs[test[:N_TEST]]


def _rows(
    site: Site, dims: Mapping[Variable, int], width: int, own: Alignment, arbitrary: Alignment, fresh: Alignment
) -> list[dict[str, object]]:
    rows = []
    for variable, n in dims.items():
        score = own.scores[variable]
        row: dict[str, object] = {"variable": variable, "site": str(site), "dims": n, "of": width}
        row |= dict(zip(("interchange", "low", "high"), score.accuracy, strict=True))
        row |= {"placebo": score.placebo, "random": own.random[variable].accuracy.mean}
        row["arbitrary"] = arbitrary.scores[variable].accuracy.mean
        row["fresh"] = fresh.scores[variable].accuracy.mean
        rows.append(row)
    return rows
