import itertools
import random
import shutil
import statistics

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from side_by_side import TOLERANCE, assert_close, assert_same, states_of, tiny

from compo_mech.data.config import Stage
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Copy, Polynomial
from compo_mech.launch import ensemble as stack
from compo_mech.launch import group_timing
from compo_mech.launch import run as run_module
from compo_mech.launch.run import Diverged, launch, new_state
from compo_mech.launch.settings import Launch
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.locks import locked
from compo_mech.runs.run import Run
from compo_mech.training.ensemble import gather
from compo_mech.training.loop import train

QUIET = Console(quiet=True)


def gathered(states, config):
    return gather(states, config.model, config.optim)


def take(loop, n_steps):
    """What the first steps of a loop give."""
    return [given for _, given in itertools.islice(loop, n_steps)]


def check_steps(config, seeds=(0, 9), n_steps=4):
    """Each step from the same states gives the same losses, parameters and draws, alone and together."""
    alone = states_of(config, seeds)
    streams = [TrainingStream(config.data, seed) for seed in seeds]
    of_all = TrainingStream(config.data, seeds)
    for _ in range(n_steps):
        members = gathered(alone, config)
        step, losses = next(train(members, of_all, config.model, config.optim, config.train))
        for i, (state, stream) in enumerate(zip(alone, streams, strict=True)):
            of_one, loss = next(train(state, stream, config.model, config.optim, config.train))
            assert of_one == step
            torch.testing.assert_close(losses[i], loss, atol=TOLERANCE, rtol=TOLERANCE)
            assert_close(state, members.member(i))
            assert torch.equal(state.generator.get_state(), members.generators[i].get_state())


CONFIGS = {
    "default": tiny(),
    "muon with weight decay": tiny(optim={"weight_decay": 0.1}),
    "adamw": tiny(optim={"optimizer": "adamw", "weight_decay": 0.1}),
    "adam, clipped": tiny(optim={"optimizer": "adam", "max_grad_norm": 0.5}),
    "sgd, clipped": tiny(optim={"optimizer": "sgd", "lr": 0.1, "max_grad_norm": 0.8}),
    "sgd, seldom clipped": tiny(optim={"optimizer": "sgd", "lr": 0.1, "max_grad_norm": 100.0}),
    "sgd without momentum": tiny(optim={"optimizer": "sgd", "momentum": 0.0}),
    "noise": tiny(train={"max_position_shift": 3, "embed_dropout": 0.2, "label_noise": 0.3}),
    "frozen parts": tiny(model={"freeze": ("pos_embed", "blocks.0.attn"), "n_pos_dims": 3}),
    "position dimensions": tiny(model={"n_pos_dims": 3}, optim={"max_grad_norm": 0.1}),
    "heads and biases": tiny(model={"n_heads": 4, "d_head": 3, "biases": True, "n_layers": 3}),
    "no norm": tiny(model={"normalization": "none", "act_fn": "relu", "n_layers": 1}),
    "rotary, shared keys, gated": tiny(
        model={
            "n_heads": 4, "n_key_value_heads": 2, "positional_embedding": "rotary", "normalization": "RMS",
            "gated_mlp": True, "tie_word_embeddings": True,
        }
    ),
    "parallel, normalised queries": tiny(
        model={"parallel_attn_mlp": True, "use_qk_norm": True, "positional_embedding": "none", "final_rms": True}
    ),
    "attention alone": tiny(model={"attn_only": True, "normalization": "LNPre"}),
    "mixture": tiny(
        data={
            "tasks": (Copy(), Polynomial()), "task_weights": (1, 2), "task_loss_weights": (1.0, 0.25),
            "length_weights": (1, 0, 2, 3), "length_loss_weights": (1.0, 1.0, 0.5, 2.0),
        }
    ),
    "no chain of thought": tiny(data={"chain_of_thought": False, "max_length": 8}),
    "curriculum": tiny(data={"curriculum": (Stage(n_steps=2, max_length=2), Stage(n_steps=1, max_length=3))}),
    "fixed strings": tiny(data={"n_train_strings": 5}),
    "shortest first": tiny(data={"n_train_strings": 20, "order": "shortest_first"}),
}  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_step_together_is_a_step_one_by_one(config):
    check_steps(config)


configs = st.builds(
    lambda optimizer, decay, clip, heads, biases, layers, norm, freeze, dims, shift, dropout, cot, fixed, tasks: tiny(
        data={"chain_of_thought": cot, "n_train_strings": fixed, "tasks": tasks},
        model={
            "n_heads": heads, "biases": biases, "n_layers": layers, "normalization": norm, "freeze": freeze,
            "n_pos_dims": dims,
        },
        optim={
            "optimizer": optimizer, "weight_decay": decay if optimizer in ("muon", "adamw") else 0.0,
            "max_grad_norm": clip,
        },
        train={"max_position_shift": shift, "embed_dropout": dropout},
    ),
    st.sampled_from(["muon", "adamw", "adam", "sgd"]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([None, 0.3]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from(["LN", "none"]),
    st.sampled_from([(), ("unembed",), ("blocks.0.mlp", "embed")]),
    st.sampled_from([None, 3]),
    st.sampled_from([0, 2]),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
    st.sampled_from([None, 7]),
    st.sampled_from([("parity",), ("copy", "parity")]),
)  # fmt: skip


def steps_law(config, n_members, seed):
    check_steps(config, seeds=[seed + i for i in range(n_members)], n_steps=3)


test_steps_of_any_settings_agree = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)(given(configs, st.integers(1, 4), st.integers(0, 99))(steps_law))

test_steps_of_many_settings_agree = pytest.mark.slow(
    settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])(
        given(configs, st.integers(1, 6), st.integers(0, 10**6))(steps_law)
    )
)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_batches_drawn_together_are_those_drawn_alone(config):
    seeds = [3, 1, 4]
    together_, alone = ([torch.Generator().manual_seed(s) for s in seeds] for _ in range(2))
    of_all, streams = TrainingStream(config.data, seeds), [TrainingStream(config.data, seed) for seed in seeds]
    for step in range(1, 6):
        stacked = of_all.batch(step, together_)
        for i, stream in enumerate(streams):
            batch = stream.batch(step, alone[i])
            assert torch.equal(stacked.tokens[i], batch.tokens)
            assert torch.equal(stacked.task[i], batch.task)
            assert torch.equal(stacked.weight[i], batch.weight)
            assert torch.equal(stacked.targets[i], batch.targets)
            assert torch.equal(stacked.packing.row, batch.packing.row)
            assert torch.equal(together_[i].get_state(), alone[i].get_state())


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adam", "sgd"])
@pytest.mark.parametrize("n_steps", [0, 3])
def test_putting_in_and_taking_out_changes_nothing(optimizer, n_steps):
    config = tiny(optim={"optimizer": optimizer}, model={"freeze": ("blocks.0.mlp",), "biases": True})
    states = states_of(config, range(3))
    for seed, state in enumerate(states):
        loop = train(state, TrainingStream(config.data, seed), config.model, config.optim, config.train)
        take(loop, n_steps)
    members = gathered(states, config)
    for i, state in enumerate(states):
        assert_same(state, members.member(i))
    taken = [members.member(i) for i in (2, 0)]
    again = gathered(taken, config)
    assert_same(states[2], again.member(0))
    assert_same(states[0], again.member(1))


def test_what_was_taken_out_shares_nothing():
    config = tiny()
    members = gathered(states_of(config, range(2)), config)
    loop = train(members, TrainingStream(config.data, range(2)), config.model, config.optim, config.train)
    next(loop)
    taken, twin = members.member(0), members.member(0)
    next(loop)
    assert_same(twin, taken)
    assert not torch.equal(taken.params["embed.W_E"], members.params["embed.W_E"][0])
    list(itertools.islice(train(taken, TrainingStream(config.data, 0), config.model, config.optim, config.train), 1))
    assert_close(taken, members.member(0))


def test_going_on_from_what_was_taken_out_is_going_on():
    """To the bit: the ensemble that is taken apart at a step and put together again, and the one that is not."""
    config = tiny(optim={"weight_decay": 0.1}, train={"embed_dropout": 0.1})
    streams = TrainingStream(config.data, range(3))
    whole, first = (gathered(states_of(config, range(3)), config) for _ in range(2))
    take(train(whole, streams, config.model, config.optim, config.train), 8)
    take(train(first, streams, config.model, config.optim, config.train), 5)
    second = gathered([first.member(i) for i in range(3)], config)
    take(train(second, streams, config.model, config.optim, config.train), 3)
    for i in range(3):
        assert_same(whole.member(i), second.member(i))


def test_what_an_ensemble_remembers_is_taken_over_by_another():
    config = tiny(train={"embed_dropout": 0.1})
    first, other = (gathered(states_of(config, seeds), config) for seeds in (range(3), range(3, 6)))
    take(train(first, TrainingStream(config.data, range(3)), config.model, config.optim, config.train), 3)
    other.load_tensors(first.tensors())
    found, expected = other.tensors(), first.tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(*(gathered(states_of(config, [seed]), config).tensors()["generator"] for seed in (0, 3)))


@pytest.mark.parametrize("name", ["default", "adam, clipped", "sgd, clipped"])
def test_a_poisoned_member_does_not_disturb_the_others(name):
    config = CONFIGS[name]
    finished = []
    for poison in (None, torch.nan, torch.inf):
        states = states_of(config, range(4))
        if poison is not None:
            with torch.no_grad():
                states[1].params["blocks.0.mlp.W_in"].fill_(poison)
        members = gathered(states, config)
        losses = [
            each
            for _, each in itertools.islice(
                train(members, TrainingStream(config.data, range(4)), config.model, config.optim, config.train), 5
            )
        ]
        assert members.finite().tolist() == [True, poison is None, True, True]
        finished.append((torch.stack(losses)[:, [0, 2, 3]], [members.member(i) for i in (0, 2, 3)]))
    for losses, members in finished[1:]:
        assert torch.equal(losses, finished[0][0])
        for one, two in zip(finished[0][1], members, strict=True):
            assert_same(one, two)


def test_states_at_different_steps_are_refused():
    config = tiny()
    states = states_of(config, range(2))
    states[1].step = 3
    with pytest.raises(ValueError, match="step = 0 3: members of an ensemble must be at the same step"):
        gathered(states, config)
    with pytest.raises(ValueError, match="step"):
        gathered([], config)


def test_training_together_learns():
    config = tiny(train={"n_steps": 80})
    members = gathered(states_of(config, range(3)), config)
    losses = torch.stack(
        [
            each
            for _, each in train(
                members, TrainingStream(config.data, range(3)), config.model, config.optim, config.train
            )
        ]
    )
    assert (losses[-10:].mean(0) < 0.5 * losses[:10].mean(0)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_it_trains_on_a_gpu_as_one_by_one():
    config = tiny(train={"embed_dropout": 0.1, "max_position_shift": 2})
    states = [new_state(config.model_copy(update={"seed": seed}), "cuda") for seed in range(3)]
    members = gathered(states, config)
    take(train(members, TrainingStream(config.data, range(3), "cuda"), config.model, config.optim, config.train), 1)
    for i, state in enumerate(states):
        stream = TrainingStream(config.data, i, "cuda")
        take(train(state, stream, config.model, config.optim, config.train), 1)
        assert_close(state, members.member(i), tolerance=1e-4)


# ------------------------------------------------------------------------------------ runs


SHORT = tiny(data={"min_length": 2, "max_length": 3}, train={"n_steps": 21, "snapshot_every": 7})
"""Seven snapshots, and a reading of the loss between two of them."""


def launches(path, config=SHORT, seeds=range(3), **more):
    given = {name: getattr(config, name) for name in RunConfig.model_fields}
    return [Launch(**given | {"seed": seed, "name": f"seed{seed}", "runs_dir": path} | more) for seed in seeds]


def on_disk(path):
    """All that a run's numbers are, by file."""
    return {
        f.relative_to(path): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != "environment.json"
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three runs trained at once and left in peace."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("together")
    return [run for run in stack.launch_together(launches(path), QUIET) if isinstance(run, Run)]


def test_runs_trained_together_are_those_trained_alone(trained, tmp_path):
    assert len(trained) == 3
    for settings_, run in zip(launches(tmp_path), trained, strict=True):
        alone, again = launch(settings_, QUIET), Run.open(run.path)
        assert again.config == alone.config
        assert again.steps == alone.steps == [0, 1, 2, 4, 7, 14, 21]
        assert not again.problems()
        for step in (0, 1, 7):  # later, rounding has had time to grow
            one, two = alone.params(step), again.params(step)
            assert all((one[name] - two[name]).abs().max() <= 1e-4 for name in one), step
        keys = [column for column in alone.metrics.columns if column != "value"]
        assert alone.metrics[keys].equals(again.metrics[keys])
        early = alone.metrics.step <= 7
        losses = early & (alone.metrics.metric == "loss")
        assert (alone.metrics.value[losses] - again.metrics.value[losses]).abs().max() < 1e-3
        assert {f.name for f in alone.path.rglob("*")} == {f.name for f in again.path.rglob("*")}


def test_a_run_trained_together_goes_on_alone_and_the_other_way_round(tmp_path, trained):
    cut = [shutil.copytree(run.path, tmp_path / run.path.name) for run in trained]
    for path in cut:
        Run.open(path).cut(14)
    alone = launch(launches(tmp_path, resume=True)[0], QUIET)
    assert alone.is_done
    gap = alone.params(21)["embed.W_E"] - trained[0].params(21)["embed.W_E"]
    assert gap.abs().max() < 1e-3
    alone.cut(14)
    results = stack.launch_together(launches(tmp_path, resume=True), QUIET)
    for run, whole in zip(results, trained, strict=True):
        assert isinstance(run, Run)
        assert on_disk(run.path) == on_disk(whole.path)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill_at", [1, 11, 20])
def test_killed_at_any_save_they_end_as_if_left_in_peace(tmp_path, trained, monkeypatch, kill_at):
    """21 saves: 3 runs at 7 snapshots each. The process dies in one of them."""
    left = iter(range(kill_at))
    save = Run.save

    def mortal(run, *args):
        if next(left, None) is None:
            raise Killed
        save(run, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", mortal)
        with pytest.raises(Killed):
            stack.launch_together(launches(tmp_path), QUIET)
    again = [
        settings_.model_copy(update={"resume": begun, "overwrite": not begun})
        for settings_ in launches(tmp_path)
        for begun in [bool(Run.open(settings_.path).steps)]
    ]
    for run, whole in zip(stack.launch_together(again, QUIET), trained, strict=True):
        assert isinstance(run, Run)
        assert on_disk(run.path) == on_disk(whole.path)


@pytest.mark.slow
def test_killed_again_and_again_they_end_as_if_left_in_peace(tmp_path, trained, monkeypatch):
    draw = random.Random(0)
    save, add_rows = Run.save, Run.add_rows

    def mortal(do):
        def maybe(run, *args):
            if draw.random() < 0.03:
                raise Killed
            do(run, *args)

        return maybe

    n_killed = 0
    for round_ in range(15):
        path = tmp_path / str(round_)
        while True:
            one_each = launches(path)
            begun = [s.path.exists() and bool(Run.open(s.path).steps) for s in one_each]
            how = [s.model_copy(update={"resume": b, "overwrite": not b}) for s, b in zip(one_each, begun, strict=True)]
            try:
                with monkeypatch.context() as patch:
                    patch.setattr(Run, "save", mortal(save))
                    patch.setattr(Run, "add_rows", mortal(add_rows))
                    results = stack.launch_together(how, QUIET)
                break
            except Killed:
                n_killed += 1
        for run, whole in zip(results, trained, strict=True):
            assert isinstance(run, Run)
            assert on_disk(run.path) == on_disk(whole.path)
    assert n_killed > 15


def test_runs_without_a_common_step_go_on_in_groups(tmp_path, trained):
    for run in trained[:2]:
        shutil.copytree(run.path, tmp_path / run.path.name)
    torn = tmp_path / "seed1" / "checkpoints" / "000021.resume.safetensors"
    torn.write_bytes(b"")
    results = stack.launch_together(
        [one.model_copy(update={"resume": one.seed < 2}) for one in launches(tmp_path)], QUIET
    )
    assert all(isinstance(run, Run) and run.steps == trained[0].steps for run in results)
    for run, whole in zip(results, trained, strict=True):
        assert (run.params(21)["embed.W_E"] - whole.params(21)["embed.W_E"]).abs().max() < 1e-3


def test_the_groups_are_the_largest_and_then_the_newest():
    def groups(*steps):
        return list(stack._groups(dict(enumerate(steps))))

    assert groups({4, 8}, {8, 10}, {8, 10}) == [(8, [0, 1, 2])]
    assert groups({8, 10}, {8, 10}) == [(10, [0, 1])]
    assert groups({4}, {8, 10}, {0}, {8, 10}) == [(10, [1, 3]), (4, [0]), (0, [2])]


@pytest.mark.parametrize(("scale", "step"), [(1e6, 1), (1e30, 0)])
def test_a_run_that_diverges_is_its_own_failure(scale, step, tmp_path, trained, monkeypatch):
    new = new_state

    def poisoned(config, device):
        state = new(config, device)
        if config.seed == 1:
            with torch.no_grad():
                state.params["embed.W_E"].mul_(scale)
                state.params["unembed.W_U"].mul_(scale)
        return state

    monkeypatch.setattr(run_module, "new_state", poisoned)
    results = stack.launch_together(launches(tmp_path), QUIET)
    assert isinstance(results[1], Diverged)
    assert f"diverged by step {step} " in str(results[1])
    assert str(tmp_path / "seed1") in str(results[1])
    assert Run.open(tmp_path / "seed1").steps == list(range(step))
    for i in (0, 2):
        assert isinstance(results[i], Run)
        assert results[i].steps == trained[i].steps
        measured, expected = results[i].metrics, trained[i].metrics
        assert measured.drop(columns="value").equals(expected.drop(columns="value"))
        for saved in (1, 7):
            one, two = results[i].params(saved), trained[i].params(saved)
            assert all((one[name] - two[name]).abs().max() <= 1e-4 for name in one)
    again = stack.launch_together(launches(tmp_path, resume=True), QUIET)
    assert [type(result) for result in again] == [Run, Diverged if step else RunError, Run]


def test_a_folder_that_is_taken_is_that_run_s_failure(tmp_path):
    config = tiny(train={"n_steps": 2})
    (tmp_path / "seed1").mkdir()
    results = stack.launch_together(launches(tmp_path, config), QUIET)
    assert [type(result) for result in results] == [Run, RunError, Run]
    assert "exists already" in str(results[1])
    assert not list((tmp_path / "seed1").iterdir())


def test_one_that_another_process_trains_is_that_run_s_failure(tmp_path):
    config = tiny(train={"n_steps": 2})
    with locked(tmp_path / "seed1"):
        results = stack.launch_together(launches(tmp_path, config), QUIET)
    assert [type(result) for result in results] == [Run, RunError, Run]
    assert "is being trained by another process" in str(results[1])
    with locked(tmp_path / "seed0"):  # no lock is left
        pass


def test_no_runs_are_none():
    assert stack.launch_together([], QUIET) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_test_strings": 8}, "n_test_strings = 8"),
        ({"optim": tiny(optim={"lr": 0.5}).optim}, "optim.lr = 0.5"),
        ({"data": tiny(data={"min_length": 2}).data}, "data.max_length = 4"),
        ({"device": "cuda"}, "device = 'cuda'"),
        ({"wandb": "offline"}, "wandb = 'offline'"),
        ({"name": "seed0"}, "name = 'seed0'"),
    ],
)
def test_members_that_differ_in_more_than_the_seed_are_refused(tmp_path, change, told):
    settings_ = launches(tmp_path)
    settings_[2] = settings_[2].model_copy(update=change)
    with pytest.raises(RunError) as refused:
        stack.launch_together(settings_, QUIET)
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------- does it pay


@pytest.mark.parametrize(
    ("seconds", "n", "group"),
    [
        ({1: 1.0, 4: 2.0}, 10, 1),
        ({1: 1.0, 4: 0.5, 10: 0.6}, 10, 4),
        ({1: 1.0, 4: 0.5, 16: 0.4, 40: 0.3}, 40, 40),
        ({1: 1.0, 4: 0.5, 5: 0.6}, 5, 3),
        ({1: 1.0}, 1, 1),
    ],
)
def test_the_group_that_is_fastest_is_taken_and_made_even(monkeypatch, seconds, n, group):
    monkeypatch.setattr(group_timing, "seconds_a_member", lambda config, size, device, together=True: seconds[size])
    assert group_timing.best_group(tiny(), n, "cpu") == group


def test_throwaway_steps_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(data={"curriculum": (Stage(n_steps=2, max_length=2),)})
    found = [
        group_timing.seconds_a_member(config, n, "cpu", at_once, n_steps=1) for n in (1, 2) for at_once in (False, True)
    ]
    assert all(seconds > 0 for seconds in found)
    assert 1 <= group_timing.best_group(tiny(), 3, "cpu") <= 3
    assert not list(tmp_path.iterdir())
    assert statistics.mean(found) < 1
