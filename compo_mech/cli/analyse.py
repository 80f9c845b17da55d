"""From a run to its dissection: tables in the run's folder, a section on its page, sentences for the terminal.

Of several tasks each is taken apart by itself; then they are set side by side, two at a time.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import tyro
from rich.console import Console
from rich.progress import Progress, TaskID, track

from compo_mech.analyses.alignment import aligned
from compo_mech.analyses.dissection import Dissection, dissect
from compo_mech.analyses.emergence import changes_after_accuracy, component_emergence, sentences
from compo_mech.analyses.examine import Probe, Seen, examined, layer_asked
from compo_mech.analyses.over_runs import Row, rows_of
from compo_mech.analyses.sharing import Sharing, compare, evidence
from compo_mech.analyses.trajectories import watch
from compo_mech.circuits.circuit import to_json
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import keep
from compo_mech.cli.progress import checkpoint_bars, counting, spinner
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.report.alignment import alignment_section
from compo_mech.report.dissection import dissection_section, head_rows
from compo_mech.report.emergence import emergence_section, shown_emergence
from compo_mech.report.method_card import card_sentence
from compo_mech.report.probe_parts import trajectories
from compo_mech.report.run_page import write_page
from compo_mech.report.sharing import sharing_section, sharing_sentences
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import follow
from compo_mech.stats.onset import MIN_POINTS


def dissect_main(run: Path, step: int | None, seed: int, card: Path) -> None:
    """Dissect every measured task of a run, and say what they share. Exits with code 2 and one line on bad input.

    Args:
        run: its folder.
        step: of the checkpoint; None: the last.
        seed: of all that is drawn.
        card: the method card, whose rows for the method used are shown.
    """
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        opened = Run.open(run)
        graded = pd.read_csv(card) if card.exists() else None
        for found in dissections(opened, step, seed, console):
            content = files(found) | {"section.html": dissection_section(found, graded)}
            said = [*found.sentences, card_sentence(graded, found)]
            table = head_rows(found.trained, found.control)
            keep(opened, "dissect", found.step, found.task, content, said, console, table)
        if pairs := list(shared(opened, step, seed, console)):
            keep_shared(opened, opened.steps[-1] if step is None else step, pairs, console)
        console.print(f"Look at {write_page(opened)}", highlight=False)


def dissections(run: Run, step: int | None, seed: int, console: Console) -> Iterator[Dissection]:
    """One task after the other."""
    params = run.params(step)
    model = Model(params, run.config.model)
    for task in run.config.data.measured_tasks:
        with spinner(console) as bar:
            shown = bar.add_task(str(task))
            yield dissect(
                model,
                run.config.data,
                task,
                run.steps[-1] if step is None else step,
                seed,
                tell=lambda what, bar=bar, shown=shown: bar.update(shown, description=what),
            )


def shared(run: Run, step: int | None, seed: int, console: Console) -> Iterator[Sharing]:
    """Every two measured tasks beside each other; none where there is only one."""
    data, model = run.config.data, Model(run.params(step), run.config.model)
    if len(data.measured_tasks) < 2:
        return
    with spinner(console) as bar:
        shown = bar.add_task("what the tasks share")
        found = []
        for task in data.measured_tasks:
            bar.update(shown, description=f"{task}: two sets of prompts")
            found.append(evidence(model, data, task, seed))
        for one, other in itertools.combinations(found, 2):
            bar.update(shown, description=f"{one.task} and {other.task}")
            yield compare(model, data, one, other, seed)


def keep_shared(run: Run, step: int, pairs: list[Sharing], console: Console) -> None:
    """Keep what the tasks share in one folder, which stands after those of the tasks, and tell it."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for pair in pairs:
        for name, table in pair.tables().items():
            tables.setdefault(name, []).append(table.assign(tasks=" and ".join(pair.names)))
    content = {f"{name}.csv": pd.concat(parts, ignore_index=True).to_csv(index=False) for name, parts in tables.items()}
    said = []
    console.print(f"What the tasks share, step {step}", highlight=False)
    for pair in pairs:
        console.print(" and ".join(pair.names), highlight=False)
        for sentence in sharing_sentences(pair):
            said.append(sentence)
            console.print(f"• {sentence}", highlight=False)
    content |= {"section.html": sharing_section(pairs, step), "findings.txt": "\n".join(said) + "\n"}
    console.print(f"Tables: {run.write_analysis(f'sharing-{step:06d}', content)}", highlight=False)


def files(found: Dissection) -> dict[str, str]:
    """What is kept of a dissection besides what was said: tables and the circuit."""
    content = {f"{name}.csv": table.to_csv(index=False) for name, table in found.tables().items()}
    if found.circuit is not None:
        content["circuit.json"] = to_json(found.circuit)
    return content


def watch_main(path: Path, task: str | None, seed: int, n_workers: int, every: int) -> None:
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
    with one_line_errors():
        run = Run.open(path)
        if n_workers < 1 or every < 1:
            raise ValueError(f"n_workers = {n_workers}, every = {every}: must be at least 1")
        if len(run.steps) < MIN_POINTS:
            raise ValueError(f"run = {path}: has {len(run.steps)} checkpoints, must have at least {MIN_POINTS}")
        for asked in run.tasks(task):
            with checkpoint_bars(console, str(asked)) as advance:
                found = watch(run, asked, advance, seed, n_workers, {"ways": every})
            parts, rises = (
                component_emergence(found, torch.Generator().manual_seed(seed)),
                changes_after_accuracy(found),
            )
            said = sentences(found, parts, rises)
            content = {
                "by-step.csv": found.rows.to_csv(index=False),
                "emergence.csv": parts.to_csv(index=False),
                "rises.csv": rises.to_csv(index=False),
                "section.html": emergence_section(found, parts, rises, said),
            }
            keep(run, "watch", run.steps[-1], asked, content, said, console, shown_emergence(parts))
        console.print(f"Look at {write_page(run)}", highlight=False)


def align_main(path: Path, step: int | None, all_steps: bool, task: str | None, seed: int) -> None:
    """Align a run with the algorithm. Exits with code 2 and one line on bad input.

    Args:
        path: folder of the run.
        step: of the checkpoint; None: the last.
        all_steps: also the interchange map of every checkpoint.
        task: one of the run's, spelled; None: all that are measured.
        seed: of all that is drawn.
    """
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        if all_steps and step is not None:
            raise ValueError(f"step = {step}: goes without all-steps")
        run = Run.open(path)
        for asked in run.tasks(task):
            with counting(console) as bar:
                shown = bar.add_task(str(asked), total=None)

                found = aligned(run, asked, step, all_steps, seed, partial(pieces_left, bar, shown, str(asked)))
            content = {
                "interchange.csv": found.own.to_csv(index=False),
                "fresh-interchange.csv": found.fresh.to_csv(index=False),
                "searched.csv": found.searched.to_csv(index=False),
                "section.html": alignment_section(
                    str(asked), found.step, found.sentences, found.own, found.fresh, found.by_step, found.searched
                ),
            }
            if found.by_step is not None:
                content["by-step.csv"] = found.by_step.to_csv(index=False)
            keep(run, "alignment", found.step, asked, content, found.sentences, console)
        console.print(f"Look at {write_page(run)}", highlight=False)


def command(probe: Probe, section: Callable[[Seen], str], description: str | None) -> None:
    """The command line of a probe script."""

    def ask(
        run: Annotated[Path, tyro.conf.Positional],
        step: int | None = None,
        all_steps: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
        task: str | None = None,
        seed: int = 0,
    ) -> None:
        """Ask RUN at a step (None: its last), or follow its figures over all steps; one task or all of them."""
        probe_main(probe, section, run, step, all_steps, task, seed)

    tyro.cli(ask, description=description)


def pieces_left(bar: Progress, shown: TaskID, title: str, what: str, n_left: int) -> None:
    """Show on a bar what is done next, and how many pieces of work are left."""
    total = bar.tasks[0].total or n_left
    bar.update(shown, description=f"{title}, {what}", total=total, completed=total - n_left)


def probe_main(
    probe: Probe,
    section: Callable[[Seen], str],
    path: Path,
    step: int | None,
    all_steps: bool,
    task: str | None,
    seed: int,
) -> None:
    """Run a probe on a run. Exits with code 2 and one line on bad input.

    Args:
        probe: which.
        section: of the run's page.
        path: folder of the run.
        step: of the checkpoint; None: the last.
        all_steps: every checkpoint, and the last one in full.
        task: one of the run's, spelled; None: all that are measured.
        seed: of all that is drawn.
    """
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        if all_steps and step is not None:
            raise ValueError(f"step = {step}: goes without all-steps")
        run = Run.open(path)
        kept: list[tuple[Seen, dict[str, str], list[str]]] = []  # written once all tasks have been asked
        for asked in run.tasks(task):
            seen = examined(probe, run, asked, step, seed)
            content = {f"{name}.csv": table.to_csv(index=False) for name, table in probe.tables(seen.own).items()}
            content |= {f"fresh-{name}.csv": t.to_csv(index=False) for name, t in probe.tables(seen.fresh).items()}
            said = probe.sentences(seen)
            content["section.html"] = section(seen)
            curves = followed(probe, run, asked, seed, console) if all_steps else None
            if curves is not None:
                content["by-step.csv"] = curves.to_csv(index=False)
                content["section.html"] += trajectories(curves, f"{asked}, {len(run.steps)} checkpoints")
            kept.append((seen, content, said))
        for seen, content, said in kept:
            keep(run, probe.name, seen.step, seen.task, content, said, console)
        console.print(f"Look at {write_page(run)}", highlight=False)


def followed(probe: Probe, run: Run, task: Task, seed: int, console: Console) -> pd.DataFrame:
    """The figures of every checkpoint that can be read: columns step, measure, site, value, low, high; the
    control's step is -1. What was measured before is not measured again."""
    layer = layer_asked(probe, Model(run.params(), run.config.model), run.config.data, task, seed)
    with counting(console) as bar:
        shown = bar.add_task(f"{task}, checkpoints", total=1 + len(run.steps))

        def advance(step: int, problem: str | None) -> None:
            bar.advance(shown)
            if problem is not None:
                console.print(f"[yellow]step {step} is left out: {problem}[/]", highlight=False)

        return follow(
            run,
            probe.name,
            {"task": str(task), "seed": seed, "layer": layer},
            lambda model: probe.measures(probe.examine(model, run.config, task, seed, layer, False)),
            probe.code,
            advance,
        )


def over_runs_main(
    out: Annotated[Path, tyro.conf.Positional], runs: Annotated[tuple[Path, ...], tyro.conf.Positional], seed: int = 0
) -> None:
    """Write the table of RUNS, each asked about all its tasks, to OUT."""
    torch.set_num_threads(1)
    console = Console()
    rows: list[Row] = []
    for path in track(runs, "runs", console=console, transient=True):
        try:
            run = Run.open(path)
            for task in run.tasks():
                rows += rows_of(run, task, seed)
        except (RunError, ValueError) as error:
            rows.append({"run": path.name, "failed": str(error)})
    table = pd.DataFrame(rows)
    table.round(4).to_csv(out, index=False)
    console.print(f"{len(runs)} runs in {out}", highlight=False)
