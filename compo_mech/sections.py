"""What analyses found, as sections of a run's page, and the method card as a page."""

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from compo_mech import charts, plotting
from compo_mech.dissection import Dissection, Findings, stage_names
from compo_mech.edges import EdgeScores
from compo_mech.graph import Edge
from compo_mech.report import document, table_html, wide
from compo_mech.routes import SHARE_FLOOR, RouteMap

N_SHOWN_EDGES = 24


def dissection_section(found: Dissection, card: pd.DataFrame | None) -> str:
    """The section of one task.

    Args:
        found: on the network and on its control.
        card: the method card, if it is at hand.
    """
    own, control = found.own, found.control
    layout, config = found.data.layout, found.model.config
    labels, length = layout.labels(own.patching.length), own.patching.length
    parts = [f"<h2>Taken apart: {html.escape(str(found.task))}, step {found.step}</h2>"]
    parts += [f"<p class=verdict>{html.escape(text)}</p>" for text in found.sentences]
    parts.append(f"<p class=quiet>{html.escape(card_sentence(card, found))}</p>")

    parts.append("<h3>What each head does</h3>")
    parts.append(table_html(head_rows(own, control)))
    parts.append(
        "<p class=quiet>x_t, place of [EoI]: share of the answers that follow another value of it which this head "
        "alone carries, as the algorithm would have it. Cost: states that are no longer right when heads put out "
        "their mean over other strings of the same length, zero, or what they put out on another string. "
        f"Of all states {own.heads.accuracy:.1%} are right; knowing only s<sub>t-1</sub> one would be right about "
        f"{own.heads.guess:.1%}. In brackets a freshly initialised network.</p>"
    )
    parts.append("<h3>Heads away one by one</h3>")
    parts.append(table_html(_greedy_rows(own, control)))

    parts.append("<h3>Patching</h3>")
    parts.append(wide(patching_figure(own, control, labels, config.n_layers)))
    parts.append(
        f"<p class=quiet>Rise of the cross-entropy (nats) when one place carries the value of another string, on "
        f"strings of length {length}. Both panels have one scale.</p>"
    )
    parts.append(wide(heads_figure(own, control, labels, layout.scored(length))))

    parts.append("<h3>Edges and circuit</h3>")
    circuit = found.circuit
    if circuit is not None:
        parts.append(wide(plotting.circuit_graph(circuit, "The smallest circuit that does the task")))
        parts.append(
            wide(
                plotting.circuit_on_positions(
                    circuit, layout, length, own.patterns, own.patching.parts, "The same on a row of tokens"
                )
            )
        )
    parts.append(wide(charts.faithfulness_curves(own.curve, own.random, control.curve)))
    parts.append(f"<p class=quiet>{html.escape(_circuit_sentence(own, control))}</p>")
    parts.append(table_html(_edge_rows(own, control)))

    if own.routes is not None:
        parts.append("<h3>By which ways x<sub>t</sub> reaches s<sub>t</sub></h3>")
        parts.append(wide(charts.route_cells(own.routes)))
        parts.append(table_html(_route_rows(own.routes)))
        parts.append(f"<p class=quiet>{html.escape(_route_sentence(own.routes, control.routes))}</p>")
    return "\n".join(parts)


def card_sentence(card: pd.DataFrame | None, found: Dissection) -> str:
    """What the method card says of the method used."""
    pairs = f"{found.counterfactual}" + (f" (by at most {found.max_shift})" if found.max_shift else "")
    method = f"Edges were scored by exact patching, with pairs of: {pairs}."
    used = pd.DataFrame() if card is None else card[card["method"] == "exact"]
    used = used[used["counterfactual"] == found.counterfactual] if len(used) else used
    if not len(used):
        return f"{method} The method card has no row for that at hand, so nothing is said here of what it is worth."
    return (
        f"{method} On {len(used)} hand-built circuits whose truth is known this has an area under the ROC curve of "
        f"{used['auc_all'].min():.3f} or more, and its highest scores are exactly the true edges on "
        f"{used['top_is_truth'].sum()} of {len(used)}."
    )


def alignment_section(
    task: str,
    step: int,
    sentences: Sequence[str],
    own: pd.DataFrame,
    fresh: pd.DataFrame,
    by_step: pd.DataFrame | None,
    searched: pd.DataFrame,
) -> str:
    """Where the algorithm's variables are held: maps over sites, over steps, and searched subspaces.

    Args:
        task, step: what was asked.
        sentences: what it comes to.
        own, fresh: interchange maps of the network and of its control.
        by_step: maps with a column step; None: of no other step.
        searched: a row a variable and site.
    """
    parts = [f"<h2>Aligned with the algorithm: {html.escape(task)}, step {step}</h2>", "<ul>"]
    parts += [f"<li>{html.escape(text)}</li>" for text in sentences]
    parts.append("</ul>")
    parts.append(wide(charts.interchange_maps({"network": own, "fresh network": fresh})))
    parts.append(
        "<p class=quiet>Interchange accuracy: share of answers that become what the algorithm says when one site, at "
        "the row that predicts, carries another string's value; mean over answers that have to change and those that "
        "have to stay, so one half by chance. Same: the other string shares all other variables. Free: it shares "
        "none.</p>"
    )
    shown = searched.map(lambda v: f"{v:.2f}" if isinstance(v, float) else v)
    parts.append("<h3>Subspaces found by search</h3>" + table_html(shown))
    if by_step is not None:
        parts.append("<h3>Over training</h3>")
        parts.append(wide(charts.interchange_by_step(by_step)))
    return "\n".join(parts)


# ---------------------------------------------------------------------------------- tables


def head_rows(own: Findings, control: Findings) -> pd.DataFrame:
    """What each head and MLP does, the control in brackets."""
    costs, fresh = (
        {(row["parts"], row["baseline"]): row["cost"] for _, row in f.ablations.iterrows()} for f in (own, control)
    )
    rows = []
    for role, other in zip(own.heads.roles, control.heads.roles, strict=True):
        name = str(role.writer)
        row = {"part": name, "role": role.name}
        row["x_t"] = _beside(role.x, other.x)
        row["place of [EoI]"] = _beside(role.end, other.end)
        rows.append(row)
    for name in dict.fromkeys(part for part, _ in costs if part.startswith("mlp")):
        rows.append({"part": name, "role": "", "x_t": "–", "place of [EoI]": "–"})
    for row in rows:
        for baseline in ("mean", "zero", "resample"):
            place = (row["part"], baseline)
            row[f"cost ({baseline})"] = _beside(costs[place], fresh[place])
    return pd.DataFrame(rows)


def _greedy_rows(own: Findings, control: Findings) -> pd.DataFrame:
    rows = []
    for n in range(len(own.greedy)):
        mine, other = own.greedy.iloc[n], control.greedy.iloc[n]
        rows.append(
            {
                "ablated by the mean": mine["parts"],
                "states right": f"{mine['accuracy']:.1%}",
                "fresh network": f"{other['accuracy']:.1%}",
            }
        )
    return pd.DataFrame(rows)


def _edge_rows(own: Findings, control: Findings) -> pd.DataFrame:
    exact, attributed, fresh = (
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
                "edge": str(edge),
                "exact": f"{exact[edge]:.3f}",
                "EAP-IG, 20 steps": f"{attributed[edge]:.3f}",
                "fresh network": f"{fresh[edge]:.3f}",
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
    names = ["first_hop", "second_hop", "way"]
    grouped = table.groupby(names, sort=False)["share"].sum()
    n_cells = len({(cell.length, cell.t) for cell in routes.cells if cell.variable == "x"})
    shares = (grouped / max(1, n_cells)).sort_values(key=lambda s: -s.abs())
    shown = shares[shares.abs() >= SHARE_FLOOR].map("{:.2f}".format).reset_index()
    return shown.set_axis(["layer 0", "layer 1", "called", "mean share"], axis=1)


def _beside(value: float | None, control: float | None) -> str:
    if value is None or control is None:
        return "–"
    return f"{value:.2f} [{control:.2f}]".replace("-0.00", "0.00")


def _circuit_sentence(own: Findings, control: Findings) -> str:
    text = (
        "Faithfulness: how much of the way from the corrupt run's cross-entropy to the clean run's a circuit goes when "
        f"all other edges carry corrupt values: from {own.gap[0]:.2f} to {own.gap[1]:.2f} nats here, from "
        f"{control.gap[0]:.2f} to {control.gap[1]:.2f} in the fresh network (a share of little says little)."
    )
    if own.curve.cpr is not None and own.random is not None:
        text += (
            f" Area under the curve (CPR) {own.curve.cpr:.2f}, random order {own.random.cpr}; distance from 1 (CMD) "
            f"{own.curve.cmd:.2f}, random {own.random.cmd}."
        )
    if own.verdict is not None:
        text += f" Verdict on it: {own.verdict}; faithfulness of random circuits: {own.verdict.random_faithfulness}."
    if own.stable is not None:
        text += f" Circuits of its size from resampled prompts overlap with it by {own.stable} (Jaccard)."
    return text


def _route_sentence(routes: RouteMap, control: RouteMap | None) -> str:
    text = f"{routes.summary()}. Shares are of the logit difference, by path patching one position at a time."
    return text + (f" Fresh network: {control.summary()}." if control is not None else "")


# --------------------------------------------------------------------------------- figures


def patching_figure(own: Findings, control: Findings, labels: Sequence[str], n_layers: int) -> go.Figure:
    """Effect by stage and position, the network above, its control below."""
    names = stage_names(n_layers)
    maps = {"trained": own.patching.parts.tolist(), "freshly initialised": control.patching.parts.tolist()}
    return charts.effect_maps(maps, list(labels), names, "Patching each part of the network")


def heads_figure(own: Findings, control: Findings, labels: Sequence[str], scored: range) -> go.Figure:
    """Effect of each head's output at the rows that are scored."""
    names = [
        f"L{layer}H{head}" for layer in range(len(own.patching.heads)) for head in range(len(own.patching.heads[0]))
    ]
    columns = [labels[i] for i in scored]
    maps = {
        "trained, by row": own.patching.heads.flatten(0, 1)[:, list(scored)].tolist(),
        "freshly initialised, by row": control.patching.heads.flatten(0, 1)[:, list(scored)].tolist(),
    }
    return charts.effect_maps(maps, columns, names, "Patching each head's output (z)")


def method_card_page(table: pd.DataFrame) -> str:
    """The method card as a page: a table a task, rungs down, methods and counterfactuals across.

    Args:
        table: columns task, rung, counterfactual, method, auc_all, coverage, top_is_truth.
    """
    parts = [
        "<h1>Method card</h1><p class=quiet>Area under the ROC curve of each edge scorer on hand-built circuits "
        "whose true edges are known, all edges counted, those that the counterfactual cannot move as 0. IG 5: EAP with "
        "integrated gradients of 5 steps. The first six counterfactuals are pairs of inputs, the last four put a "
        "baseline in a writer's place. ● marks where the highest scores are exactly the true edges. Chance is 0.5. "
        "Backup is a redundant build, in which every edge of either head is true.</p>"
    ]
    for task, of_task in table.groupby("task", sort=False):
        columns = list(dict.fromkeys(zip(of_task["counterfactual"], of_task["method"], strict=True)))
        groups = dict.fromkeys(counterfactual for counterfactual, _ in columns)
        n_methods = len(columns) // len(groups)
        head = "".join(f"<th colspan={n_methods}>{html.escape(group)}</th>" for group in groups)
        names = "".join(f"<th>{html.escape(method)}</th>" for _, method in columns)
        body = ""
        for rung, of_rung in of_task.groupby("rung", sort=False):
            cells = {
                (c, m): (auc, exact)
                for c, m, auc, exact in zip(
                    of_rung["counterfactual"],
                    of_rung["method"],
                    of_rung["auc_all"],
                    of_rung["top_is_truth"],
                    strict=True,
                )
            }
            body += f"<tr><td style='text-align:left'>{html.escape(str(rung))}</td>"
            for column in columns:
                auc, exact = cells[column]
                body += f"<td style='background:{_shade(auc)}'>{auc:.2f}{' ●' if exact else ''}</td>"
            body += "</tr>"
        parts.append(f"<h2>{html.escape(str(task))}</h2><div class=wide><table><thead><tr><th></th>{head}</tr>")
        parts.append(f"<tr><th></th>{names}</tr></thead><tbody>{body}</tbody></table></div>")
    return document("Method card", "\n".join(parts), body_class="full")


def _shade(auc: float) -> str:
    """From red at chance to white to blue at 1."""
    way = max(0.0, min(1.0, 2 * auc - 1))
    low, middle, high = (242, 196, 186), (250, 250, 250), (168, 196, 240)
    start, end, part = (low, middle, 2 * way) if way < 0.5 else (middle, high, 2 * way - 1)
    return "rgb({}, {}, {})".format(*(round(a + part * (b - a)) for a, b in zip(start, end, strict=True)))
