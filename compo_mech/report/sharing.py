"""What tasks share, in words, and as a section of a run's page."""

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from compo_mech.analyses.sharing import Sharing
from compo_mech.circuits.overlap import LEVEL
from compo_mech.interventions.head_roles import CARRIES, CARRIES_IN_PART
from compo_mech.plots.theme import LAYOUT
from compo_mech.report.html_parts import table_html, wide

N_SHOWN_EDGES = 36
STANDING_COLOURS = {
    "shared": "#4c5fd5",
    "shared, of other strength": "#1f9ac2",
    "only first": "#e07a1f",
    "only second": "#c2418f",
    "undecided": "#8a6d3b",
    "neither": "#9aa0a6",
}


def sharing_sentences(found: Sharing) -> list[str]:
    """What two tasks share and where the task is told, for people."""
    return [_heads_sentence(found), _circuits_sentence(found), _told_sentence(found)]


def sharing_section(pairs: Sequence[Sharing], step: int) -> str:
    """The section of a run, a part for each pair of tasks.

    Args:
        pairs: of its measured tasks.
        step: of the checkpoint.
    """
    parts = [f"<h2>What the tasks share, step {step}</h2>"]
    for found in pairs:
        first, second = map(html.escape, found.names)
        if len(pairs) > 1:
            parts.append(f"<h3>{first} and {second}</h3>")
        parts += [f"<p class=verdict>{html.escape(text)}</p>" for text in sharing_sentences(found)]
        parts.append(wide(edges_figure(found)))
        parts.append(
            "<p class=quiet>Exact patching on prompts of each task by itself: rise of the cross-entropy when one edge "
            "carries another string's value, as a share of the rise when all do. An edge is one task's only, or of "
            "other strength, if its shares differ more than the largest difference among all edges does when prompts "
            f"of both tasks are dealt to two groups at random (p ≤ {LEVEL}). Tasks also differ in their inputs and "
            "answers, so that a difference is not for the task's token alone.</p>"
        )
        parts.append(table_html(_overlap_rows(found)))
        parts.append(
            "<p class=quiet>Circuits and scores on a set of prompts of each task; on two sets of one task: the most "
            "that could be seen. Dealt: 95% range with the second task's edges dealt at random, and the share of deals "
            "that come up to the actual figure.</p>"
        )
        heads = _as_text(found.heads())
        if len(heads):
            parts.append(table_html(heads))
            parts.append(
                "<p class=quiet>Share of the answers that follow another x_t, or another place of [EoI], which a head "
                "alone carries; x_t from the other task: its output is taken from a run of the other task on other "
                "inputs, and the answer should be this task's for the new x_t.</p>"
            )
        if found.told is not None:
            parts.append(table_html(told_rows(found)))
            parts.append(f"<p class=quiet>{html.escape(_told_note(found.told))}</p>")
    return "\n".join(parts)


def _heads_sentence(found: Sharing) -> str:
    one, other = (task.x for task in found.tasks)
    if one is None or other is None:
        return "Only the last state is written, so which head carries x_t cannot be asked."
    texts = []
    both = ((one >= CARRIES) & (other >= CARRIES)).nonzero().tolist()
    for layer, head in both:
        text = f"L{layer}H{head} carries x_t for both tasks ({one[layer, head]:.0%} and {other[layer, head]:.0%})"
        if found.across is not None:
            first, second = (share[layer, head] for share in found.across)
            text += f"; with its output from a run of the other task {first:.0%} and {second:.0%} follow the x_t there"
        texts.append(f"{text}.")
    if not both:
        names = []
        for name, share in zip(found.names, (one, other), strict=True):
            best = int(share.argmax())
            names.append(f"L{best // share.shape[1]}H{best % share.shape[1]} most for {name} ({share.max():.0%})")
        texts.append(f"No head carries x_t for both tasks: {', '.join(names)}.")
    first, second = (task.end for task in found.tasks)
    if first is not None and second is not None:
        for layer, head in ((first >= CARRIES) & (second >= CARRIES)).nonzero().tolist():
            shares = f"{first[layer, head]:.0%} and {second[layer, head]:.0%}"
            texts.append(f"L{layer}H{head} carries the place of [EoI] for both ({shares}).")
    return " ".join(texts)


def _circuits_sentence(found: Sharing) -> str:
    one, other = found.circuits
    chance, kind = found.anywhere[0], found.same_kind[0]
    halves = " and ".join(f"{half[0]:.2f}" for half in found.halves)
    text = (
        f"The circuits ({found.chosen}) share {len(one & other)} of {len(one | other)} edges: Jaccard {chance}; dealt "
        f"among edges of the same reader kind {kind.dealt.low:.2f} .. {kind.dealt.high:.2f}, p = {kind.p:.3f}; "
        f"circuits of two sets of prompts of one task {halves}."
    )
    counts = found.edges["standing"].value_counts()
    labels = {
        "shared, of other strength": "shared but of other strength",
        "only first": f"only {found.names[0]}'s",
        "only second": f"only {found.names[1]}'s",
        "undecided": "in one circuit with no difference shown",
    }
    named = [f"{counts[standing]} {label}" for standing, label in labels.items() if standing in counts]
    return f"{text} Edges: {', '.join(named)}." if named else f"{text} No edge differs."


def _told_sentence(found: Sharing) -> str:
    if found.told is None:
        return f"Where the task is told cannot be asked: {found.unasked}."
    readers = found.told[found.told["kind"] == "reader"]
    least, most = (getattr(readers.groupby("part", sort=False)["follows"], name)() for name in ("min", "max"))
    needed = [str(part) for part in least.index if least[part] >= CARRIES]
    if not needed:
        return (
            "No part that alone reads the other task's stream makes the answers that task's: "
            f"at most {most.max():.0%} ({most.idxmax()})."
        )
    last = needed[-1]  # in order of computation
    texts = [
        f"{last} is told the task: where it alone reads the other task's stream, {_both(readers, last)} of the "
        f"answers become that task's ({_controls(readers, last)})"
    ]
    edges = found.told[(found.told["kind"] == "edge") & found.told["part"].str.endswith(f"→ {last}")]
    shares = edges.groupby("part", sort=False)["follows"].min().sort_values(ascending=False)
    ways = [f"{part.split(' ')[0]} ({_both(edges, part)})" for part in shares.index if shares[part] >= CARRIES_IN_PART]
    texts[0] += f"; it hears of it from {', '.join(ways)}." if ways else "; no edge into it tells it alone."
    sites = found.told[found.told["kind"] == "site"]
    for head in carriers(found):
        part = f"{head}.z"
        highest, least_told = (getattr(sites.loc[sites["part"] == part, "follows"], name)() for name in ("max", "min"))
        if highest < CARRIES_IN_PART:
            texts.append(f"{head}, which carries x_t, has no part in that: its output turns at most {highest:.0%}.")
        else:
            how = "the task as well" if least_told >= CARRIES_IN_PART else "the task as well, one way only"
            texts.append(f"{head}, which carries x_t, tells {how}: its output turns {_both(sites, part)}.")
    others = [f"{part} {_both(readers, part)}" for part in needed[:-1]]
    if others:
        texts.append(f"Other parts that alone read the other task's stream turn: {', '.join(others)}.")
    rest = most.drop(needed)
    if len(rest):
        texts.append(f"Any other part: at most {rest.max():.0%} in either direction ({rest.idxmax()}).")
    return " ".join(texts)


def _controls(told: pd.DataFrame, part: str) -> str:
    rows = told[told["part"] == part]
    return f"placebo at most {rows['placebo'].max():.0%}, fresh network {rows['fresh'].max():.0%}"


def carriers(found: Sharing) -> list[str]:
    """Heads that carry x_t for both tasks."""
    one, other = (task.x for task in found.tasks)
    if one is None or other is None:
        return []
    places = ((one >= CARRIES) & (other >= CARRIES)).nonzero().tolist()
    return [f"L{layer}H{head}" for layer, head in places]


def _both(told: pd.DataFrame, part: str) -> str:
    """The shares of both directions."""
    return " and ".join(f"{share:.0%}" for share in told.loc[told["part"] == part, "follows"])


def _told_note(told: pd.DataFrame) -> str:
    first = told.groupby("base", sort=False)[["own", "n"]].first()
    right = " and ".join(f"{share:.0%}" for share in first["own"])
    return (
        "Two runs read one row but for the task token; states in it are drawn at random. Share of the answers that "
        "become the other task's when one site, reader or edge alone has what it has in the other run. In brackets: "
        "after a change of the same size in a random direction; of a freshly initialised network. K and V are patched "
        f"at the task token or at the inputs, other sites at the row itself. Of {first['n'].min()} answers or more; "
        f"unpatched, {right} of all answers that differ between the tasks are the right ones of the row's own task. "
        f"Edges below {CARRIES_IN_PART:.0%} in both directions are left out."
    )


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda v: "–" if v is None or v != v else f"{v:.2f}" if isinstance(v, float) else v)


def _overlap_rows(found: Sharing) -> pd.DataFrame:
    rows = []
    for row in found.overlap().to_dict("records"):
        shown = {"": row["circuits"]}
        for figure, name in (("jaccard", "Jaccard"), ("rank_correlation", "rank correlation of scores")):
            low, high, p = (row[f"{figure}_{part}"] for part in ("dealt_low", "dealt_high", "p"))
            shown[name] = f"{row[figure]:.2f}"
            shown[f"{name}, dealt"] = "–" if p != p else f"{low:.2f} .. {high:.2f}, p = {p:.3f}"
        rows.append(shown)
    return pd.DataFrame(rows)


def told_rows(found: Sharing) -> pd.DataFrame:
    """Sites, readers and the edges that tell something, a column a direction."""
    if found.told is None:
        return pd.DataFrame()
    rows = []
    first, second = found.names
    directions = (f"{first} becomes {second}", f"{second} becomes {first}")
    for key, both in found.told.groupby(["kind", "part"], sort=False):
        kind, part = str(key[0]), str(key[1])
        if kind == "edge" and both["follows"].max() < CARRIES_IN_PART:
            continue
        row = {"patched": kind, "part": part}
        for name, values in zip(directions, both.to_dict("records"), strict=True):
            row[name] = f"{values['follows']:.2f} [{values['placebo']:.2f}; {values['fresh']:.2f}]"
        rows.append(row)
    return pd.DataFrame(rows)


def edges_figure(found: Sharing) -> go.Figure:
    """Each edge's share of the gap for both tasks, joined by a line, coloured by what is said of the edge."""
    table = found.edges.assign(largest=found.edges[["one", "other"]].abs().max(axis=1))
    table = table.sort_values("largest", ascending=False).head(N_SHOWN_EDGES)
    first, second = found.names
    names = {"only first": f"only {first}'s", "only second": f"only {second}'s", "neither": "in neither circuit"}
    figure = go.Figure()
    for symbol, name in (("circle", first), ("diamond-open", second)):
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=name, marker={"symbol": symbol, "size": 9, "color": "#202124"}
        )
    for standing, colour in STANDING_COLOURS.items():
        rows = table[table["standing"] == standing]
        if not len(rows):
            continue
        edges = [str(edge) for edge in rows["edge"]]
        one, other = rows["one"].tolist(), rows["other"].tolist()
        x = [value for pair in zip(one, other, [None] * len(one), strict=True) for value in pair]
        y = [value for edge in edges for value in (edge, edge, None)]
        figure.add_scatter(
            x=x, y=y, mode="lines", line={"color": colour, "width": 2}, showlegend=False, hoverinfo="skip"
        )
        for symbol, name, values in (("circle", first, one), ("diamond-open", second, other)):
            figure.add_scatter(
                x=values, y=edges, mode="markers", name=names.get(standing, standing), legendgroup=standing,
                showlegend=symbol == "circle",
                marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
                customdata=[f"{name}, p = {p:.3f}" for p in rows["p"]],
                hovertemplate="%{y}: %{x:.3f}, %{customdata}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 130, "r": 20, "t": 50, "b": 50}},
        title="What each edge is worth to either task", width=900, height=150 + 20 * len(table), showlegend=True,
        legend={"x": 1.02, "y": 1},
    )  # fmt: skip
    figure.update_xaxes(title="share of the cross-entropy that there is to explain")
    order = [str(edge) for edge in table["edge"]]
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=order,
        autorange="reversed",
        tickmode="array",
        tickvals=order,
        dtick=1,
    )
    return figure
