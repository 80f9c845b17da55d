"""Stacks whose members differ in more than their seed: each member is the network trained alone, from any settings."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from side_by_side import TOLERANCE, assert_close, tiny

from compo_mech.data.config import Stage
from compo_mech.data.mixed_stream import stream_of
from compo_mech.data.stream import TrainingStream
from compo_mech.launch.ensemble import members_of, one_or_each
from compo_mech.launch.run import new_state
from compo_mech.runs.stack_members import OWN
from compo_mech.settings import changed
from compo_mech.training.ensemble import gather
from compo_mech.training.loop import train


def stepped(members, configs, stream):
    schedule = one_or_each([config.train for config in configs])
    return next(train(members, stream, configs[0].model, members.optim, schedule))


def check_steps(configs, n_steps=3):
    """Each step from the same states gives the same losses, parameters and draws, alone and in the stack."""
    alone = [new_state(config, "cpu") for config in configs]
    streams = [TrainingStream(config.data, config.seed) for config in configs]
    of_all = stream_of([config.data for config in configs], [config.seed for config in configs])
    for _ in range(n_steps):
        members = gather(alone, configs[0].model, one_or_each([config.optim for config in configs]))
        step, losses = stepped(members, configs, of_all)
        for i, (state, stream, config) in enumerate(zip(alone, streams, configs, strict=True)):
            of_one, loss = next(train(state, stream, config.model, config.optim, config.train))
            assert of_one == step
            torch.testing.assert_close(losses[i], loss, atol=TOLERANCE, rtol=TOLERANCE)
            assert_close(state, members.member(i))
            assert torch.equal(state.generator.get_state(), members.generators[i].get_state())


OTHERS = {
    "seed": (3, 8),
    "model.init": ("transformer_lens",),
    "optim.lr": (1e-2, 1e-4),
    "optim.weight_decay": (0.1, 0.5),
    "optim.n_warmup_steps": (0, 7),
    "optim.decay_share": (0.0, 1.0),
    "train.label_noise": (0.2, 0.9),
    "data.task_weights": ((1, 2), (5, 1)),
    "data.task_loss_weights": ((1.0, 0.25),),
    "data.length_weights": ((1, 2, 3, 4), (9, 1, 1, 1)),
    "data.length_loss_weights": ((1.0, 1.0, 0.5, 2.0),),
    "data.curriculum": (
        (Stage(n_steps=1, task_weights=(3, 1)),),
        (Stage(n_steps=2, max_length=2), Stage(n_steps=1, max_length=3)),
        (Stage(n_steps=2, length_weights=(0, 0, 1, 1)),),
    ),
}
"""Other values of what members may have of their own."""


def base(optimizer="muon", clip=None, fixed=None, dropout=0.0, shift=0):
    return tiny(
        data={"tasks": ("copy", "polynomial"), "n_train_strings": fixed, "batch_size": 12},
        optim={"optimizer": optimizer, "max_grad_norm": clip, "n_warmup_steps": 2},
        train={"embed_dropout": dropout, "max_position_shift": shift, "n_steps": 12},
    )


bases = st.builds(
    base, st.sampled_from(["muon", "adamw", "adam", "sgd"]), st.sampled_from([None, 0.3]),
    st.sampled_from([None, 7]), st.sampled_from([0.0, 0.2]), st.sampled_from([0, 2]),
)  # fmt: skip
own = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in OTHERS.items()})


def members_law(shared, of_each):
    without = {"optim.weight_decay"} if shared.optim.optimizer in ("adam", "sgd") else set()
    check_steps([changed(shared, {n: v for n, v in mine.items() if n not in without}) for mine in of_each])


quick = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
law = given(bases, st.lists(own, min_size=2, max_size=5))
test_members_of_any_settings_are_those_trained_alone = quick(law(members_law))
test_members_of_many_settings_are_those_trained_alone = pytest.mark.slow(many(law(members_law)))


@pytest.mark.parametrize("name", OTHERS)
def test_each_setting_that_members_may_have_of_their_own(name):
    shared = base()
    check_steps([shared, *(changed(shared, {name: value}) for value in OTHERS[name])], n_steps=2)


def test_no_setting_is_left_out():
    assert set(OTHERS) | {"start_from"} == set(OWN)


def test_a_member_that_is_taken_out_has_its_own_weight_decay():
    members = members_of([base(), changed(base(), {"optim.weight_decay": 0.5})], "cpu")
    decays = [
        max(group["weight_decay"] for one in members.member(i).optimizers for group in one.param_groups) for i in (0, 1)
    ]
    assert decays == [0.0, 0.5]
