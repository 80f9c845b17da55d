"""A run watched over its checkpoints: when each part of the circuit came about, and what went on after accuracy."""

import html
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console

from compo_mech import charts
from compo_mech.emergence import MIN_POINTS, Course, Emergence, emergence, reached, still_rising
from compo_mech.launch import write_page
from compo_mech.report import ACCURACY_LEVEL, table_html, wide
from compo_mech.runs import Run
from compo_mech.telling import complaints, counting, keep
from compo_mech.watching import Advance, Watched, watch

MOMENTS = ("onset", "midpoint", "saturation")

CLEAN = {
    "iteration score": ("iteration_together", 0),
    "iteration sparsity": ("iteration_sparsity", 0),
    "lookup score": ("lookup_together", -1),
    "lookup sparsity": ("lookup_sparsity", -1),
    "weight norm": ("weight norm", None),
}
"""What may go on changing once accuracy is flat: measure, and how many layers from the one that fetches x_t."""


def main(path: Path, task: str | None, seed: int, n_workers: int, every: int) -> None:
    """Watch a run. Exits with code 2 and one line on bad input.

    Args:
        path: folder of the run.
        task: one of the run's, spelled; None: all that are measured.
        seed: of all that is drawn.
        n_workers: processes.
        every: routes are asked of each n-th checkpoint only.
    """
    torch.set_num_threads(1)
    console = Console()
    with complaints():
        run = Run.open(path)
        if n_workers < 1 or every < 1:
            raise ValueError(f"n_workers = {n_workers}, every = {every}: must be at least 1")
        if len(run.steps) < MIN_POINTS:
            raise ValueError(f"run = {path}: has {len(run.steps)} checkpoints, must have at least {MIN_POINTS}")
        for asked in run.tasks(task):
            with progress(console, str(asked)) as advance:
                found = watch(run, asked, advance, seed, n_workers, {"ways": every})
            parts, rises = emerged(found, torch.Generator().manual_seed(seed)), went_on(found)
            said = sentences(found, parts, rises)
            content = {
                "by-step.csv": found.rows.to_csv(index=False),
                "emergence.csv": parts.to_csv(index=False),
                "rises.csv": rises.to_csv(index=False),
                "section.html": section(found, parts, rises, said),
            }
            keep(run, "watch", run.steps[-1], asked, content, said, console, shown(parts))
        console.print(f"Look at {write_page(run)}", highlight=False)


@contextmanager
def progress(console: Console, title: str) -> Iterator[Advance]:
    """A bar for each thing that is asked of the checkpoints; a line for each checkpoint that cannot be read."""
    told: set[int] = set()
    with counting(console) as bar:
        bars = {}

        def advance(name: str, step: int, n_steps: int, problem: str | None) -> None:
            if name not in bars:
                bars[name] = bar.add_task(f"{title}: {name}", total=n_steps)
            bar.advance(bars[name])
            if problem is not None and step not in told:
                told.add(step)
                console.print(f"[yellow]step {step} is left out: {problem}[/]", highlight=False)

        yield advance


def emerged(found: Watched, generator: torch.Generator) -> pd.DataFrame:
    """When each part came about: a row a part.

    Returns:
        Columns part, measure, site, course, onset, midpoint, saturation with `_low` and `_high` each (steps; inf after
        the last, -inf before the first), p_flat, rise, fresh (the control's value), first, final and last_step.
    """
    rows = []
    for part, (measure, site) in found.parts().items():
        curve = found.curve(measure, site)
        if len(curve) < MIN_POINTS:
            continue
        steps, values = curve["step"].tolist(), curve["value"].tolist()
        came = risen(emergence(steps, values, generator))
        row: dict[str, object] = {"part": part, "measure": measure, "site": site or "", "course": str(came.course)}
        for name in MOMENTS:
            moment = getattr(came, name)
            row |= {name: moment.step, f"{name}_low": moment.low, f"{name}_high": moment.high}
        row |= {"p_flat": came.p_flat, "rise": came.rise, "fresh": found.control(measure, site)}
        rows.append(row | {"first": values[0], "final": values[-1], "last_step": steps[-1]})
    return pd.DataFrame(rows)


def risen(came: Emergence) -> Emergence:
    """The same; a curve that fell has nothing that emerged."""
    if came.rise > 0:
        return came
    nothing = {name: getattr(came, name)._replace(step=math.inf, low=math.inf, high=math.inf) for name in MOMENTS}
    return Emergence(Course.NOTHING, **nothing, p_flat=came.p_flat, fitted=came.fitted, rise=came.rise)


def went_on(found: Watched) -> pd.DataFrame:
    """How the maps changed from the step on from which accuracy stays at 99%: a row a measure; none if it does not.

    Returns:
        Columns measure, site, since (step), at_since, final, total, low, high (change of the straight line through what
        follows), slope (per 1000 steps), correlation.
    """
    accuracy = found.curve("strings right")
    since = reached(accuracy["step"].tolist(), accuracy["value"].tolist(), ACCURACY_LEVEL)
    rows: list[dict[str, object]] = []
    if since is None:
        return pd.DataFrame(rows)
    for name, (measure, layers_away) in CLEAN.items():
        if layers_away is not None and (found.layer is None or found.layer + layers_away < 0):
            continue
        layer = None if layers_away is None else (found.layer or 0) + layers_away
        sites = [None] if layer is None else [f"L{layer}"] if measure.endswith("together") else found.heads(layer)
        for site in sites:
            curve = found.curve(measure, site)
            if (curve["step"] >= since).sum() < MIN_POINTS:
                continue
            steps, values = curve["step"].tolist(), curve["value"].tolist()
            rise = still_rising(steps, values, since)
            row: dict[str, object] = {"measure": name, "site": site or "", "since": since}
            row |= {"at_since": values[steps.index(since)], "final": values[-1]}
            row |= dict(zip(("total", "low", "high"), rise.total, strict=True))
            rows.append(row | {"slope": rise.slope.mean, "correlation": rise.correlation})
    return pd.DataFrame(rows)


def shown(parts: pd.DataFrame) -> pd.DataFrame:
    """The table of parts as a person reads it."""
    rows = []
    for row in parts.to_dict("records"):
        told: dict[str, object] = {"part": row["part"], "course": row["course"]}
        for name in MOMENTS:
            told[name] = _moment(row[name], row[f"{name}_low"], row[f"{name}_high"])
        rows.append(told | {"final": f"{row['final']:.2f} [{row['fresh']:.2f}]"})
    return pd.DataFrame(rows)


def _moment(step: float, low: float, high: float) -> str:
    if step == math.inf:
        return "–"
    return f"{_step(step)} ({_step(low)} .. {_step(high)})"


def _step(step: float) -> str:
    return "end" if step == math.inf else "start" if step == -math.inf else f"{step:.0f}"


def sentences(found: Watched, parts: pd.DataFrame, rises: pd.DataFrame) -> list[str]:
    """In which order the parts came, and whether the maps went on changing once accuracy was flat."""
    said = []
    came = parts[parts["midpoint"] < math.inf].sort_values("midpoint") if len(parts) else parts
    if len(came):
        order = ", ".join(f"{p} ({_step(m)})" for p, m in zip(came["part"], came["midpoint"], strict=True))
        said.append(f"Half way, in order: {order}.")
    missing = [str(part) for part, course in zip(parts["part"], parts["course"], strict=True) if course == "nothing"]
    if missing:
        said.append(f"Did not rise: {', '.join(missing)}.")
    if not len(rises):
        said.append(f"Accuracy did not stay at {ACCURACY_LEVEL:.0%} for {MIN_POINTS} checkpoints.")
    for row in rises.to_dict("records"):
        verdict = "rose" if row["low"] > 0 else "fell" if row["high"] < 0 else "neither rose nor fell for certain"
        said.append(
            f"From step {row['since']} on, with accuracy at {ACCURACY_LEVEL:.0%}, the {row['measure']}"
            f"{' of ' + row['site'] if row['site'] else ''} {verdict}: {row['total']:+.3f} "
            f"({row['low']:+.3f} .. {row['high']:+.3f}), from {row['at_since']:.3f} to {row['final']:.3f}."
        )
    return said


def section(found: Watched, parts: pd.DataFrame, rises: pd.DataFrame, said: list[str]) -> str:
    """Of the run's page: sentences, timeline, curves with their control, table."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in said)
    shown_parts = [f"<h2>When each part came: {html.escape(str(found.task))}</h2><ul>{items}</ul>"]
    if len(parts):
        shown_parts.append(
            wide(charts.timeline(parts.assign(run="this run"), "Onset, midpoint and saturation of each part"))
        )
        shown_parts.append(table_html(shown(parts)))
        shown_parts.append(
            "<p class=quiet>Steps with 95% intervals; a dash: nothing rose; in brackets: a freshly initialised "
            "network. Lookup, iteration: attention of a layer's heads together. Worth: states lost when the layer's "
            "heads attend evenly. t, x, state: answers that follow another string's activation, less those that "
            "follow a random change of its size. Onset and saturation are where the line through 25% and 75% of the "
            "rise meets the plateaus.</p>"
        )
    panels: dict[str, dict] = {"Attention": {}, "Causes": {}, "Accuracy": {}}
    control: dict[str, dict[str, float]] = {name: {} for name in panels}
    for part, (measure, site) in found.parts().items():
        panel = "Attention" if part in ("lookup", "iteration") else "Accuracy" if part == "accuracy" else "Causes"
        curve = found.curve(measure, site)
        low, high = (curve[name].fillna(curve["value"]) for name in ("low", "high"))
        panels[panel][part] = (curve["step"].tolist(), list(zip(curve["value"], low, high, strict=True)))
        control[panel][part] = found.control(measure, site)
    panels = {name: curves for name, curves in panels.items() if curves}
    if panels:
        shown_parts.append(wide(charts.by_step(panels, control, "Over training; dotted: freshly initialised")))
    return "\n".join(shown_parts)
