"""A process pool of which any worker may die."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class ProcessDied(Exception):
    """The process that worked on an item was killed or crashed."""


def each(
    function: Callable[[Item], Result], items: Sequence[Item], n_workers: int
) -> Iterator[tuple[int, Result | Exception]]:
    """Apply the function to every item in a pool of processes, and yield results as they complete.

    A process that dies costs its own item only: which one it was is not known, so those that were being worked on are
    tried again one by one. The workers end with their parent, even if it is killed. They use one thread each, unless
    the function sets another number.

    Args:
        function: of a module, or made of such by functools.partial. It may be called twice with an item.
        items: that can be pickled, as must the results.
        n_workers: processes at a time.

    Returns:
        An item's index and its result, or what it raised (ProcessDied: its process died, alone too); each once.
    """
    suspects: list[int] = []
    left = list(range(len(items)))
    while left:
        came = set()
        for place, result in _pool(function, items, left, n_workers):
            came.add(place)
            if isinstance(result, ProcessDied):
                suspects.append(place)
            else:
                yield place, result
        left = [place for place in left if place not in came]
    for place in suspects:
        yield from _pool(function, items, [place], 1)


def _pool(
    function: Callable[[Item], Result], items: Sequence[Item], places: Sequence[int], n_workers: int
) -> Iterator[tuple[int, Result | Exception]]:
    """As `each` for these indices, until a process dies: ProcessDied for all that were being worked on then."""
    queue = deque(places)
    running: dict[concurrent.futures.Future[Result], int] = {}
    broken = False
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(n_workers, spawn, _begin) as pool:
        while running or (queue and not broken):
            while queue and not broken and len(running) < n_workers:  # so that what is running is known
                try:
                    running[pool.submit(function, items[queue[0]])] = queue[0]
                    queue.popleft()
                except BrokenProcessPool:  # not begun, so it is no suspect
                    broken = True
            ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for job in ended:
                place = running.pop(job)
                try:
                    result = job.result()
                except BrokenProcessPool:
                    broken = True
                    yield place, ProcessDied("its process died")
                except Exception as error:
                    yield place, error
                else:
                    yield place, result


def _begin() -> None:
    """One thread; and a worker whose parent was killed must not go on writing beside the one that takes over."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
