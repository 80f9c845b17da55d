"""A pool of processes of which any may die, and none of which outlives its parent."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
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

    A process that dies costs its own item only, which is tried once more when no other is left and it has the machine
    to itself. The workers end with their parent, even if it is killed, and with this iterator, after Ctrl-C say, of
    which they know nothing themselves. They use one thread each, unless the function sets another number.

    Args:
        function: of a module, or made of such by functools.partial. It may be called twice with an item.
        items: that can be pickled, as must the results.
        n_workers: processes at a time.

    Returns:
        An item's index and its result, or what it raised (ProcessDied: its process died, alone too); each once.

    Raises:
        ValueError: there is to be no worker.
    """
    if n_workers < 1:
        raise ValueError(f"n_workers = {n_workers}: must be at least 1")
    lost: list[int] = []
    for place, result in _pool(function, items, range(len(items)), n_workers):
        if isinstance(result, ProcessDied):
            lost.append(place)
        else:
            yield place, result
    for place in lost:
        yield from _pool(function, items, [place], 1)


def _pool(
    function: Callable[[Item], Result], items: Sequence[Item], places: Sequence[int], n_workers: int
) -> Iterator[tuple[int, Result | Exception]]:
    """As `each` for these indices, but that an item whose process died is not tried again."""
    queue = deque(places)
    working: dict[Connection, tuple[SpawnProcess, int]] = {}
    idle: list[tuple[Connection, SpawnProcess]] = []
    try:
        while queue or working:
            while queue and len(working) < n_workers:
                connection, process = idle.pop() if idle else _begun(function)
                place = queue.popleft()
                working[connection] = process, place
                with contextlib.suppress(BrokenPipeError):  # it died before it began; waiting tells
                    connection.send_bytes(pickle.dumps(items[place]))
            ready = multiprocessing.connection.wait(list(working))
            for connection in [connection for connection in working if connection in ready]:
                process, place = working.pop(connection)
                try:
                    result = pickle.loads(connection.recv_bytes())
                except (EOFError, OSError):
                    process.join()
                    yield place, ProcessDied("its process died")
                else:
                    idle.append((connection, process))
                    yield place, result
    finally:
        processes = [process for process, _ in working.values()] + [process for _, process in idle]
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _begun(function: Callable) -> tuple[Connection, SpawnProcess]:
    """A worker that waits for items, and the connection to it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(function, theirs), daemon=True)
    with _without_interrupts():
        process.start()
    theirs.close()  # so that its end is heard of when the worker has gone
    return ours, process


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Inside, a process that is begun is deaf to Ctrl-C for good: a terminal tells all, and the parent alone acts.

    Windows has no such masks; there the worker itself stops listening once it runs.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # begun with the first process otherwise, it lets interrupts in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(function: Callable, connection: Connection) -> None:
    """Answer every item that comes with its result, or with what was raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _end_with_parent()
    while True:
        try:
            item = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            answer = pickle.dumps(function(item))
        except Exception as error:
            answer = _pickled(error)
        connection.send_bytes(answer)


def _pickled(error: Exception) -> bytes:
    """An exception, or its words where it does not survive pickling."""
    try:
        answer = pickle.dumps(error)
        pickle.loads(answer)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return answer


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on writing beside the one that takes over."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
