"""From the command line to a finished run: settings -> pieces -> training -> folder, table, page."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from compo_mech.cli.output import say, warn
from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation.measure import measure, measure_control, measure_train
from compo_mech.evaluation.sets import EvalSet, eval_sets, train_sets
from compo_mech.evaluation.table import Row
from compo_mech.launch.machine import check_machine, check_runs_dir, repeating
from compo_mech.launch.observers import observers, tell
from compo_mech.launch.settings import Launch, check_device
from compo_mech.launch.tracker import check_tracking
from compo_mech.model.finite import NotFinite
from compo_mech.model.params import Model, Params, init_params
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.differences import differences
from compo_mech.runs.folder import drop_replaced, is_waiting
from compo_mech.runs.locks import locked
from compo_mech.runs.run import Run
from compo_mech.runs.start import starting_params
from compo_mech.runs.stored import altered
from compo_mech.training import loop
from compo_mech.training.loop import TrainState
from compo_mech.training.schedule import is_snapshot

LOG_EVERY = 20
"""Steps between readings of the training loss, each of which waits for the device."""

DIVERGED = 100
"""A loss of this many times that of a uniform guess counts as divergence."""


class Diverged(RunError):
    """The loss or a parameter is no longer a sensible number."""


def train(
    config: RunConfig,
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
) -> Run:
    """Trains a run to its end and returns it; its page is `report.run_page.write_page`'s to write.

    Args:
        config: its settings, such as those of a recipe.
        name: of its folder; None: task-seedN.
        runs_dir: folder of all runs.
        device: cpu, cuda, cuda:1, mps.
        resume: go on from the last checkpoint.
        overwrite: replace the run of this name.

    Raises:
        RunError, ValueError: as `launch`, or there is no such device.
    """
    check_device(device)
    settings = {field: getattr(config, field) for field in RunConfig.model_fields}
    where = {"name": name, "runs_dir": runs_dir, "device": device, "resume": resume, "overwrite": overwrite}
    return launch(Launch(**settings, **where), Console())


def launch(settings: Launch, console: Console) -> Run:
    """Start or resume the run and train it to its end.

    Raises:
        ValueError: nothing can be written into runs_dir.
        RunError: this machine cannot hold it, the folder is taken or cannot be written, there is nothing to resume, or
            another process trains it.
        Diverged: training went astray; what was saved is kept.
    """
    config = settings.config
    check_runs_dir(settings.runs_dir)
    check_machine(settings)
    check_tracking(settings.wandb)
    torch.set_num_threads(config.n_threads)
    with contextlib.ExitStack() as held, repeating(settings.device):
        if never_began(settings):
            settings = settings.model_copy(update={"resume": False, "overwrite": True})
        if settings.resume:
            run = reopen(settings, held)
            state = go_back(run, settings.device, console)
            for told in altered(run):
                warn(console, told)
            if state.step == config.train.n_steps:
                say(console, f"{run.path} was trained to its end already, step {state.step}; nothing is left to train")
        else:
            run, state = begin(settings, held)
            for told in never_reached(config):
                warn(console, told)
        stream = TrainingStream(config.data, config.seed, settings.device)
        sets = eval_sets(config.data, config.n_test_strings, settings.device)
        known = train_sets(stream)
        attached = held.enter_context(observers(settings, console))
        tell(attached, state.step, [])
        if state.step == 0 and not run.steps:
            rows = measure_control(config.model, config.n_ctx, config.data, sets, config.control_seed)
            tell(attached, 0, snapshot(run, state, sets, known, rows))
        for step, rows in steps(run, state, stream):
            if is_snapshot(step, config.train.n_steps, config.train.snapshot_every):
                tell(attached, step, snapshot(run, state, sets, known, rows))
            elif rows:
                run.add_rows(step, rows)
                tell(attached, step, rows)
        drop_replaced(run.path)
    return run


def never_reached(config: RunConfig) -> Iterator[str]:
    """What the settings ask for and training is too short for: a short trial of a longer recipe is no mistake, but must
    not be taken for it.

    >>> config = RunConfig().model_copy(update={"train": loop.TrainConfig(n_steps=9)})
    >>> list(never_reached(config))
    ['train.n_steps = 9: training ends within the 50 steps of warm-up']
    """
    n_steps, n_staged = config.train.n_steps, sum(stage.n_steps for stage in config.data.curriculum)
    if n_staged >= n_steps:
        yield f"train.n_steps = {n_steps}: none are left after the {n_staged} steps of data.curriculum"
    if config.optim.n_warmup_steps > n_steps:
        yield f"train.n_steps = {n_steps}: training ends within the {config.optim.n_warmup_steps} steps of warm-up"


def steps(run: Run, state: TrainState, stream: TrainingStream) -> Iterator[tuple[int, list[Row]]]:
    """Training steps, each with the training loss since the last reading, where it is read.

    Raises:
        Diverged: as `loss_row`.
    """
    config = run.config
    losses: list[Tensor] = []
    for step, loss in loop.train(state, stream, config.model, config.optim, config.train):
        losses.append(loss)
        rows: list[Row] = []
        if step % LOG_EVERY == 0 or is_snapshot(step, config.train.n_steps, config.train.snapshot_every):
            finite = all(bool(p.isfinite().all()) for p in state.params.values())
            rows.append(loss_row(run, step, float(torch.stack(losses).mean()), finite))
            losses.clear()
        yield step, rows


def diverged_from(config: RunConfig) -> float:
    """The training loss from which on training counts as astray."""
    return DIVERGED * math.log(len(config.data.vocabulary))


def loss_row(run: Run, step: int, loss: float, finite: bool) -> Row:
    """The training loss since the last reading (mean, nats); `finite`: whether all parameters are.

    Raises:
        Diverged: the loss is not finite, or far above that of a uniform guess, or a parameter is not finite.
    """
    data = run.config.data
    if not loss < diverged_from(run.config) or not finite:
        kept = f"what was saved up to step {run.steps[-1]} is kept in {run.path}"
        raise Diverged(f"training diverged by step {step} (loss {loss:.3g}); {kept}")
    return Row("train", "+".join(map(str, data.tasks)), None, None, None, "loss", loss)


def snapshot(
    run: Run,
    state: TrainState,
    sets: list[EvalSet],
    known: list[EvalSet],
    rows: list[Row],
    measured: Callable[[], list[Row]] | None = None,
) -> list[Row]:
    """Measure, add the rows, then save: rows first, so that a checkpoint vouches for its rows. Returns all rows.

    Args:
        run: to be added to.
        state: to be saved.
        sets, known: test strings, and training strings if they are fixed.
        rows: of this step that are known already.
        measured: gives what test strings say, where that is known; None: they are asked.

    Raises:
        Diverged: logits on the test strings are not finite.
    """
    config = run.config
    model = Model(state.params, config.model)
    try:
        of_sets = measure(model, config.data, sets) if measured is None else measured()
        rows = rows + of_sets + measure_train(model, known)
    except NotFinite as error:
        kept = f"what was saved up to step {run.steps[-1]} is kept in" if run.steps else "nothing was saved in"
        raise Diverged(f"training diverged by step {state.step} ({error}); {kept} {run.path}") from None
    run.add_rows(state.step, rows)
    run.save(state.step, state.params, state.tensors())
    return rows


def new_state(config: RunConfig, device: str) -> TrainState:
    """The state before the first step, with newly initialised weights."""
    generator = torch.Generator(device).manual_seed(config.seed)
    params = init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator)
    return loop.start(params, config.model, config.optim, generator)


def never_began(settings: Launch) -> bool:
    """Whether the folder has a run of these settings that was stopped before its first checkpoint: there is nothing to
    go on from, and nothing is lost by beginning again."""
    try:
        run = Run.open(settings.path)
        later = [file for file in run.folder.glob("[0-9]*") if not file.name.startswith("000000.")]
        if run.steps or later or (run.metrics["step"] > 0).any():
            return False
    except (RunError, ValueError, OSError):  # damaged
        return False
    return not list(differences(run.config, settings.config))


def begin(settings: Launch, held: contextlib.ExitStack) -> tuple[Run, TrainState]:
    """A new run, and its state before the first step; `held` keeps others from training it."""
    state = new_state(settings.config, settings.device)
    if (start := starting_params(settings.config)) is not None:
        _put(state, start)
    held.enter_context(locked(settings.path))
    return Run.create(settings.path, settings.config, settings.overwrite), state


def reopen(settings: Launch, held: contextlib.ExitStack) -> Run:
    """The run to resume, which must have the same settings; `held` keeps others from training it."""
    if not settings.path.exists() and not is_waiting(settings.path):
        raise RunError(f"resume = {settings.path}: there is no such run")
    held.enter_context(locked(settings.path))
    run = Run.open(settings.path)
    for name, stored, given in differences(run.config, settings.config):
        raise RunError(f"{name} = {given!r}: the run to resume has {stored!r}")
    return run


def go_back(run: Run, device: str, console: Console, at_most: int | None = None) -> TrainState:
    """The state at the newest whole checkpoint, not after step `at_most`. What came later is forgotten."""
    step, params, tensors, damaged = run.resumable(at_most)
    for message in damaged:
        warn(console, f"{message}; the checkpoint before it is used")
    state = new_state(run.config, device)
    _put(state, params)
    try:
        state.load_tensors(tensors)
    except RuntimeError:  # before anything is forgotten
        raise RunError(
            f"device = {device!r}: must be of the kind that the run was trained on, whose random numbers others lack"
        ) from None
    run.cut(step)
    state.step = step
    return state


def _put(state: TrainState, params: Params) -> None:
    with torch.no_grad():
        for name, param in state.params.items():
            param.copy_(params[name])
