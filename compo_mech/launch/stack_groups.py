"""Which runs of a sweep are trained in which stack: decided here alone, by their settings and by what there is already.

Runs that are in a stack on disk stay there, whatever else is asked for later, so that it goes on to the same bits. All
others are put together wherever shapes allow it, up to a number at once.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from compo_mech.data.config import DataConfig
from compo_mech.runs.config import RunConfig
from compo_mech.runs.files import identity
from compo_mech.runs.stack import SETTINGS, Stack, is_stack
from compo_mech.runs.stack_members import shared_settings
from compo_mech.runs.sums import read_sums
from compo_mech.runs.vouched import RunError


class StackGroup(NamedTuple):
    """A stack to be trained.

    Attributes:
        folder: its name.
        members: settings of each run by its name in the stack; a stack that is there may have more than is asked.
        asked: the names of the sweep's runs, by their names in the stack.
    """

    folder: str
    members: Mapping[str, RunConfig]
    asked: Mapping[str, str]


def stack_groups(
    runs: Mapping[str, RunConfig], n_at_once: int, runs_dir: Path, tell: Callable[[str], object] = lambda told: None
) -> list[StackGroup]:
    """Return the stacks that hold these runs, each run in one: those on disk first, then new ones.

    Args:
        runs: settings by the name of the run.
        n_at_once: runs in a new stack at most.
        runs_dir: where the stacks' folders are.
        tell: is told in a line each which folders hold stacks that cannot be read, so that nobody knows what runs.

    Raises:
        ValueError: two stacks would share a folder.
    """
    unread: dict[str, RunError] = {}
    found = list(_there(runs, runs_dir, unread))
    held = {run for group in found for run in group.asked.values()}
    found += _new({name: config for name, config in runs.items() if name not in held}, n_at_once)
    folders = [group.folder for group in found]
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise ValueError(f"runs = {twice[0]}: is the folder of two stacks")
    for folder, error in unread.items():
        if folder not in folders:  # what is wrong with one that is in the way is told as what went wrong with it
            tell(f"{error}; whatever runs it holds are trained anew elsewhere if they are asked for")
    return found


def _there(runs: Mapping[str, RunConfig], runs_dir: Path, unread: dict[str, RunError]) -> Iterator[StackGroup]:
    """The stacks on disk that hold some of the runs; `unread` gets what is wrong with those that cannot be read."""
    left: dict[str, list[str]] = {}
    for name, config in runs.items():
        left.setdefault(_key(config), []).append(name)
    for folder in sorted(os.listdir(runs_dir)) if runs_dir.is_dir() else []:
        if folder.startswith("."):  # one that a killed process had begun
            continue
        if not is_stack(runs_dir / folder):
            if SETTINGS in read_sums(runs_dir / folder / "checkpoints").known:
                unread[folder] = RunError(f"{runs_dir / folder / 'stack.json'}: is missing")
            continue
        try:
            members = Stack.open(runs_dir / folder).members
        except RunError as error:
            unread[folder] = error
            continue
        keys = {own: _key(config) for own, config in members.items()}
        if asked := {own: left[key].pop(0) for own, key in keys.items() if left.get(key)}:
            yield StackGroup(folder, members, asked)


def _key(config: RunConfig) -> str:
    start = config.start_from and identity(config.start_from)
    return config.model_copy(update={"start_from": start}).model_dump_json()


def _new(runs: Mapping[str, RunConfig], n_at_once: int) -> Iterator[StackGroup]:
    """New stacks of runs that can share one."""
    alike: dict[str, list[str]] = {}
    for name, config in runs.items():
        alike.setdefault(shared_settings(config), []).append(name)
    for names in alike.values():
        ordered = _beside_each_other({name: runs[name].data for name in names})
        for start in range(0, len(ordered), n_at_once):
            yield _group({name: runs[name] for name in ordered[start : start + n_at_once]})


def _beside_each_other(data: Mapping[str, DataConfig]) -> list[str]:
    """The names, those whose rows have the same lengths beside each other, and of these those of the same data."""
    lengths = {name: str(_length_weights(own)) for name, own in data.items()}
    whole = {name: own.model_dump_json() for name, own in data.items()}
    ranks = [{value: i for i, value in enumerate(dict.fromkeys(of.values()))} for of in (lengths, whole)]
    return sorted(data, key=lambda name: (ranks[0][lengths[name]], ranks[1][whole[name]]))


def _length_weights(data: DataConfig) -> list[tuple[int | None, tuple[float, ...]]]:
    """The weights of lengths over training, and the steps by which each ends."""
    ends = [*itertools.accumulate(stage.n_steps for stage in data.curriculum), None]
    weights = [data.weights_in(stage) for stage in (*data.curriculum, None)]
    following = [*weights[1:], None]
    return [(end, own) for end, own, then in zip(ends, weights, following, strict=True) if own != then]


def _group(runs: Mapping[str, RunConfig]) -> StackGroup:
    """A new stack of these runs: seed0, seed1, ... where each differs in its seed alone, or by their names."""
    bare = [name.removesuffix(str(config.seed)).removesuffix("=").removesuffix("seed") for name, config in runs.items()]
    seeds = [config.seed for config in runs.values()]
    kinds = {_key(config.model_copy(update={"seed": 0, "start_from": None})) for config in runs.values()}
    if len(kinds) == 1 and len(set(seeds)) == len(seeds):
        names = [f"seed{seed}" for seed in seeds]
        folder = f"{bare[0].rstrip('-,') or 'runs'}-seeds{seeds[0]}-{seeds[-1]}"
    else:
        names = list(runs)
        told = json.dumps({name: _key(config) for name, config in runs.items()})
        shared = itertools.takewhile(
            lambda words: len(set(words)) == 1, zip(*(n.split(",") for n in names), strict=False)
        )
        common = ",".join(words[0] for words in shared) or "runs"
        folder = f"{common}-mixed-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    return StackGroup(folder, dict(zip(names, runs.values(), strict=True)), dict(zip(names, runs, strict=True)))
