"""Tables, dots and curves that the pages of both probes are made of."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from compo_mech.plots import tables
from compo_mech.plots.trajectories import by_step
from compo_mech.report.html_parts import wide
from compo_mech.stats.intervals import Interval

N_NEURONS = 12
CAVEAT = (
    "Interchange accuracy is about one half by chance: it is the mean over answers that have to change and answers "
    "that have to stay. “Same” sources share the other variables with the base, “free” ones do not. Placebo: a change "
    "of the same size in a random direction. Arbitrary: the value of another source. Probes are linear discriminants, "
    "tested on pairs that they were not trained on."
)


def trajectories(frame: pd.DataFrame, title: str) -> str:
    """Figures over training, a panel a measure, with the control dotted."""
    panels: dict[str, dict] = {}
    control: dict[str, dict[str, float]] = {}
    for (measure, site), rows in frame.groupby(["measure", "site"], sort=False):
        own = rows[rows["step"] >= 0]
        if site == "raw embeddings":
            continue
        points = list(zip(own["value"], own["low"], own["high"], strict=True))
        panels.setdefault(str(measure), {})[str(site)] = (own["step"].tolist(), points)
        control.setdefault(str(measure), {})[str(site)] = float(rows[rows["step"] < 0]["value"].iloc[0])
    return "<h3>Over training</h3>" + wide(by_step(panels, control, title))


def probe_dots(own: pd.DataFrame, fresh: pd.DataFrame, title: str) -> go.Figure:
    """What is told at each site, with every control."""
    controls: dict[str, Sequence[float | None]] = {
        "fresh network": fresh["linear"].tolist(),
        "shuffled labels": own["shuffled"].tolist(),
        "small MLP as probe": own["mlp"].tolist(),
        "as a number": own["numeric"].tolist(),
    }
    values = list(zip(own["linear"], own["low"], own["high"], strict=True))
    return tables.dots(own["site"].tolist(), values, controls, title, "share told right")


def held_dots(own: pd.DataFrame, fresh: pd.DataFrame, title: str) -> go.Figure:
    """What is held at each site, with every control."""
    names = [f"{row.get('variable', 't')} at {row['site']}, {row['others']}" for row in own.to_dict("records")]
    controls = {
        "fresh network": fresh["interchange"].tolist(),
        "placebo": own["placebo"].tolist(),
        "arbitrary": own["arbitrary"].tolist(),
    }
    values = list(zip(own["interchange"], own["low"], own["high"], strict=True))
    return tables.dots(names, values, controls, title, "interchange accuracy")


def probe_rows(own: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """The figures of each site, in brackets the fresh network's."""
    rows = []
    for mine, other in zip(own.to_dict("records"), fresh.to_dict("records"), strict=True):
        row = {"site": mine["site"], "probe": f"{Interval(mine['linear'], mine['low'], mine['high'])}"}
        row["fresh"] = f"{other['linear']:.2f}"
        row["shuffled (chance)"] = f"{mine['shuffled']:.2f} ({mine['chance_low']:.2f} .. {mine['chance_high']:.2f})"
        row |= {"small MLP": f"{mine['mlp']:.2f}", "as a number": f"{mine['numeric']:.2f}"}
        if "separable" in mine:
            row["line"] = f"{mine['separable']:.2f} [{other['separable']:.2f}]"
        for name, key in (("sum of both", "additive"), ("class", "label"), ("class beyond sum", "beyond")):
            row[name] = f"{mine[key]:.2f} [{other[key]:.2f}]".replace("-0.00", "0.00")
        rows.append(row)
    return pd.DataFrame(rows)


def curve_rows(curve: pd.DataFrame) -> pd.DataFrame:
    """Share right without so many neurons, in order and at random."""
    counts = [str(n) for n in curve["n_neurons"]]
    return pd.DataFrame(
        [
            {"neurons": name} | dict(zip(counts, map("{:.2f}".format, curve[column]), strict=True))
            for name, column in (("in this order", "chosen"), ("at random", "random"))
        ]
    )


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with three decimals."""

    def shown(value: object) -> object:
        return f"{value:.3f}" if isinstance(value, float) else value

    return table.map(shown)
