"""What `dissect` asks of a run: each task by itself, then what every two of them share."""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from compo_mech.analyses import dissection
from compo_mech.analyses.dissection import Dissection
from compo_mech.analyses.network_findings import STAGES
from compo_mech.analyses.sharing import Sharing, compare, evidence
from compo_mech.circuits.circuit import to_json
from compo_mech.cli.output import Output, csv_files
from compo_mech.cli.progress import counting
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.report.method_card import card_sentence
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DissectionOfRun:
    """What `dissect` asks of a run.

    Attributes:
        step: of the checkpoint; None: the last.
        seed: of all that is drawn.
        card: the method card, whose rows for the method used are quoted.
    """

    step: int | None
    seed: int
    card: "pd.DataFrame"
    name = "dissect"

    def check(self, run: Run) -> None:
        """Every run can be dissected."""

    def ask(self, run: Run, task: Task, console: Console) -> Dissection:
        model = Model(run.params(self.step), run.config.model)
        step = run.steps[-1] if self.step is None else self.step
        with counting(console) as bar:
            shown = bar.add_task(str(task), total=2 * sum(STAGES.values()))
            n_done = itertools.accumulate((*STAGES.values(), *STAGES.values()), initial=0)

            def tell(what: str) -> None:
                bar.update(shown, description=what, completed=next(n_done))

            return dissection.dissect(model, run.config.data, task, step, run.config.shifts, self.seed, tell=tell)

    def files(self, found: Dissection) -> dict[str, str]:
        circuit = {} if found.circuit is None else {"circuit.json": to_json(found.circuit)}
        return csv_files(found.tables()) | circuit

    def sentences(self, found: Dissection) -> list[str]:
        return [*found.sentences, card_sentence(self.card, found)]

    def section(self, found: Dissection) -> str:
        from compo_mech.report.dissection import dissection_section  # with pandas, which --help need not wait for

        return dissection_section(found, self.card)

    def shown(self, found: Dissection) -> "pd.DataFrame":
        from compo_mech.report.dissection import head_rows

        return head_rows(found.trained, found.control)

    def shared(self, run: Run, console: Console) -> list[Output]:
        """What every two measured tasks share, in one folder; nothing where there is only one."""
        data, model = run.config.data, Model(run.params(self.step), run.config.model)
        if len(data.measured_tasks) < 2:
            return []
        n_tasks = len(data.measured_tasks)
        with counting(console) as bar:
            shown = bar.add_task("what the tasks share", total=n_tasks + math.comb(n_tasks, 2))
            found = []
            for task in data.measured_tasks:
                bar.update(shown, description=f"{task}: two sets of prompts")
                found.append(evidence(model, data, task, run.config.shifts, self.seed))
                bar.advance(shown)
            pairs = []
            for one, other in itertools.combinations(found, 2):
                bar.update(shown, description=f"{one.task} and {other.task}")
                pairs.append(compare(model, data, one, other, self.seed))
                bar.advance(shown)
        return [sharing_output(pairs, run.steps[-1] if self.step is None else self.step)]


def sharing_output(pairs: list[Sharing], step: int) -> Output:
    """What is left of the comparison of tasks, whose folder stands after those of the tasks."""
    import pandas as pd

    from compo_mech.report.sharing import sharing_section, sharing_sentences

    tables: dict[str, list[pd.DataFrame]] = {}
    for pair in pairs:
        for name, table in pair.tables().items():
            tables.setdefault(name, []).append(table.assign(tasks=" and ".join(pair.names)))
    files = csv_files({name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()})
    return Output(
        folder=f"sharing-{step:06d}",
        title=f"What the tasks share, step {step}",
        files=files | {"section.html": sharing_section(pairs, step)},
        sentences={" and ".join(pair.names): sharing_sentences(pair) for pair in pairs},
    )
