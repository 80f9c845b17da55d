import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; scripts that tests start inherit it

import jaxtyping
import pytest
import torch
from checking import cheaper

jaxtyping.jaxtyped = cheaper(jaxtyping.jaxtyped)  # before the package is imported: nothing here may import it


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny():
    """A run of a second or two."""
    from compo_mech.runs.config import RunConfig

    return RunConfig.model_validate(
        {
            "data": {"max_length": 4, "batch_size": 16},
            "model": {"d_model": 16},
            "train": {"n_steps": 40, "snapshot_every": 10},
            "n_test_strings": 16,
        }
    )
