"""A dissection as a section of a run's page."""

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from compo_mech.analyses.circuit_checks import CircuitChecks
from compo_mech.analyses.dissection import Dissection
from compo_mech.analyses.network_findings import NetworkFindings, stage_name, stages
from compo_mech.circuits.scores import EdgeScores
from compo_mech.interventions.ablation import Baseline
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import content_text
from compo_mech.model.sites import Site
from compo_mech.plots import circuits, patching, routes
from compo_mech.plots.faithfulness import faithfulness_curves
from compo_mech.plots.theme import indexed, subscripts
from compo_mech.report import thresholds
from compo_mech.report.html_parts import table_html, verdict, wide
from compo_mech.report.method_card import card_sentence
from compo_mech.routes.summary import SHARE_FLOOR, RouteMap
from compo_mech.stats.intervals import Interval, on_its_side, two_decimals

N_SHOWN_EDGES = 24
BASELINES: tuple[Baseline, ...] = ("mean", "zero", "resample")


def dissection_section(found: Dissection, card: pd.DataFrame | None) -> str:
    """The section of one task.

    Args:
        found: on the network and on its control.
        card: the method card, if it is at hand.
    """
    own, control = found.trained, found.control
    layout, config = found.data.layout, found.model.config
    labels, length = indexed(layout.labels(own.patching.length)), own.patching.length
    parts = [f"<h2>Taken apart: {html.escape(str(found.task))}, step {found.step}</h2>"]
    parts.append(verdict(found.sentences, f"{thresholds.CIRCUIT} {thresholds.HEADS}"))
    parts.append(f"<p class=quiet>{subscripts(card_sentence(card, found))}</p>")

    parts.append("<h3>What each head does</h3>")
    parts.append(table_html(head_rows(own, control), sticky=True))
    parts.append(
        "<p class=quiet>Follow, stay: with what the head brings in another string put in, the fraction of the answers "
        "that its content would change and that change so, and of those that it would not and that stay. "
        "x<sub>t</sub>, position of [EoI]: fraction of the answers that follow where all inputs, or where [EoI], are "
        "another string's; half of the answers of two states follow by chance. Cost: states that are no longer right "
        "when heads put out their mean over other strings of the same length, zero, or what they put out on another "
        f"string. Of all states {own.heads.accuracy:.1%} are right; knowing only s<sub>t-1</sub> one would be right "
        f"about {own.heads.guess:.1%}. In brackets a randomly initialised control.</p>"
    )
    parts.append("<h3>Heads ablated one after the other</h3>")
    parts.append(table_html(_greedy_rows(own, control)))

    parts.append("<h3>Patching</h3>")
    parts.append(wide(patching_figure(own, control, labels, config.n_layers)))
    parts.append(
        f"<p class=quiet>Rise of the cross-entropy (nats) when one position carries the value of another string, on "
        f"strings of length {length}. Both panels have one scale.</p>"
    )
    parts.append(wide(heads_figure(own, control, labels, layout.scored(length))))

    parts.append("<h3>Edges and circuit</h3>")
    circuit = found.circuit
    if circuit is not None:
        title = "The circuit: all edges that matter, by themselves or together"
        parts.append(wide(circuits.circuit_graph(circuit, title)))
        on_row = (circuit, layout, length, own.patterns, own.patching.stages, "The same on a row of tokens")
        parts.append(wide(circuits.circuit_on_positions(*on_row)))
    parts.append(wide(faithfulness_curves(own.curve, own.random, control.curve)))
    parts.append(f"<p class=quiet>{subscripts(_circuit_note(own, control))}</p>")
    if own.checks is not None:
        parts.append("<h3>Is the circuit the only one?</h3>")
        parts.append(table_html(_check_rows(own.checks)))
    parts.append(table_html(_edge_rows(own, control)))

    if own.routes is not None:
        parts.append("<h3>By which routes x<sub>t</sub> reaches s<sub>t</sub></h3>")
        parts.append(wide(routes.route_cells(own.routes)))
        parts.append(table_html(_route_rows(own.routes)))
        parts.append(f"<p class=quiet>{subscripts(_route_note(control.routes))}</p>")
    return "\n".join(parts)


def head_rows(own: NetworkFindings, control: NetworkFindings) -> pd.DataFrame:
    """What each head and MLP does, the control in brackets."""
    costs, untrained = (
        {(component, cost.baseline): cost.cost for cost in f.ablations for component in cost.components}
        for f in (own, control)
    )
    rows = []
    for role, other in zip(own.heads.roles, control.heads.roles, strict=True):
        row: dict[str, str] = {"component": str(role.writer), "role": role_text(role)}
        counts = role.role.followed
        row["follow"], row["stay"] = ("–", "–") if counts is None else map(_with_bounds, (counts.follows, counts.stays))
        row["x_t"] = _beside(role.x, other.x)
        row["position of [EoI]"] = _beside(role.end, other.end)
        rows.append(row)
    mlps = [component for component in dict.fromkeys(component for component, _ in costs) if component.kind == "mlp"]
    nothing = dict.fromkeys(("follow", "stay", "x_t", "position of [EoI]"), "–")
    rows += [{"component": str(mlp), "role": ""} | nothing for mlp in mlps]
    for row, component in zip(rows, (*(role.writer for role in own.heads.roles), *mlps), strict=True):
        for baseline in BASELINES:
            row[f"cost ({baseline})"] = _beside(costs[component, baseline], untrained[component, baseline])
    return pd.DataFrame(rows)


def role_text(role: HeadRole) -> str:
    """A head's role with what it is about, for a table."""
    name, content, _, in_part = role.role
    partners = f" with {', '.join(map(str, role.partners))}" if role.partners else ""
    about = f" {content_text(content)}" if content and name in ("carries", "relays", "takes back", "shares") else ""
    return f"{name}{about}{partners}{', in part' if in_part else ''}"


def _with_bounds(fraction: Interval) -> str:
    return f"{fraction.mean:.0%} ({fraction.low:.0%} .. {fraction.high:.0%})"


def _greedy_rows(own: NetworkFindings, control: NetworkFindings) -> pd.DataFrame:
    rows = [
        {
            "ablated by the mean": " ".join(map(str, mine.components)),
            "states right": f"{mine.accuracy:.1%}",
            "control": f"{other.accuracy:.1%}",
        }
        for mine, other in zip(own.greedy, control.greedy, strict=True)
    ]
    return pd.DataFrame(rows)


def _check_rows(checks: CircuitChecks) -> pd.DataFrame:
    """The figures of `CircuitChecks.table` in words."""
    table = checks.table()
    passed = ["cannot be told" if told is None else "yes" if told else "no" for told in table["passed"].astype(object)]
    values = [
        "–" if pd.isna(value) else on_its_side(value, needed)
        for value, needed in table[["value", "needed"]].itertuples(index=False)
    ]
    needed, random = (["–" if pd.isna(x) else two_decimals(x) for x in table[name]] for name in ("needed", "control"))
    return pd.DataFrame(
        {"asked": table["asked"], "value": values, "threshold": needed, "random circuit": random, "passed": passed}
    )


def _edge_rows(own: NetworkFindings, control: NetworkFindings) -> pd.DataFrame:
    exact, attributed, untrained = (
        _by_edge(scores) for scores in (own.discovery.scores, own.attribution, control.discovery.scores)
    )
    kept = own.discovery.kept
    scores = own.discovery.scores
    flags = {
        edge: "unidentifiable" if hidden else "no effect" if idle else ""
        for edge, hidden, idle in zip(scores.edges, scores.unidentifiable, scores.no_effect, strict=True)
    }
    order = sorted(exact, key=lambda edge: -abs(exact[edge]))[:N_SHOWN_EDGES]
    return pd.DataFrame(
        [
            {
                "writer": str(edge.writer),
                "reader": str(edge.reader),
                "exact": f"{exact[edge]:.3f}",
                "EAP-IG, 20 steps": f"{attributed[edge]:.3f}",
                "control": f"{untrained[edge]:.3f}",
                "in circuit": "●" if edge in kept else "",
                "flag": flags[edge],
            }
            for edge in order
        ]
    )


def _by_edge(scores: EdgeScores) -> dict[Edge, float]:
    return dict(zip(scores.edges, scores.scores.tolist(), strict=True))


def _route_rows(routes: RouteMap) -> pd.DataFrame:
    table = routes.frame()
    table = pd.DataFrame(table[table["variable"] == "x"])
    names = ["first_hop", "second_hop", "route"]
    grouped = table.groupby(names, sort=False)["share"].sum()
    n_cells = len({(cell.length, cell.t) for cell in routes.cells if cell.variable == "x"})
    shares = (grouped / max(1, n_cells)).sort_values(key=lambda s: -s.abs())
    shown = shares[shares.abs() >= SHARE_FLOOR].map("{:.2f}".format).reset_index()
    return shown.set_axis(["layer 0", "layer 1", "called", "mean share"], axis=1)


def _beside(value: float | None, control: float | None) -> str:
    if value is None or control is None:
        return "–"
    return f"{value:.2f} [{control:.2f}]".replace("-0.00", "0.00")


def _circuit_note(own: NetworkFindings, control: NetworkFindings) -> str:
    text = (
        "Faithfulness: how much of the way from the corrupt run's cross-entropy to the clean run's a circuit goes when "
        f"all other edges carry corrupt values: from {own.gap[0]:.2f} to {own.gap[1]:.2f} nats here, from "
        f"{control.gap[0]:.2f} to {control.gap[1]:.2f} in the control (a fraction of little says little)."
    )
    if own.curve.cpr is not None and own.random is not None:
        text += (
            f" Area under the curve (CPR) {own.curve.cpr:.2f}, random order {own.random.cpr}; distance from 1 (CMD) "
            f"{own.curve.cmd:.2f}, random {own.random.cmd}."
        )
    if own.verdict is not None:
        text += f" Faithfulness of random circuits of its size: {own.verdict.random_faithfulness}."
    return text


def _route_note(control: RouteMap | None) -> str:
    text = "Shares are of the logit difference, by path patching one position at a time."
    return text + (f" Control: {control.summary()}." if control is not None else "")


def patching_figure(own: NetworkFindings, control: NetworkFindings, labels: Sequence[str], n_layers: int) -> go.Figure:
    """Effect by stage and position, the network above, its control below."""
    names = [stage_name(*stage) for stage in stages(n_layers)]
    maps = {"trained": own.patching.stages.tolist(), "control": control.patching.stages.tolist()}
    return patching.effect_maps(maps, list(labels), names, "Patching each component of the network")


def heads_figure(own: NetworkFindings, control: NetworkFindings, labels: Sequence[str], scored: range) -> go.Figure:
    """Effect of each head's output at the rows that are scored."""
    names = [
        str(Site("z", layer, head))
        for layer in range(len(own.patching.heads))
        for head in range(len(own.patching.heads[0]))
    ]
    columns = [labels[i] for i in scored]
    maps = {
        "trained, by row": own.patching.heads.flatten(0, 1)[:, list(scored)].tolist(),
        "control, by row": control.patching.heads.flatten(0, 1)[:, list(scored)].tolist(),
    }
    return patching.effect_maps(maps, columns, names, "Patching each head's output (z)")
