"""Networks trained alone and in a stack, compared step by step."""

import torch

from compo_mech.launch.run import new_state
from compo_mech.runs.config import RunConfig

TOLERANCE = 1e-5


def tiny(data=None, model=None, optim=None, train=None, **more):
    return RunConfig.model_validate(
        {
            "data": {"max_length": 4, "batch_size": 16} | (data or {}),
            "model": {"d_model": 16} | (model or {}),
            "optim": {"n_warmup_steps": 2} | (optim or {}),
            "train": {"n_steps": 40, "snapshot_every": 10} | (train or {}),
            "n_test_strings": 16,
        }
        | more
    )


def states_of(config, seeds):
    return [new_state(config.model_copy(update={"seed": seed}), "cpu") for seed in seeds]


def assert_close(state, member, tolerance=TOLERANCE):
    assert state.step == member.step
    assert list(state.params) == list(member.params)
    for name, param in state.params.items():
        gap = (param - member.params[name]).abs().detach()
        if tolerance and param.grad is not None:
            # a gradient that is rounding, as all of b_K's, which no loss depends on: Adam makes a step of it
            rounding = (param.grad != 0) & (param.grad.abs() < 1e-6) | name.endswith("b_K")
            gap[rounding] *= 1e-3
        assert gap.max() <= tolerance, f"{name}: {gap.max():.1e}"
        assert param.requires_grad == member.params[name].requires_grad


def assert_same(state, member):
    """To the bit, and in the same format."""
    assert_close(state, member, tolerance=0)
    one, two = state.tensors(), member.tensors()
    assert list(one) == list(two)
    assert all(torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one)
