"""Both probes on one run, as rows of the table over many: what MLP 0 and MLP 1 do, with the controls."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from compo_mech.analyses.examine import at_named_site, examined, interchange_quantity
from compo_mech.analyses.position_subtraction import SubtractionFindings
from compo_mech.analyses.state_update import SITES, UpdateFindings
from compo_mech.analyses.subtraction_probe import SUBTRACTION, subtraction_verdict
from compo_mech.analyses.update_probe import UPDATE, update_verdict
from compo_mech.causal.variables import Context
from compo_mech.data.tasks import Task
from compo_mech.probing.unseen_pairs import UnseenPairs
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Quantity
from compo_mech.stats.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, object]
Figures = Mapping[Quantity, Interval]


def rows_of(run: Run, name: str, task: Task, seed: int) -> list[Row]:
    """Measure everything of a run, which has this name among others.

    Returns:
        Rows of run, task, seed, component (the MLP), those of `Quantity`, value, low, high, control (the control's
        value) and verdict (of the probe of that MLP; of pairs never trained on, whether they show a rule or a table).
    """
    subtraction, update = examined(SUBTRACTION, run, task, None, seed), examined(UPDATE, run, task, None, seed)
    named: Row = {"run": name, "task": str(task), "seed": run.config.seed}
    rows = _rows(
        named | {"component": "MLP 0", "verdict": str(subtraction_verdict(subtraction.trained).answer)},
        _subtraction_figures(subtraction.trained),
        _subtraction_figures(subtraction.control),
    )
    rows += _rows(
        named | {"component": "MLP 1", "verdict": str(update_verdict(update.trained).answer)},
        _update_figures(update.trained),
        _update_figures(update.control),
    )
    behaviour = subtraction.trained.behaviour
    if behaviour is not None:
        rows += _rows(named | {"component": "MLP 0", "verdict": behaviour.verdict}, _unseen_figures(behaviour), {})
    return rows


def _rows(named: Row, figures: Figures, control: Figures) -> list[Row]:
    """Lay out figures, each beside the control's value if there is one."""
    verdict = {"verdict": named["verdict"]}
    place = {name: value for name, value in named.items() if name != "verdict"}
    return [
        place
        | quantity._asdict()
        | {"value": found.mean, "low": found.low, "high": found.high}
        | {"control": control[quantity].mean if quantity in control else None}
        | verdict
        for quantity, found in figures.items()
    ]


def _subtraction_figures(found: SubtractionFindings) -> Figures:
    figures = {
        at_named_site("probe accuracy", "t", site, found.layer): _interval(found.probe(site), "linear")
        for site in ("MLP input", "MLP output", "query")
    }
    figures |= {
        at_named_site("variance beyond i and j", "t", site, found.layer): _interval(found.probe(site), "beyond")
        for site in ("MLP output", "query")
    }
    figures[at_named_site("subtraction score", "t", "query", found.layer)] = found.score
    for context in get_args(Context):
        for kind, layer in (("mlp_out", found.layer), ("q", found.layer + 1)):
            quantity = Quantity("IIA", "best", "t", context, kind, layer)  # of the layer or of one of its heads
            figures[quantity] = _interval(found.best_site(kind, context), "iia")
    for site, cut in found.additive.items():
        figures[at_named_site("states right if additive", "t", site, found.layer)] = cut.additive
    return figures


def _update_figures(found: UpdateFindings) -> Figures:
    figures = {
        at_named_site("probe accuracy", "answer", site, found.layer): _interval(found.probe(site), "linear")
        for site in SITES
    }
    for row in found.interchanges.to_dict("records"):
        figures[interchange_quantity(row)] = _interval(row, "iia")
    for row in found.subspaces.to_dict("records"):
        quantity = at_named_site("IIA of class means", row["variable"], "MLP input", found.layer)
        figures[quantity] = _interval(row, "iia")
    quantity = at_named_site("states right if additive", "answer", "MLP output", found.layer)
    return figures | {quantity: found.additive.additive}


def _unseen_figures(found: UnseenPairs) -> Figures:
    figures = {
        Quantity("states right", "unseen pairs"): found.unseen_accuracy,
        Quantity("states right", "trained pairs"): found.seen_accuracy,
    }
    if found.rescued is not None:
        figures[Quantity("states right", "unseen pairs with a trained pair's query")] = found.rescued
    return figures


def _interval(row: "Mapping | pd.Series", column: str) -> Interval:
    low, high = ("beyond_low", "beyond_high") if column == "beyond" else ("low", "high")
    return Interval(row[column], row[low], row[high])
