"""What tasks share, in words, and as a section of a run's page."""

import html
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from compo_mech.analyses.sharing import Sharing
from compo_mech.circuits.overlap import LEVEL
from compo_mech.interventions.head_swaps import CARRIES, CARRIES_IN_PART
from compo_mech.model.finite import check_finite
from compo_mech.plots.shared_edges import edges_figure
from compo_mech.plots.theme import subscripts
from compo_mech.report import thresholds
from compo_mech.report.html_parts import table_html, verdict, wide
from compo_mech.stats.intervals import on_its_side

NEEDED = f"{CARRIES:.0%} needed"


def sharing_sentences(found: Sharing) -> list[str]:
    """What two tasks share and where the task token matters, for people."""
    return [_heads_sentence(found), _circuits_sentence(found), _task_token_sentence(found)]


def sharing_section(pairs: Sequence[Sharing], step: int) -> str:
    """The section of a run, with a subsection for each pair of tasks.

    Args:
        pairs: of its measured tasks.
        step: of the checkpoint.
    """
    parts = [f"<h2>What the tasks share, step {step}</h2>"]
    for found in pairs:
        first, second = map(html.escape, found.names)
        if len(pairs) > 1:
            parts.append(f"<h3>{first} and {second}</h3>")
        parts.append(verdict(sharing_sentences(found), thresholds.SHARING))
        parts.append(wide(edges_figure(found)))
        parts.append(
            "<p class=quiet>Exact patching on prompts of each task by itself: rise of the cross-entropy when one edge "
            "carries another string's value, as a fraction of the rise when all do. An edge is one task's only, or of "
            "other strength, if its shares differ more than the largest difference among all edges does when prompts "
            f"have their task labels permuted (p ≤ {LEVEL}). Tasks also differ in their inputs and "
            "answers, so that a difference is not for the task's token alone.</p>"
        )
        parts.append(table_html(_overlap_rows(found)))
        parts.append(
            "<p class=quiet>Circuits and scores on a set of prompts of each task; on two sets of one task: the most "
            "that could be seen. Permuted: 95% range with the second task's edges permuted, and the fraction of "
            "permutations that come up to the actual figure.</p>"
        )
        heads = _head_rows(found)
        if len(heads):
            parts.append(table_html(heads))
            parts.append(
                "<p class=quiet>Fraction of the answers that follow another x<sub>t</sub>, or another position of "
                "[EoI], which a head alone carries; x<sub>t</sub> from the other task: its output is taken from a run "
                "of the other task on other inputs, and the answer should be this task's for the new x<sub>t</sub>.</p>"
            )
        if found.task_token is not None:
            parts.append(table_html(task_token_rows(found)))
            parts.append(f"<p class=quiet>{subscripts(_task_token_note(found.task_token))}</p>")
    return "\n".join(parts)


def _heads_sentence(found: Sharing) -> str:
    one, other = (task.x for task in found.tasks)
    if one is None or other is None:
        return "Only the last state is written, so which head carries x_t cannot be asked."
    for name, share in zip(found.names, (one, other), strict=True):
        check_finite(f"fraction of x_t that heads carry for {name}", share)
    texts = []
    both = ((one >= CARRIES) & (other >= CARRIES)).nonzero().tolist()
    for layer, head in both:
        shares = f"{_share(one[layer, head])} and {_share(other[layer, head])}, {NEEDED}"
        text = f"L{layer}H{head} carries x_t for both tasks ({shares})"
        if found.across is not None:
            first, second = (share[layer, head] for share in found.across)
            text += f"; with its output from a run of the other task {first:.0%} and {second:.0%} follow the x_t there"
        texts.append(f"{text}.")
    if not both:
        names = []
        for name, share in zip(found.names, (one, other), strict=True):
            best = int(share.argmax())
            names.append(f"L{best // share.shape[1]}H{best % share.shape[1]} most for {name} ({_share(share.max())})")
        texts.append(f"No head carries x_t for both tasks ({NEEDED}): {', '.join(names)}.")
    first, second = (task.end for task in found.tasks)
    if first is not None and second is not None:
        for layer, head in ((first >= CARRIES) & (second >= CARRIES)).nonzero().tolist():
            shares = f"{_share(first[layer, head])} and {_share(second[layer, head])}"
            texts.append(f"L{layer}H{head} carries the position of [EoI] for both ({shares}, {NEEDED}).")
    return " ".join(texts)


def _circuits_sentence(found: Sharing) -> str:
    if found.refusals:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.refusals.items())
        return f"What the circuits share is not judged. {reasons}."
    one, other = found.circuits
    chance, kind = found.anywhere[0], found.same_kind[0]
    halves = " and ".join(f"{half[0]:.2f}" for half in found.halves)
    text = (
        f"The circuits ({found.chosen}) share {len(one & other)} of {len(one | other)} edges: Jaccard {chance}; "
        f"permuted among edges of the same reader kind {kind.permuted.low:.2f} .. {kind.permuted.high:.2f}, "
        f"p = {kind.p:.3f}; circuits of two sets of prompts of one task {halves}."
    )
    for name, task in zip(found.names, found.tasks, strict=True):
        text += f" For {name} the network is {task.found[0].accuracy}."
    standing, differs = found.edges["standing"], found.edges["differs"]
    counts = {
        "shared but of other strength": int(((standing == "shared") & differs).sum()),
        f"only {found.names[0]}'s": int((standing == "first").sum()),
        f"only {found.names[1]}'s": int((standing == "second").sum()),
        "in one circuit, but of more effect for the other task": int(((standing == "undecided") & differs).sum()),
        "in one circuit with no difference shown": int(((standing == "undecided") & ~differs).sum()),
        "in neither, but of other strength": int(((standing == "neither") & differs).sum()),
    }
    named = [f"{n} {label}" for label, n in counts.items() if n]
    return f"{text} Edges: {', '.join(named)}." if named else f"{text} No edge differs."


def _task_token_sentence(found: Sharing) -> str:
    if found.task_token is None:
        return f"Where the task token matters cannot be asked: {found.unasked}."
    table = found.task_token.assign(name=patched_names)
    check_finite("fraction of answers that become the other task's", torch.tensor(table["follows"].to_numpy(float)))
    readers, edges, sites = (table[table["kind"] == kind] for kind in ("reader", "edge", "site"))
    least, most = (getattr(readers.groupby("name", sort=False)["follows"], name)() for name in ("min", "max"))
    needed = [str(name) for name in least.index if all(_moves(readers, name, CARRIES))]
    if not needed:
        nearest = str(least.idxmax())
        text = (
            "No component that alone reads the other task's stream makes the answers that task's: "
            f"{nearest} comes nearest with {_both(readers, nearest)} ({NEEDED} in both directions, with placebo and "
            f"control below that; {_controls(readers, nearest)})"
        )
        return f"{text}, but a control reaches it as well." if least.max() >= CARRIES else f"{text}."
    last = needed[-1]  # in order of computation
    text = (
        f"{last} depends on the task token: where it alone reads the other task's stream, {_both(readers, last)} of "
        f"the answers become that task's ({NEEDED}; {_controls(readers, last)})"
    )
    edges = edges[edges["reader"] == last].assign(name=lambda e: e["writer"])
    shares = edges.groupby("name", sort=False)["follows"].min().sort_values(ascending=False)
    writers = [f"{name} ({_both(edges, name, CARRIES_IN_PART)})" for name in shares.index if all(_moves(edges, name))]
    texts = [
        f"{text}; it reads it from {', '.join(writers)}." if writers else f"{text}; no edge into it does so alone."
    ]
    texts += [_head_and_task(sites, head) for head in carriers(found)]
    others = [f"{name} {_both(readers, name)}" for name in needed[:-1]]
    if others:
        texts.append(f"Other components that alone read the other task's stream move: {', '.join(others)}.")
    rest = most.drop(needed)
    if len(rest):
        texts.append(f"Any other component: at most {_share(rest.max())} in either direction ({rest.idxmax()}).")
    return " ".join(texts)


def _head_and_task(sites: pd.DataFrame, head: str) -> str:
    """Whether the output of a head that carries x_t carries the task as well."""
    name = f"{head}.z"
    shares, moves = _both(sites, name, CARRIES_IN_PART), _moves(sites, name)
    if any(moves):
        how = "carries the task" if all(moves) else "carries the task in one direction only"
        return f"{head}, which carries x_t, also {how}: patching its output moves {shares}."
    highest = sites.loc[sites["name"] == name, "follows"].max()
    if highest < CARRIES_IN_PART:
        shown = on_its_side(highest, CARRIES_IN_PART, percent=True)
        return f"{head}, which carries x_t, does not matter for that: patching its output moves {shown}."
    beside = _controls(sites, name, CARRIES_IN_PART)
    return (
        f"Whether {head}, which carries x_t, also carries the task cannot be told: patching its output moves {shares}, "
        f"and a control as many ({beside})."
    )


def _moves(table: pd.DataFrame, name: str, least: float = CARRIES_IN_PART) -> list[bool]:
    """Whether in each direction what is patched moves the answers: by a level that neither placebo nor control
    reaches."""
    rows = table.loc[table["name"] == name, ["follows", "placebo", "control"]]
    levels = [level for level in (CARRIES, CARRIES_IN_PART) if level >= least]
    return [
        any(follows >= level and placebo < level and control < level for level in levels)
        for follows, placebo, control in rows.itertuples(index=False)
    ]


def patched_names(table: pd.DataFrame) -> list[str]:
    """What each row of a table of task-token patching patches, such as `L1H0.k @ inputs`, `mlp1` or `tok → mlp1`."""
    names = []
    for row in table.to_dict("records"):
        match row["kind"]:
            case "site":
                names.append(row["site"] if pd.isna(row["span"]) else f"{row['site']} @ {row['span']}")
            case "reader":
                names.append(row["reader"])
            case _:
                names.append(f"{row['writer']} → {row['reader']}")
    return names


def _controls(table: pd.DataFrame, name: str, level: float = CARRIES) -> str:
    rows = table[table["name"] == name]
    placebo, control = (on_its_side(rows[of].max(), level, percent=True) for of in ("placebo", "control"))
    return f"placebo at most {placebo}, randomly initialised control {control}"


def _share(share: float | Tensor, level: float = CARRIES) -> str:
    return on_its_side(float(share), level, percent=True)


def carriers(found: Sharing) -> list[str]:
    """Heads that carry x_t for both tasks."""
    one, other = (task.x for task in found.tasks)
    if one is None or other is None:
        return []
    both = ((one >= CARRIES) & (other >= CARRIES)).nonzero().tolist()
    return [f"L{layer}H{head}" for layer, head in both]


def _both(table: pd.DataFrame, name: str, level: float = CARRIES) -> str:
    """The shares of both directions, each on its side of a level."""
    return " and ".join(_share(share, level) for share in table.loc[table["name"] == name, "follows"])


def _task_token_note(table: pd.DataFrame) -> str:
    first = table.groupby("base", sort=False)[["own", "n"]].first()
    right = " and ".join(f"{share:.0%}" for share in first["own"])
    return (
        "Two runs read one row but for the task token; states in it are drawn at random. Fraction of the answers that "
        "become the other task's when one site, reader or edge alone has what it has in the other run. In brackets: "
        "after a change of the same size in a random direction; of a randomly initialised control. K and V are patched "
        f"at the task token or at the inputs, other sites at the row itself. Of {first['n'].min()} answers or more; "
        f"unpatched, {right} of all answers that differ between the tasks are the right ones of the row's own task. "
        f"Edges below {CARRIES_IN_PART:.0%} in both directions are left out."
    )


def _head_rows(found: Sharing) -> pd.DataFrame:
    """A row a head, a column for each task and variable."""
    shown: dict[str, dict[str, str]] = {}
    variables = {"x": "x_t", "end": "position of [EoI]"}
    for layer, head, task, variable, source, share in found.heads().itertuples(index=False):
        column = f"{task}: {variables[variable]}" + (" from the other task" if source == "other_task" else "")
        shown.setdefault(f"L{layer}H{head}", {})[column] = f"{share:.2f}"
    return pd.DataFrame([{"head": head} | columns for head, columns in shown.items()]).fillna("–")


def _overlap_rows(found: Sharing) -> pd.DataFrame:
    """A row for what is compared, columns for either statistic."""
    shown: dict[str, dict[str, str]] = {}
    statistics = {"jaccard": "Jaccard", "rank_correlation": "rank correlation of scores"}
    among = {"any": "any edges", "same_kind": "edges of the same reader kind"}
    for row in found.overlap().to_dict("records"):
        if row["compared"] == "prompts":
            name, permuted = f"{row['task']}, two sets of prompts", "–"
        else:
            name = f"{' and '.join(found.names)}; permuted among {among[row['permuted_among']]}"
            permuted = f"{row['permuted_low']:.2f} .. {row['permuted_high']:.2f}, p = {row['p']:.3f}"
        statistic = statistics[row["statistic"]]
        shown.setdefault(name, {}).update({statistic: f"{row['value']:.2f}", f"{statistic}, permuted": permuted})
    return pd.DataFrame([{"": name} | columns for name, columns in shown.items()])


def task_token_rows(found: Sharing) -> pd.DataFrame:
    """Sites, readers and the edges that matter, a column a direction."""
    if found.task_token is None:
        return pd.DataFrame()
    rows = []
    first, second = found.names
    directions = (f"{first} becomes {second}", f"{second} becomes {first}")
    for key, both in found.task_token.assign(name=patched_names).groupby(["kind", "name"], sort=False):
        kind, name = str(key[0]), str(key[1])
        if kind == "edge" and both["follows"].max() < CARRIES_IN_PART:
            continue
        row = {"patched": kind, "name": name}
        for direction, values in zip(directions, both.to_dict("records"), strict=True):
            row[direction] = f"{values['follows']:.2f} [{values['placebo']:.2f}; {values['control']:.2f}]"
        rows.append(row)
    return pd.DataFrame(rows)
