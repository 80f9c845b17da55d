import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from compo_mech.parallel import ProcessDied, each


def work(n):
    if n < 0:
        raise ValueError(f"n = {n}")
    return n * n, torch.get_num_threads()


def work_or_die(folder, n):
    (folder / f"{n}-{os.getpid()}").touch()
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.slow
def test_results_and_errors_come_under_their_place_with_one_thread():
    found = dict(each(work, [3, -1, 5], 2))
    assert found.keys() == {0, 1, 2}
    assert (found[0], found[2]) == ((9, 1), (25, 1))
    assert isinstance(found[1], ValueError)
    assert str(found[1]) == "n = -1"
    assert list(each(work, [], 2)) == []


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_process_that_dies_costs_its_own_item_only(tmp_path, n_workers):
    found = dict(each(partial(work_or_die, tmp_path), range(5), n_workers))
    assert isinstance(found.pop(1), ProcessDied)
    assert found == {n: n for n in (0, 2, 3, 4)}
    assert len(list(tmp_path.glob("1-*"))) == 2  # among the others, and alone


SCRIPT = """
import os, sys, time
from pathlib import Path
from compo_mech.parallel import each
def sleep(n):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(600)
if __name__ == "__main__":
    list(each(sleep, [0, 1], 2))
"""


MASKS = """
from pathlib import Path
from compo_mech.parallel import each
def mask(n):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigBlk")]
    return int(line.split()[1], 16)
if __name__ == "__main__":
    print(sorted(each(mask, range(3), 3)), mask(0))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process is deaf to")
def test_every_worker_is_begun_deaf_to_ctrl_c_the_first_too_and_their_parent_is_not(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(MASKS)
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    deaf = 1 << (signal.SIGINT - 1)
    assert told == f"{[(place, deaf) for place in range(3)]} 0\n"


def until(what):
    end = time.monotonic() + 120
    while not what() and time.monotonic() < end:
        time.sleep(0.05)
    assert what()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(folder)])
    until(lambda: len(list(folder.iterdir())) == 2)
    parent.kill()
    parent.wait()
    until(lambda: not any(alive(int(file.name)) for file in folder.iterdir()))
