"""What `align` asks of a run: where its network holds the algorithm's variables."""

from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.progress import Progress, TaskID

from compo_mech.analyses.alignment import Aligned, aligned
from compo_mech.cli.analyse import check_steps
from compo_mech.cli.output import csv_files
from compo_mech.cli.progress import counting
from compo_mech.data.tasks import Task
from compo_mech.runs.run import Run


@dataclass(frozen=True)
class AlignmentOfRun:
    """What `align` asks of a run.

    Attributes:
        step: of the checkpoint; None: the last.
        all_steps: also the interchange map of every checkpoint.
        seed: of all that is drawn.
    """

    step: int | None
    all_steps: bool
    seed: int
    name = "alignment"

    def check(self, run: Run) -> None:
        check_steps(self.step, self.all_steps)

    def ask(self, run: Run, task: Task, console: Console) -> Aligned:
        with counting(console) as bar:
            shown = bar.add_task(str(task), total=None)
            return aligned(
                run, task, self.step, self.all_steps, self.seed, partial(_pieces_left, bar, shown, str(task))
            )

    def files(self, found: Aligned) -> dict[str, str]:
        return csv_files(found.tables())

    def sentences(self, found: Aligned) -> list[str]:
        return found.sentences

    def section(self, found: Aligned) -> str:
        from compo_mech.report.alignment import alignment_section  # with pandas, which --help need not wait for

        return alignment_section(
            str(found.task), found.step, found.sentences, found.trained, found.control, found.by_step, found.searched
        )

    def shown(self, found: Aligned) -> None:
        return None


def _pieces_left(bar: Progress, shown: TaskID, title: str, what: str, n_left: int) -> None:
    """Show on a bar what is done next, and how many pieces of work are left."""
    total = bar.tasks[0].total or n_left
    bar.update(shown, description=f"{title}, {what}", total=total, completed=total - n_left)
