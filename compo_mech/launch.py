"""From the command line to a finished run: settings -> pieces -> training -> folder, table, page."""

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
import tyro
from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from compo_mech import command_line, evaluate, report, train
from compo_mech.command_line import fail
from compo_mech.config import RunConfig
from compo_mech.data import TrainingStream
from compo_mech.evaluate import EvalSet, Row
from compo_mech.model import Params, init_params
from compo_mech.progress import progress
from compo_mech.runs import Run, RunError, locked, starting_params
from compo_mech.train import TrainState

LOG_EVERY = 20
"""Steps between readings of the training loss, each of which waits for the device."""

DIVERGED = 100
"""A loss of this many times that of a uniform guess counts as divergence."""


class Diverged(RunError):
    """The loss or a parameter is no longer a sensible number."""


class Launch(RunConfig):
    """A run's settings, and where and how it runs."""

    name: str | None = Field(default=None, description="folder of the run; None: task-seedN")
    runs_dir: Path = Field(default=Path("runs"), description="folder of all runs")
    device: str = Field(default="cpu", description="cpu, cuda, cuda:1, mps")
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = Field(
        default=False, description="go on from the last checkpoint"
    )
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = Field(
        default=False, description="replace the run of this name"
    )
    wandb: Literal["disabled", "offline", "online"] = Field(
        default="disabled", description="also track with Weights & Biases (metrics.csv is always written)"
    )

    @property
    def config(self) -> RunConfig:
        """The part that decides the run's numbers."""
        return RunConfig(**{name: getattr(self, name) for name in RunConfig.model_fields})

    @property
    def path(self) -> Path:
        tasks = "+".join(task.name for task in self.data.measured_tasks)
        return self.runs_dir / (self.name or f"{tasks}-seed{self.seed}")


def main(default: RunConfig, argv: Sequence[str] | None = None) -> None:
    """What a training script runs: settings from the command line, a run, and what came of it.

    Exits with code 2 and one line on bad input, and with code 1 where training diverges.

    Args:
        default: the script's settings, each of which the command line can change.
        argv: None: the process' arguments.
    """
    settings = parse(default, argv)
    console = Console()
    try:
        run = launch(settings, console)
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except RunError as error:
        fail(str(error))
    except OSError as error:
        fail(f"run = {settings.path}: cannot be written ({error.strerror})")
    except KeyboardInterrupt:
        print(f"interrupted; the same command with --resume goes on with {settings.path}", file=sys.stderr)
        sys.exit(130)
    finish(run, console)


# ------------------------------------------------------------------------------------- input


def parse(default: RunConfig, argv: Sequence[str] | None = None) -> Launch:
    """The settings that the command line asks for. Exits with code 2 and one line on bad input."""
    start = Launch(**{name: getattr(default, name) for name in RunConfig.model_fields})
    settings = command_line.read(start, argv, "Train a transformer on an iterative task.")
    try:
        check_device(settings.device)
    except ValueError as error:
        fail(str(error))
    if settings.resume and settings.overwrite:
        fail("resume = True: goes without overwrite")
    if settings.name is not None and (settings.name in ("", "..") or Path(settings.name).name != settings.name):
        fail(f"name = {settings.name!r}: must be the name of one folder, which goes into runs_dir")
    return settings


def check_device(name: str) -> None:
    """Whether this device is there.

    Raises:
        ValueError: it is not.
    """
    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name not in present:
        raise ValueError(f"device = {name!r}: must be one of {', '.join(present)} on this machine")


# ---------------------------------------------------------------------------------- training


def launch(settings: Launch, console: Console) -> Run:
    """Start or resume the run and train it to its end.

    Raises:
        RunError: the folder is taken or cannot be written, there is nothing to resume, or another process trains it.
        Diverged: training went astray; what was saved is kept.
    """
    config = settings.config
    torch.set_num_threads(config.n_threads)
    with contextlib.ExitStack() as held:
        if settings.resume:
            run = reopen(settings, held)
            state = go_back(run, settings.device, console)
        else:
            run, state = begin(settings, held)
        stream = TrainingStream(config.data, config.seed, settings.device)
        sets = evaluate.eval_sets(config.data, config.n_test_strings, settings.device)
        known = evaluate.train_sets(stream)
        show, track = held.enter_context(progress(console, config)), held.enter_context(_tracker(settings))
        if state.step == 0 and not run.steps:
            rows = evaluate.measure_control(config.model, config.n_ctx, config.data, sets, config.control_seed)
            snapshot(run, state, sets, known, show, track, rows)
        show(state.step, [])
        for step, rows in steps(run, state, stream):
            if config.train.is_snapshot(step):
                snapshot(run, state, sets, known, show, track, rows)
            elif rows:
                run.add_rows(step, rows)
                show(step, rows)
                track(step, rows)
    return run


def steps(run: Run, state: TrainState, stream: TrainingStream) -> Iterator[tuple[int, list[Row]]]:
    """Training steps, each with the training loss since the last reading, where it is read.

    Raises:
        Diverged: as `loss_row`.
    """
    config = run.config
    losses: list[Tensor] = []
    for step, loss in train.train(state, stream, config.model, config.optim, config.train):
        losses.append(loss)
        rows: list[Row] = []
        if step % LOG_EVERY == 0 or config.train.is_snapshot(step):
            finite = all(bool(p.isfinite().all()) for p in state.params.values())
            rows.append(loss_row(run, step, float(torch.stack(losses).mean()), finite))
            losses.clear()
        yield step, rows


def loss_row(run: Run, step: int, loss: float, finite: bool) -> Row:
    """The training loss since the last reading (mean, nats); `finite`: whether all parameters are.

    Raises:
        Diverged: the loss is not finite, or far above that of a uniform guess, or a parameter is not finite.
    """
    data = run.config.data
    if not loss < DIVERGED * math.log(len(data.vocabulary)) or not finite:
        kept = f"what was saved up to step {run.steps[-1]} is kept in {run.path}"
        raise Diverged(f"training diverged by step {step} (loss {loss:.3g}); {kept}")
    return Row("train", "+".join(map(str, data.tasks)), None, None, None, "loss", loss)


def snapshot(
    run: Run, state: TrainState, sets: list[EvalSet], known: list[EvalSet], show: Any, track: Any, rows: list[Row]
) -> None:
    """Measure, add the rows, then save: rows first, so that a checkpoint vouches for its rows."""
    config = run.config
    rows = rows + evaluate.measure(state.params, config.model, config.data, sets)
    rows += evaluate.measure_train(state.params, config.model, known)
    run.add_rows(state.step, rows)
    run.save(state.step, state.params, state.tensors())
    show(state.step, rows)
    track(state.step, rows)


def new_state(config: RunConfig, device: str) -> TrainState:
    """The state before the first step, with fresh weights."""
    generator = torch.Generator(device).manual_seed(config.seed)
    params = init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator)
    return train.start(params, config.model, config.optim, generator)


def begin(settings: Launch, held: contextlib.ExitStack) -> tuple[Run, TrainState]:
    """A new run, and its state before the first step; `held` keeps others from training it."""
    state = new_state(settings.config, settings.device)
    if (start := starting_params(settings.config)) is not None:
        _put(state, start)
    held.enter_context(locked(settings.path))
    return Run.create(settings.path, settings.config, settings.overwrite), state


def reopen(settings: Launch, held: contextlib.ExitStack) -> Run:
    """The run to resume, which must have the same settings; `held` keeps others from training it."""
    if not settings.path.exists():
        raise RunError(f"resume = {settings.path}: there is no such run")
    run = Run.open(settings.path)
    for name, stored, given in differences(run.config, settings.config):
        raise RunError(f"{name} = {given!r}: the run to resume has {stored!r}")
    held.enter_context(locked(run.path))
    return run


def go_back(run: Run, device: str, console: Console, at_most: int | None = None) -> TrainState:
    """The state at the newest whole checkpoint, not after step `at_most`. What came later is forgotten."""
    step, params, tensors, damaged = run.resumable(at_most)
    for message in damaged:
        console.print(f"[yellow]{message}; the checkpoint before it is used[/]")
    run.cut(step)
    state = new_state(run.config, device)
    _put(state, params)
    state.load_tensors(tensors)
    state.step = step
    return state


def _put(state: TrainState, params: Params) -> None:
    with torch.no_grad():
        for name, param in state.params.items():
            param.copy_(params[name])


def differences(stored: RunConfig, given: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name of each setting in which they differ, and both its values."""
    places = [config.start_from and config.start_from.resolve() for config in (stored, given)]
    for name, ours, theirs in _nested(stored.model_dump(mode="json"), given.model_dump(mode="json")):
        if name != "start_from" or places[0] != places[1]:  # one folder can be spelled in many ways
            yield name, ours, theirs


def _nested(stored: dict, given: dict, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name in stored:
        if isinstance(stored[name], dict):
            yield from _nested(stored[name], given[name], f"{prefix}{name}.")
        elif stored[name] != given[name]:
            yield f"{prefix}{name}", stored[name], given[name]


# ------------------------------------------------------------------------- what a person sees


@contextlib.contextmanager
def _tracker(settings: Launch) -> Iterator[Any]:
    """Weights & Biases, if asked for: every row under task/length/head/metric."""
    if settings.wandb == "disabled":
        yield lambda step, rows: None
        return
    import wandb

    config = settings.config.model_dump(mode="json")
    tracked = wandb.init(
        project="compo_mech", name=settings.path.name, dir=settings.path, mode=settings.wandb, config=config
    )

    def track(step: int, rows: Sequence[Row]) -> None:
        named = {}
        for r in rows:
            head = None if r.head is None else f"L{r.layer}H{r.head}"
            length = None if r.length is None else f"length{r.length}"
            named["/".join(part for part in (r.split, r.task, length, head, r.metric) if part)] = r.value
        tracked.log(named, step=step)

    yield track
    tracked.finish()


def finish(run: Run, console: Console) -> None:
    """The final table and sentence on the terminal, and the report."""
    config, measured = run.config, run.metrics
    for task in map(str, config.data.measured_tasks):
        for table in _tables(report.length_table(measured, task), task, console.width):
            console.print(table)
        console.print(report.sentence(measured, task), highlight=False)
    console.print(f"Look at {write_page(run)}", highlight=False, soft_wrap=True)


def write_page(run: Run) -> Path:
    """The run's page, with what analyses have to show, and what is missing or damaged."""
    config = run.config
    sets = evaluate.eval_sets(config.data, config.n_test_strings)
    shown = run.readable(report.n_frames(config))
    problems = [problem.replace(f"{run.path}/", "") for problem in run.problems()]
    return run.write_report(
        report.page(run.path.name, config, shown, run.metrics, sets, run.command, run.sections, problems)
    )


def _tables(rows: pd.DataFrame, title: str, width: int) -> Iterator[Table]:
    """The table by length and head, in as many parts as the terminal's width asks for."""
    heads = [name for name in rows.columns if name.startswith("L")]
    plain = [name for name in rows.columns if name not in heads]
    n_first, n_later = (max(1, (width - taken) // 14) for taken in (36, 8))  # a head takes about 14 characters
    later = range(n_first, len(heads), n_later)
    parts = [heads[:n_first], *(heads[i : i + n_later] for i in later)]
    for i, part in enumerate(parts):
        caption = "in brackets: a freshly initialised model" if i == len(parts) - 1 else None
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption)
        shown = [*plain, *part] if i == 0 else [plain[0], *part]
        for name in shown:
            table.add_column(name, justify="right", no_wrap=name not in heads)
        for _, row in rows[shown].iterrows():
            table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
        yield table
