"""From a run folder to what a probe found: steps, controls, tables, a section on the run's page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import pandas as pd
import torch
import tyro
from rich.console import Console

from compo_mech.config import RunConfig
from compo_mech.data import DataConfig
from compo_mech.graph import Model
from compo_mech.launch import write_page
from compo_mech.runs import Run
from compo_mech.tasks import Task
from compo_mech.telling import complaints, counting, keep
from compo_mech.trajectory import Measured, follow
from probes.readings import iteration_layer

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Probe(Generic[FoundT]):
    """One of the probe scripts.

    Attributes:
        name: of its folder in the run's analyses.
        layers_before: of the layer whose heads fetch x_t, how many the MLP that is asked about lies before it.
        examine: asks one network; takes the model, the run's settings, the task, the seed, the layer of the
            MLP, and whether to ask in full.
        measures: figures to follow over training.
        sentences: the verdict and what it rests on, of a network and its control.
        tables: what is kept, by name.
        section: of the run's page.
        trajectories: the same over training, from rows of step and `Measured`.
    """

    name: str
    layers_before: int
    examine: Callable[[Model, RunConfig, Task, int, int, bool], FoundT]
    measures: Callable[[FoundT], Sequence[Measured]]
    sentences: Callable[["Seen[FoundT]"], list[str]]
    tables: Callable[[FoundT], dict[str, pd.DataFrame]]
    section: Callable[["Seen[FoundT]"], str]
    trajectories: Callable[[pd.DataFrame, str], str]


@dataclass(frozen=True)
class Seen(Generic[FoundT]):
    """What was found in one checkpoint, beside a freshly initialised network."""

    run: Run
    model: Model
    task: Task
    step: int
    own: FoundT
    fresh: FoundT
    control: Model


def command(probe: Probe, description: str | None) -> None:
    """The command line of a probe script."""

    def ask(
        run: Annotated[Path, tyro.conf.Positional],
        step: int | None = None,
        all_steps: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
        task: str | None = None,
        seed: int = 0,
    ) -> None:
        """Ask RUN at a step (None: its last), or follow its figures over all steps; one task or all of them."""
        main(probe, run, step, all_steps, task, seed)

    tyro.cli(ask, description=description)


def main(probe: Probe, path: Path, step: int | None, all_steps: bool, task: str | None, seed: int) -> None:
    """Run a probe on a run. Exits with code 2 and one line on bad input.

    Args:
        probe: which.
        path: folder of the run.
        step: of the checkpoint; None: the last.
        all_steps: every checkpoint, and the last one in full.
        task: one of the run's, spelled; None: all that are measured.
        seed: of all that is drawn.
    """
    torch.set_num_threads(1)
    console = Console()
    with complaints():
        if all_steps and step is not None:
            raise ValueError(f"step = {step}: goes without all-steps")
        run = Run.open(path)
        kept: list[tuple[Seen, dict[str, str], list[str]]] = []  # written once all tasks have been asked
        for asked in run.tasks(task):
            seen = examined(probe, run, asked, step, seed)
            content = {f"{name}.csv": table.to_csv(index=False) for name, table in probe.tables(seen.own).items()}
            content |= {f"fresh-{name}.csv": t.to_csv(index=False) for name, t in probe.tables(seen.fresh).items()}
            said = probe.sentences(seen)
            content["section.html"] = probe.section(seen)
            curves = followed(probe, run, asked, seed, console) if all_steps else None
            if curves is not None:
                content["by-step.csv"] = curves.to_csv(index=False)
                content["section.html"] += probe.trajectories(curves, f"{asked}, {len(run.steps)} checkpoints")
            kept.append((seen, content, said))
        for seen, content, said in kept:
            keep(run, probe.name, seen.step, seen.task, content, said, console)
        console.print(f"Look at {write_page(run)}", highlight=False)


def _layer(probe: Probe, model: Model, data: DataConfig, task: Task, seed: int) -> int:
    return iteration_layer(model, data, task, torch.Generator().manual_seed(seed)) - probe.layers_before


def examined(probe: Probe[FoundT], run: Run, task: Task, step: int | None, seed: int) -> Seen[FoundT]:
    """One checkpoint and its control.

    Raises:
        RunError, ValueError: there is no such checkpoint, or the network or the task cannot be asked.
    """
    model, data = Model(run.params(step), run.config.model), run.config.data
    layer = _layer(probe, model, data, task, seed)
    control = Model(run.control(), run.config.model)
    own, fresh = (probe.examine(m, run.config, task, seed, layer, True) for m in (model, control))
    return Seen(run, model, task, run.steps[-1] if step is None else step, own, fresh, control)


def followed(probe: Probe, run: Run, task: Task, seed: int, console: Console) -> pd.DataFrame:
    """The figures of every checkpoint that can be read: columns step, measure, site, value, low, high; the
    control's step is -1. What was measured before is not measured again."""
    layer = _layer(probe, Model(run.params(), run.config.model), run.config.data, task, seed)
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
            Path(__file__).parent,
            advance,
        )
