"""From a run to its dissection: tables in the run's folder, a section on its page, sentences for the terminal.

Of several tasks each is taken apart by itself; then they are set side by side, two at a time.
"""

import itertools
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
from compo_mech.sharing import Sharing, compare, evidence
from compo_mech.sharing_section import sharing_section, sharing_sentences
from compo_mech.telling import complaints, keep


def main(run: Path, step: int | None, seed: int, card: Path) -> None:
    """Dissect every measured task of a run, and say what they share. Exits with code 2 and one line on bad input.

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
        if pairs := list(shared(opened, step, seed, console)):
            keep_shared(opened, opened.steps[-1] if step is None else step, pairs, console)
        console.print(f"Look at {write_page(opened)}", highlight=False)


def dissections(run: Run, step: int | None, seed: int, console: Console) -> Iterator[Dissection]:
    """One task after the other."""
    params = run.params(step)
    model = Model(params, run.config.model)
    for task in run.config.data.measured_tasks:
        with _spinner(console) as bar:
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
    with _spinner(console) as bar:
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


def _spinner(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def files(found: Dissection) -> dict[str, str]:
    """What is kept of a dissection besides what was said: tables and the circuit."""
    content = {f"{name}.csv": table.to_csv(index=False) for name, table in found.tables().items()}
    if found.circuit is not None:
        content["circuit.json"] = to_json(found.circuit)
    return content
