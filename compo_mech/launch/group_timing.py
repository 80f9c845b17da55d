"""How fast runs are trained, alone and at once, timed on throwaway members."""

import math
import statistics
import time
from collections.abc import Iterator

import torch

from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation.sets import eval_sets
from compo_mech.evaluation.stacked import measure_each
from compo_mech.launch import run
from compo_mech.launch.ensemble import new_members
from compo_mech.launch.machine import repeating
from compo_mech.runs.config import RunConfig
from compo_mech.training.loop import train

N_TIMED = 5
"""Steps of which the median is taken where group sizes are compared."""


def best_group(config: RunConfig, n: int, device: str) -> int:
    """How many of `n` runs to train at once on this device; 1: one by one.

    Measured on throwaway members: seconds a step and member at 1, 4, 16, ... and n, going on while
    more are faster. Groups are made even, so that ten in groups of at most eight are two of five.

    Args:
        config: the runs' settings.
        n: runs there are.
        device: as torch names it.
    """
    best, fastest = 1, seconds_a_member(config, 1, device, together=False)
    size = 1
    while size < n:
        size = min(4 * size, n)
        seconds = seconds_a_member(config, size, device)
        if seconds >= fastest:
            break
        best, fastest = size, seconds
    return math.ceil(n / math.ceil(n / best))


def seconds_a_member(config: RunConfig, n: int, device: str, together: bool = True, n_steps: int = N_TIMED) -> float:
    """Median seconds a step of training `n` members, divided by n; nothing is kept.

    Args:
        config: their settings; they get seeds from 0.
        n: members.
        device: as torch names it.
        together: as an ensemble; or a step of each, one by one.
        n_steps: how many steps are timed, after two that are not.
    """
    times = []
    with repeating(device):  # as they are trained
        steps = throwaway_steps(config, n, device, together)
        for i in range(n_steps + 2):
            begun = time.perf_counter()
            next(steps)
            if i > 1:
                times.append(time.perf_counter() - begun)
    return statistics.median(times) / n


def seconds_a_run(config: RunConfig, n: int, device: str) -> float:
    """Seconds of training and measuring one of `n` runs at once from start to end, from a few steps and one measurement
    of networks that nobody trained; nothing is kept.

    Args:
        config: their settings; they get seeds from 0.
        n: how many.
        device: as torch names it.
    """
    members, sets = new_members(config, range(n), device), eval_sets(config.data, config.n_test_strings, device)
    begun = time.perf_counter()
    measure_each(members.params, config.model, config.data, sets)
    measuring = (time.perf_counter() - begun) / n
    train = config.train
    n_snapshots = train.n_steps // train.snapshot_every + math.log2(min(train.snapshot_every, train.n_steps)) + 1
    step = seconds_a_member(config, n, device, together=n > 1)
    return train.n_steps * step + n_snapshots * measuring


def throwaway_steps(config: RunConfig, n: int, device: str, together: bool) -> Iterator[None]:
    """Training steps of `n` members, each waited for; of a curriculum, those after its last stage."""
    data = config.data.model_copy(update={"curriculum": ()})
    longer = config.train.model_copy(update={"n_steps": 10**9})
    if together:
        members = new_members(config, range(n), device)
        loops = [train(members, TrainingStream(data, range(n), device), config.model, config.optim, longer)]
    else:
        states = [run.new_state(config.model_copy(update={"seed": seed}), device) for seed in range(n)]
        of_each = (TrainingStream(data, seed, device) for seed in range(n))
        loops = [
            train(state, stream, config.model, config.optim, longer)
            for state, stream in zip(states, of_each, strict=True)
        ]
    while True:
        losses = [next(loop)[1] for loop in loops]
        torch.stack([loss.sum() for loss in losses]).tolist()  # waits for the device
        yield
