"""The commands that take runs and other networks apart: what each does is imported when it is called, not for help."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compo_mech.cli.command import Command, Count, Flag, NThreads, NWorkers, Positional, Runs, Seed, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from compo_mech.cli.analyse import Analysis


def dissect_command(
    runs: Runs, step: Step | None = None, seed: Seed = 0, n_workers: NWorkers = 2, out: Path | None = None
) -> None:
    """Dissect RUNS; of several, a table says what was found, and how alike their circuits are.

    Args:
        runs: their folders.
        step: of the checkpoint; None: the last.
        seed: of all that is drawn.
        n_workers: runs at a time.
        out: a folder for the results, with a folder for each of several runs; None: they go into each run, whose page
            is written anew.
    """
    from compo_mech.cli.dissect import dissect_runs

    dissect_runs(runs, step, seed, n_workers, out)


def watch_command(
    run: Annotated[Path, Positional],
    task: str | None = None,
    seed: Seed = 0,
    n_workers: NWorkers = 2,
    every: Count = 2,
    out: Path | None = None,
) -> None:
    """Watch RUN.

    Args:
        run: its folder.
        task: one of its tasks, spelled as in its settings; None: all that are measured.
        seed: of all that is drawn.
        n_workers: processes.
        every: of how many checkpoints one is asked for routes, which are dear.
        out: a folder for the results; None: they go into RUN, with all that was measured.
    """
    from compo_mech.cli.analyse import analyse
    from compo_mech.cli.watch import Watching

    analyse(run, Watching(seed, n_workers, every), task, out=out)


_STEPWISE_ARGS = """Args:
    run: its folder.
    step: of the checkpoint; None: the last.
    all_steps: follow the figures over every checkpoint instead.
    task: one of its tasks, spelled as in its settings; None: all that are measured.
    seed: of all that is drawn.
    out: a folder for the results; None: they go into RUN, whose page is written anew.
"""


def _stepwise_command(kind: "Callable[[], Callable[[int | None, bool, int], Analysis[Any]]]", summary: str) -> Command:
    """Make the command of an analysis that is built from a step, whether to follow all steps, and a seed.

    Args:
        kind: imports what builds it.
        summary: what --help says.
    """

    def command(
        run: Annotated[Path, Positional],
        step: Step | None = None,
        all_steps: Annotated[bool, Flag] = False,
        task: str | None = None,
        seed: Seed = 0,
        out: Path | None = None,
    ) -> None:
        from compo_mech.cli.analyse import analyse

        analyse(run, kind()(step, all_steps, seed), task, out=out)

    command.__doc__ = f"{summary}\n\n{_STEPWISE_ARGS}"
    return command


def _alignment() -> "Callable[[int | None, bool, int], Analysis[Any]]":
    from compo_mech.cli.align import AlignmentOfRun

    return AlignmentOfRun


def _subtraction() -> "Callable[[int | None, bool, int], Analysis[Any]]":
    from compo_mech.analyses.subtraction_probe import SUBTRACTION
    from compo_mech.cli.probe import Probing
    from compo_mech.report.position_subtraction import subtraction_section

    return partial(Probing, SUBTRACTION, subtraction_section)


def _update() -> "Callable[[int | None, bool, int], Analysis[Any]]":
    from compo_mech.analyses.update_probe import UPDATE
    from compo_mech.cli.probe import Probing
    from compo_mech.report.state_update import update_section

    return partial(Probing, UPDATE, update_section)


align_command = _stepwise_command(
    _alignment, "Align RUN at a step (None: its last), with maps at every step if asked; one task or all of them."
)
subtraction_command = _stepwise_command(
    _subtraction,
    "Does MLP 0 subtract positions? Asks RUN at a step (None: its last), or follows its figures over all steps; one "
    "task or all of them.",
)
update_command = _stepwise_command(
    _update,
    "Does MLP 1 update the state? Asks RUN at a step (None: its last), or follows its figures over all steps; one task "
    "or all of them.",
)


def over_runs_command(runs: Runs, out: Path, seed: Seed = 0) -> None:
    """Write the table of RUNS, each asked by both probes about all its tasks.

    Args:
        runs: folders of runs.
        out: the table, .csv.
        seed: of all that is drawn.
    """
    from compo_mech.cli.probe import probe_over_runs

    probe_over_runs(runs, out, seed)


PROBES = {
    "position-subtraction": subtraction_command,
    "state-update": update_command,
    "over-runs": over_runs_command,
}
"""Commands by name."""


def patch_command(
    model: Annotated[str, Positional],
    prompts: Annotated[Path, Positional],
    out: Path | None = None,
    edges: str | None = None,
    by: Literal["heads", "layers"] = "heads",
    n_steps: Annotated[int, Field(ge=1, le=1000)] = 5,
    n_exact: Count = 20,
    seed: Seed = 0,
    n_threads: NThreads = 1,
) -> None:
    """Take MODEL apart on the pairs of PROMPTS, a file of JSON lines with clean, corrupt, answer and foil.

    Args:
        model: the folder of a run; `smollm2`, or the path of its file or wheel.
        prompts: one pair a line.
        out: a folder for the page and its tables; None: beside the prompts, with their name.
        edges: such as "L0H1 → L1H0.q, mlp0 → logits": what this patch does is all that is asked.
        by: whether each head is patched by itself, or all heads of a layer together.
        n_steps: of integrated gradients.
        n_exact: edges of largest score that are patched exactly.
        seed: of all that is drawn.
        n_threads: of this process.
    """
    from compo_mech.analyses.own_prompts import PromptSettings
    from compo_mech.cli.patch import patch_on_prompts

    patch_on_prompts(model, prompts, out, edges, PromptSettings(by, n_steps, n_exact, seed), n_threads)


def explore_command(
    run: Annotated[Path, Positional],
    n_checkpoints: Annotated[int, Field(ge=2, le=200)] | None = None,
    seed: Seed = 0,
    out: Path = Path("explore.html"),
) -> None:
    """Make a page to explore RUN with.

    Args:
        run: its folder.
        n_checkpoints: evenly spaced, the first and the last among them; None: 4 to 12, as many as 4 MB hold.
        seed: of the strings that are drawn.
        out: the page, .html.
    """
    from compo_mech.cli.explore import write_explorer

    write_explorer(run, n_checkpoints, seed, out)
