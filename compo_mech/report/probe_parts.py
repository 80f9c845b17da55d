"""Tables, dots and curves that the pages of both probes are made of."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast, get_args

from compo_mech.analyses.examine import Seen
from compo_mech.analyses.position_subtraction import SubtractionFindings
from compo_mech.analyses.state_update import UpdateFindings
from compo_mech.model.config import ModelConfig
from compo_mech.model.sites import Kind, Site, mlp_input_site
from compo_mech.plots import tables
from compo_mech.plots.trajectories import by_step
from compo_mech.report import thresholds
from compo_mech.report.html_parts import table_html, verdict, wide
from compo_mech.runs.trajectory import Quantity
from compo_mech.stats.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

N_NEURONS = 12
CAVEAT = (
    "Interchange intervention accuracy (IIA) is about one half by chance: it is the mean over answers that have to "
    "change and answers that have to stay. Sources in a matched context share the other variables with the base, in an "
    "independent context they do not. Placebo: a change of the same size in a random direction. Permuted labels: the "
    "variable's values permuted among the sources. Probes are linear discriminants, tested on pairs that they "
    "were not trained on."
)


def site_name(name: str, mlp: int, config: ModelConfig) -> str:
    """Return the name that a probe's site has on all pages, `mlp_out0` for the MLP's output.

    Args:
        name: that tables give it, relative to the MLP that is asked about.
        mlp: layer of that.
        config: of the network.
    """
    match name:
        case "MLP input":
            return str(mlp_input_site(config, mlp))
        case "MLP output":
            return str(Site("mlp_out", mlp))
        case "stream after":
            return str(Site("resid_post", mlp))
        case "query":
            return str(Site("q", mlp + 1))
        case _:
            return name


def trajectories_html(frame: "pd.DataFrame", title: str, config: ModelConfig) -> str:
    """Draw figures over training, a panel a measure, with the control dotted.

    Args:
        frame: the columns of `as_table`.
        title: of the figure.
        config: of the network.
    """
    panels: dict[str, dict] = {}
    control: dict[str, dict[str, float]] = {}
    shown = frame[frame["site"] != "raw embeddings"]
    for _, rows in shown.groupby(list(Quantity._fields), sort=False, dropna=False):
        quantity = Quantity.of(rows.iloc[0].to_dict())
        panel, curve = _panel_name(quantity), _curve_name(quantity, config)
        trained, untrained = (rows[rows["network"] == network] for network in ("trained", "control"))
        points = list(zip(trained["value"], trained["low"], trained["high"], strict=True))
        panels.setdefault(panel, {})[curve] = (trained["step"].tolist(), points)
        control.setdefault(panel, {})[curve] = float(untrained["value"].iloc[0])
    return "<h3>Over training</h3>" + wide(by_step(panels, control, title))


def _panel_name(quantity: Quantity) -> str:
    """Name what is measured, without where."""
    context = f", {quantity.context} context" if quantity.context else ""
    return f"{quantity.measure}, {quantity.variable}{context}"


def _curve_name(quantity: Quantity, config: ModelConfig) -> str:
    """Name where it is measured."""
    site, layer = quantity.site or "", int(quantity.layer or 0)
    if site in get_args(Kind):
        head = None if quantity.head is None else int(quantity.head)
        site = str(Site(cast(Kind, site), layer, head))
    else:
        site = site_name(site, layer - 1 if site == "query" else layer, config)
    return site if quantity.statistic == "value" else f"{site}, {quantity.statistic}"


def opening(
    question: str, seen: Seen[SubtractionFindings] | Seen[UpdateFindings], said: Sequence[str], decoded: str, moved: str
) -> list[str]:
    """Write what either probe's section begins with: the verdict and its reasons, then decoding and IIA by site.

    Args:
        question: that the probe asks, for the heading.
        seen: what it found.
        said: its sentences, the verdict first.
        decoded, moved: titles of the two figures.
    """
    trained, control = seen.trained, seen.control
    config = seen.model.config
    probes, untrained = (
        found.probes.assign(site=[site_name(site, trained.layer, config) for site in found.probes["site"]])
        for found in (trained, control)
    )
    return [
        f"<h2>{question} {html.escape(str(seen.task))}, step {seen.step}</h2>",
        verdict(said, thresholds.PROBES),
        wide(probe_dots(probes, untrained, decoded)),
        wide(interchange_dots(trained.interchanges, control.interchanges, moved)),
        table_html(probe_rows(probes, untrained), sticky=True),
    ]


def probe_dots(trained: "pd.DataFrame", control: "pd.DataFrame", title: str) -> "go.Figure":
    """Draw what is decoded at each site, with every control."""
    controls: dict[str, Sequence[float | None]] = {
        "control": control["linear"].tolist(),
        "permuted labels": trained["permuted"].tolist(),
        "small MLP as probe": trained["mlp"].tolist(),
        "as a number": trained["numeric"].tolist(),
    }
    values = list(zip(trained["linear"], trained["low"], trained["high"], strict=True))
    return tables.dots(trained["site"].tolist(), values, controls, title, "fraction decoded right")


def interchange_dots(trained: "pd.DataFrame", control: "pd.DataFrame", title: str) -> "go.Figure":
    """Draw what is held at each site, with every control."""
    names = [f"{row['variable']} at {row['site']}, {row['context']}" for row in trained.to_dict("records")]
    controls = {
        "control": control["iia"].tolist(),
        "placebo": trained["placebo"].tolist(),
        "permuted labels": trained["permuted"].tolist(),
    }
    values = list(zip(trained["iia"], trained["low"], trained["high"], strict=True))
    return tables.dots(names, values, controls, title, "interchange intervention accuracy")


def probe_rows(trained: "pd.DataFrame", control: "pd.DataFrame") -> "pd.DataFrame":
    """Lay out the figures of each site, in brackets the control's."""
    import pandas as pd

    rows = []
    for mine, other in zip(trained.to_dict("records"), control.to_dict("records"), strict=True):
        row = {"site": mine["site"], "probe": f"{Interval(mine['linear'], mine['low'], mine['high'])}"}
        row["control"] = f"{other['linear']:.2f}"
        row["permuted (chance)"] = f"{mine['permuted']:.2f} ({mine['chance_low']:.2f} .. {mine['chance_high']:.2f})"
        row |= {"small MLP": f"{mine['mlp']:.2f}", "as a number": f"{mine['numeric']:.2f}"}
        if "separable" in mine:
            row["line"] = f"{mine['separable']:.2f} [{other['separable']:.2f}]"
        for name, key in (("sum of both", "additive"), ("class", "label"), ("class beyond sum", "beyond")):
            row[name] = f"{mine[key]:.2f} [{other[key]:.2f}]".replace("-0.00", "0.00")
        rows.append(row)
    return pd.DataFrame(rows)


def curve_rows(curve: "pd.DataFrame") -> "pd.DataFrame":
    """Lay out the fraction right without so many neurons, in order and at random."""
    import pandas as pd

    counts = [str(n) for n in curve["n_neurons"]]
    return pd.DataFrame(
        [
            {"neurons": name} | dict(zip(counts, map("{:.2f}".format, curve[column]), strict=True))
            for name, column in (("in this order", "chosen"), ("at random", "random"))
        ]
    )


def rounded(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the table with three decimals."""

    def shown(value: object) -> object:
        return f"{value:.3f}" if isinstance(value, float) else value

    return table.map(shown)
