"""What `probe` asks of a run, or of many: do its MLPs subtract positions, and do they update the state?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from rich.console import Console
from rich.progress import track

from compo_mech.analyses.examine import Probe, Seen, examined, layer_asked
from compo_mech.analyses.over_runs import Row, rows_of
from compo_mech.cli.analyse import check_steps
from compo_mech.cli.errors import fail, one_line_errors
from compo_mech.cli.output import check_out, csv_files, say, warn, write_table
from compo_mech.cli.progress import counting
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.report.probe_parts import trajectories_html
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.files import shown
from compo_mech.runs.names import distinct, once
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import follow
from compo_mech.stats.intervals import counted

if TYPE_CHECKING:
    import pandas as pd

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Followed(Generic[FoundT]):
    """What a probe found at one checkpoint, and its figures at all of them, where they were asked for."""

    seen: Seen[FoundT]
    curves: "pd.DataFrame | None"


@dataclass(frozen=True)
class Probing(Generic[FoundT]):
    """What a probe asks of a run.

    Attributes:
        probe: which.
        page_section: of the run's page.
        step: of the checkpoint; None: the last.
        all_steps: every checkpoint, and the last one in full.
        seed: of all that is drawn.
    """

    probe: Probe[FoundT]
    page_section: Callable[[Seen[FoundT]], str]
    step: int | None
    all_steps: bool
    seed: int

    @property
    def name(self) -> str:
        return self.probe.name

    def check(self, run: Run) -> None:
        check_steps(self.step, self.all_steps)

    def ask(self, run: Run, task: Task, console: Console) -> Followed[FoundT]:
        seen = examined(self.probe, run, task, self.step, self.seed)
        return Followed(seen, followed(self.probe, run, task, self.seed, console) if self.all_steps else None)

    def files(self, found: Followed[FoundT]) -> dict[str, str]:
        tables = found.seen.tables(self.probe)
        return csv_files(tables if found.curves is None else tables | {"by-step": found.curves})

    def sentences(self, found: Followed[FoundT]) -> list[str]:
        return self.probe.sentences(found.seen)

    def section(self, found: Followed[FoundT]) -> str:
        section = self.page_section(found.seen)
        if found.curves is None:
            return section
        return section + trajectories_html(
            found.curves, f"{found.seen.task}, {len(found.seen.run.steps)} checkpoints", found.seen.model.config
        )

    def shown(self, found: Followed[FoundT]) -> None:
        return None


def followed(probe: Probe, run: Run, task: Task, seed: int, console: Console) -> "pd.DataFrame":
    """Measure the control and every checkpoint that can be read: the columns of `as_table`.

    What was measured before is not measured again.
    """
    layer = layer_asked(probe, Model(run.params(), run.config.model), run.config.data, task, seed)
    with counting(console) as bar:
        shown = bar.add_task(f"{task}, checkpoints", total=1 + len(run.steps))

        def advance(step: int | None, problem: str | None) -> None:
            bar.advance(shown)
            if problem is not None:
                warn(console, f"step {step} is left out: {problem}")

        return follow(
            run,
            probe.name,
            {"task": str(task), "seed": seed, "layer": layer},
            lambda model: probe.measures(probe.examine(model, run.config, task, seed, layer, False)),
            probe.code,
            advance,
        )


def probe_over_runs(runs: Sequence[Path], out: Path, seed: int) -> None:
    """Write the table of RUNS, each asked by both probes about all its tasks.

    Args:
        runs: folders of runs.
        out: the table, .csv.
        seed: of all that is drawn.
    """
    import pandas as pd

    torch.set_num_threads(1)
    console = Console()
    rows: list[Row] = []
    paths = once(runs)
    named = list(zip(distinct(paths), paths, strict=True))
    with one_line_errors():
        check_out(out, ".csv")
        for name, path in track(named, "runs", console=console, transient=True):
            try:
                run = Run.open(path)
                for task in run.tasks():
                    rows += rows_of(run, name, task, seed)
            except (RunError, ValueError) as error:
                rows.append({"run": name, "failed": shown(error)})
                warn(console, f"{name}: {error}")
        table = pd.DataFrame(rows)
        if "value" not in table:  # why is on the terminal, and a table of an earlier time stays as it is
            fail(f"runs = {len(paths)}: must hold one that can be analysed, all failed")
        table = table.astype({name: "Int64" for name in ("layer", "head") if name in table})
        write_table(out, table.round(4))
        say(console, f"{counted(len(paths), 'run')} in {out}")
