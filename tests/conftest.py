import ctypes
import gc
import os
import shutil
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; scripts that tests start inherit it
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of them compiles the package anew

import jaxtyping
import pytest
from checking import cheaper, check_anew

# scripts of environments of their own
collect_ignore_glob = ["data/tracr/*.py", "transformer_lens_4/*.py"]
jaxtyping.jaxtyped = cheaper(jaxtyping.jaxtyped)  # before the package is imported: nothing here may import it
gc.disable()  # imports leave no garbage; the process that only hands tests out imports none of them, nor torch


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk():
    """Tests kill processes and not the power, and what a killed process wrote is there without being forced to disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda opened: None)
        yield


@pytest.fixture
def modes_bind():
    """Modes of files and folders bind this thread also where root runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    if sys.platform != "linux" or libc.capget(header, before):
        pytest.skip("root is bound by nothing here")
    bound = (ctypes.c_uint32 * 6)(*before)
    bound[0] &= ~0b110  # effective: neither dac_override nor dac_read_search
    assert libc.capset(header, bound) == 0
    yield
    libc.capset(header, before)


LONG = ("test_study.py", "test_notebooks.py", "test_cluster.py", "test_sweeps.py")
"""Files that take minutes are begun first, so that no process waits for one of them at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish():
    gc.freeze()  # what was imported stays: it is not gone through again
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    check_anew()


@pytest.fixture(scope="session")
def tiny():
    """The settings of a run of a second or two."""
    from compo_mech.runs.config import RunConfig

    return RunConfig.model_validate(
        {
            "data": {"max_length": 4, "batch_size": 16},
            "model": {"d_model": 16},
            "train": {"n_steps": 40, "snapshot_every": 10},
            "n_test_strings": 16,
        }
    )


@pytest.fixture(scope="session")
def trained_tiny(tmp_path_factory, tiny):
    """The folder of that run; tests change a copy of it (`tiny_run`)."""
    import torch
    from rich.console import Console

    from compo_mech.launch.run import launch
    from compo_mech.launch.settings import Launch

    torch.set_num_threads(1)
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    return launch(Launch(**settings, runs_dir=tmp_path_factory.mktemp("runs"), name="one"), Console(quiet=True)).path


@pytest.fixture
def tiny_run(trained_tiny, tmp_path):
    """A trained run of a test's own."""
    from compo_mech.runs.run import Run

    return Run.open(shutil.copytree(trained_tiny, tmp_path / "one"))
