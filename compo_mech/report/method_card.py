"""The method card as a page, and its rows for the method that was used."""

import html

import pandas as pd

from compo_mech.analyses.dissection import Dissection
from compo_mech.report.document import document
from compo_mech.stats.intervals import on_its_side


def card_sentence(card: pd.DataFrame | None, found: Dissection) -> str:
    """What the method card says of the method used."""
    pairs = f"{found.counterfactual}" + (f" (by at most {found.max_shift})" if found.max_shift else "")
    method = f"Edges were scored by exact patching, with pairs of: {pairs}."
    used = pd.DataFrame() if card is None else card[card["method"] == "exact"]
    used = used[used["counterfactual"] == found.counterfactual] if len(used) else used
    if not len(used):
        return f"{method} The method card has no row for that at hand, so nothing is said here of how well it does."
    lowest, highest = (on_its_side(float(used["auc_all"].agg(name)), 1.0) for name in ("min", "max"))
    areas = lowest if lowest == highest else f"{lowest} to {highest}"
    return (
        f"{method} On {len(used)} hand-built circuits whose truth is known this has an area under the ROC curve of "
        f"{areas}, and its highest scores are exactly the true edges on {used['top_is_truth'].sum()} of {len(used)}."
    )


def method_card_page(table: pd.DataFrame) -> str:
    """The method card as a page: a table a task, rungs down, methods and counterfactuals across.

    Args:
        table: columns task, rung, counterfactual, method, auc_all, coverage, top_is_truth.
    """
    parts = [
        "<h1>Method card</h1><p class=quiet>Area under the ROC curve of each edge scorer on hand-built circuits "
        "whose true edges are known, all edges counted, those that the counterfactual cannot move as 0. IG 5: EAP with "
        "integrated gradients of 5 steps. Where clean and corrupt rows differ in length, only positions that both "
        "read are scored, so that no padding enters a score. The first six counterfactuals are pairs of inputs, the "
        "last four put a baseline in place of a writer's output. ● marks where the highest scores are exactly the "
        "true edges. Chance is 0.5. Backup is a redundant build, in which every edge of either head is true.</p>"
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
            body += f"<tr><td class=name>{html.escape(str(rung))}</td>"
            for column in columns:
                auc, exact = cells[column]
                body += f"<td style='background:{_shade(auc)}'>{auc:.2f}{' ●' if exact else ''}</td>"
            body += "</tr>"
        parts.append(
            f"<h2>{html.escape(str(task))}</h2><div class=wide><table><thead><tr><th class=name></th>{head}</tr>"
        )
        parts.append(f"<tr><th class=name></th>{names}</tr></thead><tbody>{body}</tbody></table></div>")
    return document("Method card", "\n".join(parts), body_class="full")


def _shade(auc: float) -> str:
    """From red at chance to the page's own colour to blue at 1."""
    way = 2 * max(0.0, min(1.0, 2 * auc - 1)) - 1
    return f"color-mix(in srgb, var(--{'high' if way > 0 else 'low'}) {abs(way):.0%}, var(--paper))"
