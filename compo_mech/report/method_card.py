"""The method card as a page, and its rows for the method that was used."""

import html
from typing import TYPE_CHECKING

from compo_mech.analyses.dissection import Dissection
from compo_mech.ground_truth.method_card import by_family
from compo_mech.report.document import document
from compo_mech.stats.intervals import on_its_side

if TYPE_CHECKING:
    import pandas as pd


def card_sentence(card: "pd.DataFrame | None", found: Dissection) -> str:
    """What the method card says of the method used."""
    import pandas as pd

    pairs = f"{found.counterfactual}" + (f" (by at most {found.max_shift})" if found.max_shift else "")
    method = f"Edges were scored by exact patching, with pairs of: {pairs}."
    used = pd.DataFrame() if card is None else card[(card["method"] == "exact") & (card["family"] == "hand-built")]
    used = used[used["counterfactual"] == found.counterfactual] if len(used) else used
    if not len(used):
        return f"{method} The method card has no row for that at hand, so nothing is said here of how well it does."
    lowest, highest = (on_its_side(float(used["auc_all"].agg(name)), 1.0) for name in ("min", "max"))
    areas = lowest if lowest == highest else f"{lowest} to {highest}"
    return (
        f"{method} On {len(used)} hand-built circuits whose truth is known this has an area under the ROC curve of "
        f"{areas}, and its highest scores are exactly the true edges on {used['top_is_truth'].sum()} of {len(used)}."
    )


def method_card_page(table: "pd.DataFrame") -> str:
    """The method card as a page: methods by families, then a table a task or family of what was found on each network.

    Args:
        table: columns family, task, build, counterfactual, method, auc_all, top_is_truth, n_forwards.
    """
    parts = [
        "<h1>Method card</h1><p class=quiet>Area under the ROC curve of each edge scorer on networks whose true edges "
        "are known, all edges counted, those that the counterfactual cannot move as 0. IG: EAP with integrated "
        "gradients of so many steps, over inputs unless it says over activations. Where clean and corrupt rows differ "
        "in length, only positions that both read are scored, so that no padding enters a score. ● marks where the "
        "highest scores are exactly the true edges. Chance is 0.5.</p>"
    ]
    parts.append("<h2>Methods by families</h2>")
    parts.append(
        "<p class=quiet>Median area, and on how many networks the highest scores are exactly the true edges. The cost "
        "is the median number of forward passes over the pairs, a backward pass counted as two.</p>"
    )
    parts.append(_family_table(by_family(table)))
    parts.append(
        "<p class=quiet>In the tables below the first counterfactuals are pairs of inputs, the last four of the "
        "hand-built networks put a baseline in place of a writer's output. Backup is a redundant build, in which every "
        "edge of either head is true.</p>"
    )
    for (family, heading), part in table.groupby(["family", table["task"].where(_by_task(table), "")], sort=False):
        title = f"{family}, {heading}" if heading else str(family)
        parts.append(f"<h2>{html.escape(title)}</h2>{_network_table(part)}")
    return document("Method card", "\n".join(parts), body_class="full")


def _by_task(table: "pd.DataFrame") -> "pd.Series":
    """Which rows stand in a table of their task: hand-built networks, of which there are many a task."""
    return table["family"] == "hand-built"


def _family_table(summary: "pd.DataFrame") -> str:
    """A row a method, a column a family and one of its kinds of pairs."""
    columns = list(dict.fromkeys(zip(summary["family"], summary["counterfactual"], strict=True)))
    rows = {(row.method, row.family, row.counterfactual): row for row in summary.itertuples()}
    head = "".join(f"<th>{html.escape(f'{family}: {pairs}')}</th>" for family, pairs in columns)
    body = ""
    for method in dict.fromkeys(summary["method"]):
        body += f"<tr><td class=name>{html.escape(method)}</td>"
        for family, pairs in columns:
            found = rows.get((method, family, pairs))
            lines = ["–"]
            if found is not None:
                top = f"{found.n_top_is_truth} of {found.n_networks}"
                lines = [f"{found.auc:.3f}", top, f"{found.n_forwards:.0f} passes"]
            body += f"<td>{'<br>'.join(lines)}</td>"
        body += "</tr>"
    return (
        f"<div class=wide><table><thead><tr><th class=name></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _network_table(part: "pd.DataFrame") -> str:
    """A row a network, a column a counterfactual and method."""
    columns = sorted(
        dict.fromkeys(zip(part["counterfactual"], part["method"], strict=True)),
        key=lambda column: list(part["counterfactual"]).index(column[0]),
    )
    groups = [name for name, _ in columns]
    head = "".join(f"<th colspan={groups.count(name)}>{html.escape(name)}</th>" for name in dict.fromkeys(groups))
    names = "".join(f"<th>{html.escape(method)}</th>" for _, method in columns)
    body = ""
    is_one_task = part["task"].nunique() == 1
    for (task, build), rows in part.groupby(["task", "build"], sort=False):
        label = str(build) if is_one_task else str(task) if part["build"].nunique() == 1 else f"{task}, {build}"
        names_of_cells = zip(rows["counterfactual"], rows["method"], strict=True)
        found = zip(rows["auc_all"], rows["top_is_truth"], strict=True)
        cells = dict(zip(names_of_cells, found, strict=True))
        body += f"<tr><td class=name>{html.escape(label)}</td>"
        for column in columns:
            if column not in cells:
                body += "<td>–</td>"
                continue
            auc, is_truth = cells[column]
            body += f"<td style='background:{_shade(auc)}'>{auc:.2f}{' ●' if is_truth else ''}</td>"
        body += "</tr>"
    rows_above = f"<tr><th class=name></th>{head}</tr><tr><th class=name></th>{names}</tr>"
    return f"<div class=wide><table><thead>{rows_above}</thead><tbody>{body}</tbody></table></div>"


def _shade(auc: float) -> str:
    """Return a colour of the page's scheme: from red at chance through the paper's at 0.75 to blue at 1."""
    from_middle = max(-1.0, min(1.0, 4 * auc - 3))
    return f"color-mix(in srgb, var(--{'low' if from_middle < 0 else 'high'}) {abs(from_middle):.0%}, var(--paper))"
