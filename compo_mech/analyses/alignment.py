"""Where a network holds the algorithm's variables: interchange maps over sites and steps, and searched subspaces.

Hypothesis: t is in the stream after layer 0, x_t comes with the attention of layer 1, s_{t-1} stays in the
row, and s_t is what MLP 1 adds. Primary measure: interchange intervention accuracy (IIA) on strings that were not
searched on, beside a placebo, permuted labels, random subspaces and a randomly initialised control.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compo_mech.analyses import examine
from compo_mech.causal.das import Alignment, align
from compo_mech.causal.interchange import HOLDS, interchange_map
from compo_mech.causal.rows import Rows, Variable, check_data
from compo_mech.causal.variables import Interchanges, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.splits import is_split, is_test_string
from compo_mech.data.tasks import Task
from compo_mech.evaluation.table import highest
from compo_mech.interventions.head_roles import carried_share
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, kinds_of
from compo_mech.runs.run import Run
from compo_mech.stats.intervals import on_its_side

if TYPE_CHECKING:
    import pandas as pd

N_TRAIN, N_TEST = 768, 512
N_MAP = 400


@dataclass(frozen=True)
class Aligned:
    """What was found in one checkpoint.

    Attributes:
        trained, control: interchange maps of the trained network and of a randomly initialised control.
        by_step: the trained network's maps at every checkpoint, with a column step; None if not asked for.
        searched: columns variable, site, n_dims, width (of the site), iia, low, high, placebo, random (subspaces),
            permuted (labels), control.
    """

    task: Task
    step: int
    trained: "pd.DataFrame"
    control: "pd.DataFrame"
    by_step: "pd.DataFrame | None"
    searched: "pd.DataFrame"

    @property
    def sentences(self) -> list[str]:
        """Say where each variable is held best, and what the search came to."""
        return [self._sentence(variable) for variable in self.trained["variable"].unique()]

    def _sentence(self, variable: Variable) -> str:
        rows, control = (
            table[(table["variable"] == variable) & (table["context"] == "independent")]
            for table in (self.trained, self.control)
        )
        if not len(rows):
            text = f"{variable}: where it is held was not asked with all else another string's."
            return text + self._searched(variable)
        best, holding = highest(rows, "iia"), rows[[examine.holds(row) for row in rows.to_dict("records")]]
        if len(holding):
            best = highest(holding, "iia")
        beside = f"control {highest(control, 'iia')['iia']:.0%} at best" if len(control) else "no control"
        placebo, permuted = (on_its_side(best[name], HOLDS, percent=True) for name in ("placebo", "permuted"))
        text = (
            f"{variable}: {'by itself held best' if len(holding) else 'held by no site by itself; best'} at "
            f"{best['site']}, where {on_its_side(best['iia'], HOLDS, percent=True)} ({best['low']:.1%} .. "
            f"{best['high']:.1%}) of the answers follow it ({HOLDS:.0%} needed, placebo and permuted labels below "
            f"that; placebo {placebo}, permuted labels {permuted}, {beside})"
        )
        if best["iia"] >= HOLDS and (failing := examine.failing(best)):
            text += f", but {' and '.join(failing)} {'reach' if failing != ['the placebo'] else 'reaches'} it as well"
        return f"{text}.{self._searched(variable)}"

    def _searched(self, variable: Variable) -> str:
        """What the search came to, a sentence a site."""
        text = ""
        for row in self.searched[self.searched["variable"] == variable].to_dict("records"):
            text += (
                f" In {row['n_dims']} of {row['width']} dimensions of {row['site']}, found by search: "
                f"{row['iia']:.0%} ({row['low']:.0%} .. {row['high']:.0%}) on other strings (random "
                f"{row['random']:.0%}, searched with permuted labels {row['permuted']:.0%}, control "
                f"{row['control']:.0%})."
            )
        return text

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Return what is kept, by name; maps of the trained network and of its control in one table."""
        import pandas as pd

        maps = [self.trained.assign(network="trained"), self.control.assign(network="control")]
        tables = {"interchange": pd.concat(maps, ignore_index=True), "searched": self.searched}
        return tables if self.by_step is None else tables | {"by-step": self.by_step}


def aligned(
    run: Run,
    task: Task,
    step: int | None,
    all_steps: bool,
    seed: int,
    advance: Callable[[str, int], None] = lambda what, n_left: None,
) -> Aligned:
    """Map and search one task's variables in one checkpoint.

    Args:
        run: whose checkpoint.
        task: one of its.
        step: of the checkpoint; None: the last.
        all_steps: also the interchange map of every checkpoint.
        seed: of all that is drawn.
        advance: called with what comes next, and how many pieces of work are left.

    Raises:
        RunError, ValueError: there is no such checkpoint, or the network or the task cannot be asked.
    """
    import pandas as pd

    data, config = run.config.data, run.config.model
    check_data(data, task)
    if config.n_layers < 2:
        raise ValueError(f"n_layers = {config.n_layers}: must be at least 2, since a pointer is used a layer later")
    model, control = Model(run.params(step), config), Model(run.control(), config)
    generator = torch.Generator().manual_seed(seed)
    plans, steps = search_plans(model, data, task, generator), run.steps if all_steps else []
    asked_step = run.steps[-1] if step is None else step
    n_left = 2 + len([s for s in steps if s != asked_step]) + 3 * len(plans)

    def mapped(asked: Model) -> "pd.DataFrame":
        nonlocal n_left
        advance("interchange maps", n_left)
        n_left -= 1
        return interchange_map(asked, data, torch.Generator().manual_seed(seed), N_MAP, task)

    maps = mapped(model), mapped(control)
    by_step = [(maps[0] if s == asked_step else mapped(Model(run.params(s), config))).assign(step=s) for s in steps]
    rows = []
    for site, dims in plans:
        pairs = {v: _split(make_interchanges(data, v, "independent", 3 * N_TRAIN, generator, task), task) for v in dims}
        train: dict[Variable, Interchanges] = {v: pairs[v][0] for v in dims}
        test: dict[Variable, Interchanges] = {v: pairs[v][1] for v in dims}
        results: list[Alignment] = []
        for asked, permuted in ((model, False), (model, True), (control, False)):
            advance(f"search at {site}", n_left)
            results.append(align(asked, site, dims, train, test, generator, permuted=permuted))
            n_left -= 1
        rows += _rows(site, dims, config.d_model, *results)
    return Aligned(
        task=task,
        step=asked_step,
        trained=maps[0],
        control=maps[1],
        by_step=pd.concat(by_step, ignore_index=True) if by_step else None,
        searched=pd.DataFrame(rows),
    )


def search_plans(
    model: Model, data: DataConfig, task: Task, generator: torch.Generator
) -> list[tuple[Site, dict[Variable, int]]]:
    """Plan where each variable should be, by the algorithm, and in how many dimensions: one less than it has values."""
    layer = 1
    if model.config.n_layers > 2:
        layer += int(carried_share(model, data, "x", generator, task=task)[1][1:].argmax())
    n_inputs = task.n_inputs - task.first_input
    after_attention = "resid_mid" if "resid_mid" in kinds_of(model.config) else "resid_post"
    dims: list[tuple[Site, dict[Variable, int]]] = [
        (Site("resid_post", layer - 1), {"t": max(1, max(data.drawn_lengths) - 1)}),
        (Site(after_attention, layer), {"x": max(1, n_inputs - 1), "s": task.n_states}),  # [EoI] is one more state
        (Site("resid_post", layer), {"answer": max(1, task.n_states - 1)}),
    ]
    used: list[tuple[Site, dict[Variable, int]]] = []
    for site, wanted in dims:
        kept: dict[Variable, int] = {v: n for v, n in wanted.items() if uses(task, v)}
        if kept and sum(kept.values()) <= model.config.d_model:
            used.append((site, kept))
    return used


def _split(pairs: Interchanges, task: Task) -> tuple[Interchanges, Interchanges]:
    """Split into pairs of training strings and pairs whose base is a test string; short strings serve for both."""

    def held_out(rows: Rows) -> Tensor:
        split = torch.tensor([is_split(task, int(length)) for length in rows.length])
        return is_test_string(rows.inputs, rows.length) & split

    base, source = held_out(pairs.base), held_out(pairs.source)
    short = torch.tensor([not is_split(task, int(length)) for length in pairs.base.length])
    again = short & (torch.arange(len(short)) % 4 == 0)  # as many as there are test strings of other lengths
    train, test = (~base & ~source & ~again).nonzero()[:, 0], (base | again).nonzero()[:, 0]
    return pairs[train[:N_TRAIN]], pairs[test[:N_TEST]]


def _rows(
    site: Site, dims: Mapping[Variable, int], width: int, trained: Alignment, permuted: Alignment, control: Alignment
) -> list[dict[str, object]]:
    rows = []
    for variable, n in dims.items():
        score = trained.scores[variable]
        row: dict[str, object] = {"variable": variable, "site": str(site), "n_dims": n, "width": width}
        row |= dict(zip(("iia", "low", "high"), score.accuracy, strict=True))
        row |= {"placebo": score.placebo, "random": trained.random[variable].accuracy.mean}
        row["permuted"] = permuted.scores[variable].accuracy.mean
        row["control"] = control.scores[variable].accuracy.mean
        rows.append(row)
    return rows
