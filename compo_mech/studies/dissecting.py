"""From a run to its dissection: tables in the run's folder, a section on its page, sentences for the terminal."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from compo_mech.circuits import to_json
from compo_mech.dissection import Dissection, dissect
from compo_mech.graph import Model
from compo_mech.launch import write_page
from compo_mech.runs import Run
from compo_mech.sections import card_sentence, dissection_section, head_rows
from compo_mech.telling import complaints, keep


def main(run: Path, step: int | None, seed: int, card: Path) -> None:
    """Dissect every measured task of a run. Exits with code 2 and one line on bad input.

    Args:
        run: its folder.
        step: of the checkpoint; None: the last.
        seed: of all that is drawn.
        card: the method card, whose rows for the method used are shown.
    """
    torch.set_num_threads(1)
    console = Console()
    with complaints():
        opened = Run.open(run)
        graded = pd.read_csv(card) if card.exists() else None
        for found in dissections(opened, step, seed, console):
            content = files(found) | {"section.html": dissection_section(found, graded)}
            said = [*found.sentences, card_sentence(graded, found)]
            table = head_rows(found.own, found.control)
            keep(opened, "dissect", found.step, found.task, content, said, console, table)
        console.print(f"Look at {write_page(opened)}", highlight=False)


def dissections(run: Run, step: int | None, seed: int, console: Console) -> Iterator[Dissection]:
    """One task after the other."""
    params = run.params(step)
    model = Model(params, run.config.model)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    for task in run.config.data.measured_tasks:
        with Progress(*columns, console=console, transient=True) as bar:
            shown = bar.add_task(str(task))
            yield dissect(
                model,
                run.config.data,
                task,
                run.steps[-1] if step is None else step,
                seed,
                tell=lambda what, bar=bar, shown=shown: bar.update(shown, description=what),
            )


def files(found: Dissection) -> dict[str, str]:
    """What is kept of a dissection besides what was said: tables and the circuit."""
    content = {f"{name}.csv": table.to_csv(index=False) for name, table in found.tables().items()}
    if found.circuit is not None:
        content["circuit.json"] = to_json(found.circuit)
    return content
