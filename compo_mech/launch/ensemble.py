"""Runs that differ in their seed alone, trained at once: each ends as a run folder like any other."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from rich.console import Console
from torch import Tensor

from compo_mech.cli.progress import training_bar
from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation import sets
from compo_mech.evaluation.measure import as_control, control_params
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.evaluation.stacked import measure_each, rows_of
from compo_mech.evaluation.table import Row
from compo_mech.launch import run
from compo_mech.launch.machine import repeating
from compo_mech.launch.observers import Observer
from compo_mech.launch.run import begin, go_back, reopen
from compo_mech.launch.settings import Launch
from compo_mech.model.params import Params
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.differences import differences
from compo_mech.runs.files import identity
from compo_mech.runs.folder import drop_replaced
from compo_mech.runs.run import Run
from compo_mech.training import ensemble
from compo_mech.training.loop import TrainState, train
from compo_mech.training.schedule import is_snapshot

Own = TypeVar("Own")


@dataclass
class _Member:
    """A run on its way: its index among the settings, and its state when the ensemble was last gathered."""

    index: int
    run: Run
    state: TrainState
    known: list[EvalSet]

    @property
    def seed(self) -> int:
        return self.run.config.seed


def launch_together(settings: Sequence[Launch], console: Console) -> list[Run | Exception]:
    """Start or resume the runs and train them at once to their end.

    After a kill they go on from the newest step that all can resume from. Where there is none, the
    largest group that shares a step goes on together, then the largest of those that are left.

    Args:
        settings: of each run; they may differ in seed, name, runs_dir, resume and overwrite.

    Returns:
        For each of the settings its run, or what went wrong with it (RunError, Diverged, OSError), which
        does not touch the others.

    Raises:
        RunError: they differ in something else, share a folder, or ask for tracking; nothing is written.
    """
    if not settings:
        return []
    check(settings)
    with contextlib.ExitStack() as held, repeating(settings[0].device):
        return _launched(settings, console, held)


def _launched(settings: Sequence[Launch], console: Console, held: contextlib.ExitStack) -> list[Run | Exception]:
    config, device = settings[0].config, settings[0].device
    torch.set_num_threads(config.n_threads)
    found: dict[int, Run | Exception] = {}
    begun: dict[int, tuple[Run, TrainState | None]] = {}
    steps: dict[int, set[int]] = {}
    for index, one in enumerate(settings):
        try:
            begun[index] = (reopen(one, held), None) if one.resume else begin(one, held)
            steps[index] = _resumable_steps(begun[index][0]) if one.resume else {0}
        except (RunError, OSError) as error:
            found[index] = error
    with training_bar(console, config) as bar:
        for step, indices in _groups(steps):
            members = []
            for index in indices:
                run, state = begun[index]
                try:
                    if len(indices) > 1:
                        run.note_at_once(len(indices))
                    state = state or go_back(run, device, console, at_most=step)
                    known = sets.train_sets(TrainingStream(config.data, run.config.seed, device))
                    members.append(_Member(index, run, state, known))
                except (RunError, OSError) as error:
                    found[index] = error
            found |= _trained(members, config, device, bar)
    return [found[index] for index in range(len(settings))]


def check(settings: Sequence[Launch]) -> None:
    """Whether these runs can be trained at once.

    Raises:
        RunError: one line that names the setting in which they must not differ, or must be another.
    """
    first = settings[0]
    paths = set()
    for one in settings:
        for name, ours, theirs in differences(first.config, one.config):
            if name != "seed":
                raise RunError(f"{name} = {theirs!r}: runs trained at once differ in seed alone, another has {ours!r}")
        if one.device != first.device:
            raise RunError(f"device = {one.device!r}: runs trained at once share one, another has {first.device!r}")
        if one.wandb != "disabled":
            raise RunError(f"wandb = {one.wandb!r}: runs trained at once are not tracked, metrics.csv is written")
        place = identity(one.path)
        if place in paths:
            raise RunError(f"name = {one.path.name!r}: is the folder of two of the runs")
        paths.add(place)


def _resumable_steps(run: Run) -> set[int]:
    """Steps with a whole checkpoint that training can go on from.

    Raises:
        RunError: there is none.
    """
    found = {run.resumable()[0]}
    while True:
        try:
            found.add(run.resumable(at_most=min(found) - 1)[0])
        except RunError:
            return found


def _groups(steps: dict[int, set[int]]) -> Iterator[tuple[int, list[int]]]:
    """A step and the indices that have it: most indices first, and of equally many the newest step."""
    left = dict(steps)
    while left:
        candidates = set[int]().union(*left.values())
        step = max(candidates, key=lambda step: (sum(step in of_one for of_one in left.values()), step))
        indices = [index for index, of_one in left.items() if step in of_one]
        yield step, indices
        left = {index: of_one for index, of_one in left.items() if index not in indices}


def _trained(members: list[_Member], config: RunConfig, device: str, observer: Observer) -> dict[int, Run | Exception]:
    """The runs at their end, or what went wrong with them, by index."""
    found: dict[int, Run | Exception] = {}
    sets = eval_sets(config.data, config.n_test_strings, device)

    def lost(failures: dict[int, Exception]) -> list[_Member]:
        found.update(failures)
        return [member for member in members if member.index not in failures]

    members = lost(_begin_rows(members, config, sets))
    while members:
        failures = _until_one_fails(members, config, device, sets, observer)
        members = lost(failures)
        if not failures:
            for member in members:
                drop_replaced(member.run.path)
            return found | {member.index: member.run for member in members}
    return found


def _begin_rows(members: list[_Member], config: RunConfig, sets: list[EvalSet]) -> dict[int, Exception]:
    """The snapshot at step 0 of those that have none; failures by index."""
    new = [i for i, member in enumerate(members) if not (member.state.step or member.run.steps)]
    if not new:
        return {}
    # all are measured: in a smaller stack numbers are rounded otherwise, and a sweep that was killed had other bits
    device, failures = sets[0].tokens.device, dict[int, Exception]()
    seeds = [member.run.config.control_seed for member in members]
    controls = [control_params(config.model, config.n_ctx, config.data, device, seed) for seed in seeds]
    of_controls = measure_each(stacked(controls), config.model, config.data, sets)
    of_each = measure_each(stacked([member.state.params for member in members]), config.model, config.data, sets)
    for i in new:
        member, rows = members[i], as_control(rows_of(of_controls, i))
        try:
            run.snapshot(member.run, member.state, sets, member.known, rows, partial(rows_of, of_each, i))
        except (RunError, OSError) as error:
            failures[member.index] = error
    return failures


def stacked(members: Sequence[Params]) -> Params:
    """Stack the parameters of networks of the same shapes."""
    return {name: torch.stack([params[name].detach() for params in members]) for name in members[0]}


def _until_one_fails(
    members: list[_Member], config: RunConfig, device: str, sets: list[EvalSet], observer: Observer
) -> dict[int, Exception]:
    """Train at once until the end, or until some fail: their failures by index. The members' states are then new."""
    together = ensemble.gather([member.state for member in members], config.model, config.optim)
    stream = TrainingStream(config.data, [member.seed for member in members], device)
    observer.seen(together.step, [])
    losses: list[Tensor] = []
    seen: list[Row] = []
    failures: dict[int, Exception] = {}
    for step, of_step in train(together, stream, config.model, config.optim, config.train):
        losses.append(of_step)
        saves = is_snapshot(step, config.train.n_steps, config.train.snapshot_every)
        if step % run.LOG_EVERY and not saves:
            continue
        means, finite = torch.stack(losses).mean(0).tolist(), together.finite().tolist()
        losses.clear()
        measured = measure_each(together.params, config.model, config.data, sets) if saves else []
        for i, member in enumerate(members):
            try:
                rows = [run.loss_row(member.run, step, means[i], finite[i])]
                if saves:
                    own, asked = together.member(i), partial(rows_of, measured, i)
                    rows = run.snapshot(member.run, own, sets, member.known, rows, asked)
                else:
                    member.run.add_rows(step, rows)
                seen += rows
            except (RunError, OSError) as error:
                failures[member.index] = error
        observer.seen(step, seen)
        seen.clear()
        if failures:
            for i, member in enumerate(members):
                member.state = together.member(i)
            break
    return failures


def new_members(config: RunConfig, seeds: Sequence[int], device: str) -> ensemble.Ensemble:
    """Networks of these seeds before their first step, as one stack; nothing is kept.

    Args:
        config: their settings but for the seed.
        seeds: one a member.
        device: as torch names it.
    """
    return members_of([config.model_copy(update={"seed": seed}) for seed in seeds], device)


def members_of(configs: Sequence[RunConfig], device: str) -> ensemble.Ensemble:
    """Networks of these settings, which can share a stack, before their first step; nothing is kept."""
    states = [run.new_state(config, device) for config in configs]
    return ensemble.gather(states, configs[0].model, one_or_each([config.optim for config in configs]))


def one_or_each(values: Sequence[Own]) -> Own | Sequence[Own]:
    """What all have, or where they differ one a member."""
    return values[0] if all(value == values[0] for value in values) else values
