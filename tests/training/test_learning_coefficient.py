import math
import sys
from collections import Counter
from importlib import import_module

import pytest
import torch
from helpers import control, generator
from torch import nn

from compo_mech.data.config import DataConfig
from compo_mech.data.stream import TrainingStream
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.params import Model
from compo_mech.training.learning_coefficient import SamplerConfig, learning_coefficient, sample
from compo_mech.training.loop import TrainConfig, row_loss, start, train
from compo_mech.training.optim import OptimConfig

llc = import_module("compo_mech.training.learning_coefficient")  # the package has its function under this name

# A step costs the same in many dimensions as in few, and many need few steps until their mean is known.
QUICK = SamplerConfig(lr=1e-3, localization=1.0, n_beta=100.0, n_chains=3, n_burnin=60, n_draws=140)


@pytest.fixture
def devinterp():
    pytest.importorskip("devinterp", reason="pip install 'compo_mech[llc]'")


class Bowl(nn.Module):
    """Half the curvature times the sum of |w - centre|^power over some parameters, plus what a batch adds."""

    def __init__(self, n, curvature=1.0, power=2, n_idle=0):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, n + n_idle))
        self.centre, self.n, self.curvature, self.power = self.w.detach().clone(), n, curvature, power
        self.seen = []

    def forward(self, batch):
        Bowl.seen.append(batch)
        away = (self.w - self.centre)[: self.n]
        return 0.5 * self.curvature * (away**self.power).sum() + batch


Bowl.seen = []


class Two(nn.Module):
    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, batch):
        return self.one(batch) + self.other(batch)


def expected(n, curvature, config):
    """Of a regular bowl under a pull, with the exact variance of the sampler's steps: n / 2 as both vanish."""
    stiffness = config.n_beta * curvature + config.localization
    return n / 2 * config.n_beta * curvature / stiffness / (1 - config.lr * stiffness / 4)


# ------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize(("n", "curvature"), [(1000, 1.0), (1000, 5.0), (3000, 1.0)])
def test_a_regular_bowl_has_half_its_dimensions(devinterp, n, curvature):
    config = QUICK.model_copy(update={"lr": QUICK.lr / curvature})
    found = sample(Bowl(n, curvature), [0.0], 1000, config, seed=0)
    assert found.mean == pytest.approx(expected(n, curvature, config), rel=0.06)
    assert found.mean == pytest.approx(n / 2, rel=0.1)
    assert abs(found.drift) < 0.1 * n / 2
    assert found.std < 0.15 * n / 2


def test_a_pull_as_strong_as_the_bowl_leaves_half(devinterp):
    config = QUICK.model_copy(update={"localization": 100.0})
    found = sample(Bowl(3000), [0.0], 1000, config, seed=0)
    assert found.mean == pytest.approx(expected(3000, 1.0, config), rel=0.06)
    assert found.mean == pytest.approx(750, rel=0.12)


def test_directions_that_change_nothing_do_not_count(devinterp):
    assert sample(Bowl(1000, n_idle=2000), [0.0], 1000, QUICK, seed=0).mean == pytest.approx(500, rel=0.1)


def test_a_flatter_minimum_has_less(devinterp):
    """A fourth power has a quarter a dimension, half as much as a bowl: what a parameter count cannot tell."""
    config = QUICK.model_copy(update={"n_beta": 2000.0, "localization": 0.0})
    assert sample(Bowl(2000, power=4), [0.0], 1000, config, seed=0).mean == pytest.approx(500, rel=0.1)


def test_masked_and_frozen_parameters_stay(devinterp):
    mask = torch.zeros(1000)
    mask[:300] = 1
    assert sample(Bowl(1000), [0.0], 1000, QUICK, 0, {0: mask}).mean == pytest.approx(150, rel=0.15)
    both = Two(Bowl(1000).requires_grad_(False), Bowl(600))
    assert sample(both, [0.0], 1000, QUICK, 0).mean == pytest.approx(300, rel=0.1)


def test_batches_take_turns_and_their_own_levels_cancel(devinterp):
    config = QUICK.model_copy(update={"n_chains": 2})
    batches = [-50.0, 0.0, 7.0, 90.0]
    Bowl.seen = []
    found = sample(Bowl(1000), batches, 1000, config, seed=0)
    assert found.mean == pytest.approx(500, rel=0.15)
    assert found.loss == pytest.approx(sum(batches) / 4)
    chains = Bowl.seen[4:]  # the first four are at the checkpoint
    assert Counter(chains) == dict.fromkeys(batches, 2 * 200 // 4)
    rounds = {tuple(chains[i : i + 4]) for i in range(0, 400, 4)}
    assert all(sorted(taken) == batches for taken in rounds)
    assert len(rounds) > 10  # in a new order each time


def test_nothing_else_changes_and_a_seed_gives_the_same_again(devinterp):
    config = QUICK.model_copy(update={"n_draws": 20, "n_burnin": 0})
    bowl, state = Bowl(5), torch.get_rng_state()
    one = sample(bowl, [0.0, 1.0], 1000, config, seed=3)
    assert torch.equal(bowl.w, bowl.centre)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(sample(bowl, [0.0, 1.0], 1000, config, seed=3).traces, one.traces)
    assert not torch.equal(sample(bowl, [0.0, 1.0], 1000, config, seed=4).traces, one.traces)
    assert not torch.equal(one.traces[0], one.traces[1])  # chains are independent
    assert one.traces[:, 0].tolist() == [0.0] * 3  # and start at the checkpoint
    assert one.mean == pytest.approx(float(one.traces.mean()), rel=1e-5)
    assert one.std == pytest.approx(float(one.traces.mean(1).std()), rel=1e-5)


# ---------------------------------------------------------------------------------------- networks

DATA = DataConfig(max_length=4, batch_size=32)
CONFIG = ModelConfig(d_model=16)
AROUND = SamplerConfig(lr=1e-4, n_chains=2, n_burnin=100, n_draws=100, n_strings=128)


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    state = start(control(CONFIG, DATA).params, CONFIG, OptimConfig(), generator(0))
    for _ in train(state, TrainingStream(DATA, 0), CONFIG, OptimConfig(), TrainConfig(n_steps=400)):
        pass
    return {name: value.detach() for name, value in state.params.items()}


def test_a_trained_network_has_one_and_a_fresh_one_none(devinterp, trained):
    before = {name: value.clone() for name, value in trained.items()}
    short = AROUND.model_copy(update={"n_burnin": 40, "n_draws": 40})  # is far from either bound soon
    found = learning_coefficient(Model(trained, CONFIG), DATA, short)
    assert 0 < found.mean < sum(value.numel() for value in trained.values()) / 2
    assert found.loss < 0.1
    assert all(torch.equal(trained[name], before[name]) for name in trained)
    new = learning_coefficient(control(CONFIG, DATA), DATA, AROUND)
    assert new.mean < -5 * new.std < 0  # at no minimum


def test_the_loss_is_that_of_training_at_scored_rows(devinterp):
    config = AROUND.model_copy(update={"n_burnin": 0, "n_draws": 2, "n_strings": 100})
    model = control(CONFIG, DATA)
    found = learning_coefficient(model, DATA, config, seed=5)
    stream, rng = TrainingStream(DATA, 5), generator(5)
    batches = [stream.batch(step, rng) for step in (1, 2, 3, 4)]  # 4 * 32 strings are 100 or more
    losses = [float(row_loss(forward(model, b.tokens, b.packing), b)) for b in batches]
    assert found.loss == pytest.approx(sum(losses) / 4, rel=1e-6)
    n = sum(len(b.targets) for b in batches)
    assert found.n_beta == pytest.approx(n / math.log(n))
    staged = DATA.model_copy(update={"curriculum": ("stage(n_steps=9, max_length=1)",)})
    staged = DataConfig.model_validate(staged.model_dump(mode="json"))
    assert learning_coefficient(model, staged, config, seed=5).loss == found.loss


def test_what_training_leaves_alone_is_not_sampled():
    network = llc._Network(control(CONFIG.model_copy(update={"freeze": ("embed",)}), DATA))
    moving = {name: value.requires_grad for name, value in zip(network.names, network.values, strict=True)}
    assert not moving.pop("embed.W_E")
    assert all(moving.values())


def test_the_mask_is_that_of_the_position_embedding(devinterp, monkeypatch):
    model = control(CONFIG.model_copy(update={"n_pos_dims": 3}), DATA)
    asked, any_estimate = [], llc.LearningCoefficient(torch.zeros(2, 2), 0.0, 1.0)
    monkeypatch.setattr(llc, "sample", lambda *arguments: asked.append(arguments) or any_estimate)
    learning_coefficient(model, DATA, AROUND)
    network, masks = asked[0][0], asked[0][-1]
    ((place, mask),) = masks.items()
    assert list(network.parameters())[place].shape == mask.shape == model.params["pos_embed.W_pos"].shape
    assert mask.sum(1).unique().tolist() == [3.0]


def test_rows_are_shifted_as_in_training(devinterp):
    wide = DataConfig(max_length=3, batch_size=32)
    config = AROUND.model_copy(update={"n_burnin": 0, "n_draws": 2})
    shifts = torch.cat([shift for _, shift in llc._batches(
        wide, config.model_copy(update={"max_position_shift": 2}), 0, torch.device("cpu"))])  # fmt: skip
    assert shifts.unique().tolist() == [0, 1, 2]
    assert all(shift is None for _, shift in llc._batches(wide, config, 0, torch.device("cpu")))
    moved = config.model_copy(update={"max_position_shift": 2})
    assert learning_coefficient(control(CONFIG, DATA), wide, moved).loss != (
        learning_coefficient(control(CONFIG, DATA), wide, config).loss
    )


# --------------------------------------------------------------------------------------- bad input


def test_without_devinterp_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "devinterp", None)
    monkeypatch.setitem(sys.modules, "devinterp.optim", None)
    with pytest.raises(ValueError, match=r"^devinterp = missing: pip install 'compo_mech\[llc\]'$"):
        learning_coefficient(control(CONFIG, DATA), DATA, AROUND)


def test_bad_input_gets_one_line(devinterp):
    with pytest.raises(ValueError, match="batches = none: at least one is needed"):
        sample(Bowl(3), [], 10, QUICK, 0)
    with pytest.raises(ValueError, match="parameters = none: at least one must be free"):
        sample(Bowl(3).requires_grad_(False), [0.0], 10, QUICK, 0)
    with pytest.raises(ValueError, match="n_samples = 1: must be at least 3"):
        sample(Bowl(3), [0.0], 1, QUICK.model_copy(update={"n_beta": None}), 0)
    with pytest.raises(ValueError, match=r"lr = 100.0: must be smaller, chain 0 diverged at step \d+"):
        sample(Bowl(3), [0.0], 10, QUICK.model_copy(update={"lr": 100.0}), 0)
    n = DATA.layout.n_tokens(4)
    with pytest.raises(ValueError, match=f"max_position_shift = 3: must leave {n} of the {n} positions"):
        learning_coefficient(control(CONFIG, DATA, n_ctx=n), DATA, AROUND.model_copy(update={"max_position_shift": 3}))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"lr": 0}, "lr = 0: must be greater than 0"),
        ({"n_chains": 1}, "n_chains = 1: must be greater than or equal to 2"),
        ({"localization": -1}, "localization = -1: must be greater than or equal to 0"),
        ({"steps": 3}, "steps = 3: there is no such setting"),
    ],
)
def test_bad_settings_get_one_line(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        SamplerConfig(**given)
