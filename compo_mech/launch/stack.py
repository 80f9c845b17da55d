"""Many runs trained and measured as one, in one folder, where there are too many for a folder each."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compo_mech.data.mixed_stream import stream_of
from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation.measure import as_control, control_params, measure_train
from compo_mech.evaluation.sets import EvalSet, eval_sets, train_sets
from compo_mech.evaluation.stacked import measure_each
from compo_mech.evaluation.table import Row
from compo_mech.launch.ensemble import members_of, one_or_each, stacked
from compo_mech.launch.machine import check_stack, repeating
from compo_mech.launch.run import LOG_EVERY, diverged_from
from compo_mech.model.finite import NotFinite
from compo_mech.model.params import Model
from compo_mech.runs.config import RunConfig
from compo_mech.runs.differences import differences
from compo_mech.runs.locks import locked
from compo_mech.runs.stack import Keep, Stack, StackRow, is_stack
from compo_mech.runs.start import starting_params
from compo_mech.runs.vouched import RunError
from compo_mech.training.ensemble import Ensemble
from compo_mech.training.loop import train
from compo_mech.training.schedule import is_snapshot

Rows = list[StackRow]
Tell = Callable[[int], None]
SECONDS = 60.0
"""Between savings of networks of which only the last are kept."""


def train_stack(path: Path, members: Mapping[str, RunConfig], device: str, tell: Tell, keep: Keep = "every") -> Stack:
    """Train a stack to its end, going on where it was stopped, and return it.

    A network that diverges does not touch the others, and has no rows from then on.

    Args:
        path: its folder.
        members: settings of each run by its name.
        device: as torch names it.
        tell: is told how many steps are done.
        keep: the networks of every snapshot, or the last alone; those are saved every `SECONDS` on the way.

    Raises:
        RunError: the runs cannot share a stack, this machine cannot hold it, the folder has something else or cannot be
            written, or what the networks start from is missing.
    """
    config = next(iter(members.values()))
    check_stack(config, len(members), device)
    torch.set_num_threads(config.n_threads)
    # a GPU takes 1.6 times as long to add up in a fixed order, by which only networks that are kept are repeated
    with locked(path), repeating(device) if keep == "every" else contextlib.nullcontext():
        stack = _opened(path, members)
        try:
            if not stack.is_done:
                _to_the_end(stack, device, tell, keep)
        except OSError as error:
            raise RunError(f"stack = {path}: cannot be written ({error.strerror or error})") from None
    return stack


def _opened(path: Path, members: Mapping[str, RunConfig]) -> Stack:
    """The stack to go on with, which must have the same runs, or a new one."""
    if not is_stack(path):
        for config in members.values():
            starting_params(config)  # before there is a folder
        return Stack.create(path, members)
    stack = Stack.open(path)
    if list(stack.members) != list(members):
        raise RunError(f"runs = {' '.join(list(members)[:8])}: the stack in {path} has other ones")
    for name, own in members.items():
        for setting, stored, given in differences(stack.members[name], own):
            raise RunError(f"{setting} = {given!r}: {name} in {path} has {stored!r}")
    return stack


def _to_the_end(stack: Stack, device: str, tell: Tell, keep: Keep) -> None:
    config, sets = stack.config, eval_sets(stack.config.data, stack.config.n_test_strings, device)
    configs = list(stack.members.values())
    fixed = configs if config.data.n_train_strings is not None else ()
    known = [train_sets(TrainingStream(own.data, own.seed, device)) for own in fixed]
    members = _members(stack, device)
    stack.forget(members.step if stack.steps else -1)
    saved = time.monotonic()
    if not stack.steps:
        place = torch.device(device)
        controls = [control_params(own.model, own.n_ctx, own.data, place, own.control_seed) for own in configs]
        found = measure_each(stacked(controls), config.model, config.data, sets)
        rows = [StackRow(0, as_control([what])[0], value) for what, value in found]
        stack.save_rows(0, rows + _measured(members, config, sets, known))
        if keep == "every":
            stack.save_networks(0, members.params, members.tensors(), keep)
    stream = stream_of([own.data for own in configs], [own.seed for own in configs], device)
    schedule, tasks = one_or_each([own.train for own in configs]), "+".join(map(str, config.data.tasks))
    losses, rows, too_high = list[Tensor](), Rows(), diverged_from(config)
    for step, loss in train(members, stream, config.model, members.optim, schedule):
        losses.append(loss)
        saves = is_snapshot(step, config.train.n_steps, config.train.snapshot_every)
        if step % LOG_EVERY and not saves:
            continue
        means = torch.stack(losses).mean(0).where(members.finite(), torch.nan).cpu().double().numpy()
        means[~(means < too_high)] = np.nan
        losses.clear()
        rows.append(StackRow(step, Row("train", tasks, None, None, None, "loss", float("nan")), means))
        if saves:
            stack.save_rows(step, rows + _measured(members, config, sets, known))
            rows = Rows()
            if keep == "every" or step == config.train.n_steps or time.monotonic() - saved > SECONDS:
                stack.save_networks(step, members.params, members.tensors(), keep)
                saved = time.monotonic()
        tell(step)


def _members(stack: Stack, device: str) -> Ensemble:
    """The networks at the newest snapshot, or before their first step."""
    configs = list(stack.members.values())
    members = members_of(configs, device)
    if stack.steps:
        members.step, params, tensors = stack.resumable()
        members.load_tensors(tensors)
        with torch.no_grad():
            for name, param in members.params.items():
                param.copy_(params[name])
        return members
    for i, config in enumerate(configs):
        if (start := starting_params(config)) is not None:
            with torch.no_grad():
                for name, param in members.params.items():
                    param[i] = start[name]
    return members


def _measured(members: Ensemble, config: RunConfig, sets: Sequence[EvalSet], known: Sequence[list[EvalSet]]) -> Rows:
    """Every measure of each network, and its accuracy on the training strings where these are fixed."""
    found = measure_each(members.params, config.model, config.data, sets)
    rows = [StackRow(members.step, what, value) for what, value in found]
    if not known:
        return rows
    nothing, of_each = float("nan"), list[list[float]]()
    for i, own in enumerate(known):
        model = Model({name: param[i] for name, param in members.params.items()}, config.model)
        try:
            of_each.append([row.value for row in measure_train(model, own)])
        except NotFinite:
            of_each.append([nothing] * len(own))
    whats = [Row("train", str(one.task), one.length, None, None, "accuracy", nothing) for one in known[0]]
    return rows + [
        StackRow(members.step, what, np.array(values))
        for what, values in zip(whats, zip(*of_each, strict=True), strict=True)
    ]
