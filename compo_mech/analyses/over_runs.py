"""Both probes on one run, as rows of the table over many: what MLP 0 and MLP 1 do, with the controls."""

import pandas as pd

from compo_mech.analyses import position_subtraction, state_update
from compo_mech.analyses.examine import examined
from compo_mech.analyses.subtraction_probe import SUBTRACTION, subtraction_verdict
from compo_mech.analyses.update_probe import UPDATE, update_verdict
from compo_mech.causal.variables import Others
from compo_mech.data.tasks import Task
from compo_mech.runs.run import Run
from compo_mech.stats.intervals import Interval

Row = dict[str, object]


def rows_of(run: Run, task: Task, seed: int) -> list[Row]:
    """Every figure of a run, of the network and of its control: columns figure, value, low, high, fresh."""
    sub, up = examined(SUBTRACTION, run, task, None, seed), examined(UPDATE, run, task, None, seed)
    own, fresh = _subtraction_figures(sub.own), _subtraction_figures(sub.fresh)
    mine, other = _update_figures(up.own), _update_figures(up.fresh)
    verdicts = {"MLP 0": subtraction_verdict(sub.own), "MLP 1": update_verdict(up.own)}
    behaviour = sub.own.behaviour
    named: Row = {"run": run.path.name, "task": str(task), "seed": run.config.seed}
    rows = []
    for mlp, figures, controls in (("MLP 0", own, fresh), ("MLP 1", mine, other)):
        for figure, value in figures.items():
            row = named | {"mlp": mlp, "figure": figure, "value": value.mean, "low": value.low, "high": value.high}
            rows.append(row | {"fresh": controls[figure].mean, "verdict": verdicts[mlp].split(";")[0].split(",")[0]})
    if behaviour is not None:
        for figure, value in (
            ("right at pairs never trained on", behaviour.unseen_accuracy),
            ("right at trained pairs", behaviour.seen_accuracy),
            ("right with a trained pair's query", behaviour.rescued),
        ):
            if value is not None:
                row = named | {"mlp": "MLP 0", "figure": figure, "value": value.mean, "low": value.low}
                rows.append(row | {"high": value.high, "verdict": behaviour.verdict})
    return rows


def _subtraction_figures(found: position_subtraction.SubtractionFindings) -> dict[str, Interval]:
    figures = {
        f"probe of t, {site}": _interval(found.probe(site), "linear") for site in ("MLP input", "MLP output", "query")
    }
    figures |= {f"t beyond i and j, {site}": _interval(found.probe(site), "beyond") for site in ("MLP output", "query")}
    figures["subtraction score of the query"] = found.score
    kinds: tuple[Others, ...] = ("same", "free")
    for others in kinds:
        for name, kind in (("MLP output", "mlp_out"), ("query", "q")):
            row = found.best_held(kind, others)
            figures[f"interchange of t, {name}, {others}"] = Interval(row["interchange"], row["low"], row["high"])
    figures |= {f"right with {site} additive": cut.additive for site, cut in found.additive.items()}
    return figures


def _update_figures(found: state_update.UpdateFindings) -> dict[str, Interval]:
    figures = {f"probe of s_t, {site}": _interval(found.probe(site), "linear") for site in state_update.SITES}
    for row in found.held.to_dict("records"):
        name = f"interchange of {row['variable']}, {row['site']}, {row['others']}"
        figures[name] = Interval(row["interchange"], row["low"], row["high"])
    for row in found.subspaces.to_dict("records"):
        name = f"interchange of {row['variable']}, its class means in MLP input"
        figures[name] = Interval(row["interchange"], row["low"], row["high"])
    figures["right with MLP output additive"] = found.additive.additive
    return figures


def _interval(row: pd.Series, name: str) -> Interval:
    ends = ("low", "high") if name == "linear" else (f"{name}_low", f"{name}_high")
    return Interval(row[name], *(row[end] for end in ends))
