import pytest
import torch
from rich.console import Console

from compo_mech.data.config import DataConfig, Stage
from compo_mech.data.splits import is_test_string
from compo_mech.data.tasks import Counter, Parity
from compo_mech.evaluation.sets import EvalSet
from compo_mech.ground_truth.build import build
from compo_mech.launch.how import How
from compo_mech.launch.sweep import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.runs import recipes
from compo_mech.runs.stacked_run import open_run
from compo_mech.settings import changed
from compo_mech.studies import longer_strings as longer
from compo_mech.studies import measures, self_training
from compo_mech.studies.longer_strings import LENGTHS, N_CTX, beyond
from compo_mech.studies.self_training import freely_written, self_trained
from compo_mech.training import loop
from compo_mech.training.loop import TrainConfig
from compo_mech.training.optim import OptimConfig

DATA = DataConfig(tasks=(Counter(modulus=3),), max_length=6)
SCHEDULE = TrainConfig(n_steps=9, max_position_shift=99)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(self_training, "N_STRINGS", 8)
    monkeypatch.setattr(self_training, "N_STEPS", 3)


def a_network(seed: int = 0) -> Model:
    config = ModelConfig(d_model=16, n_ctx=40)
    return Model(init_params(config, len(DATA.vocabulary), 40, torch.Generator().manual_seed(seed)), config)


def after(model: Model, own_states: bool, data: DataConfig = DATA) -> Model:
    return self_trained(model, data, SCHEDULE, OptimConfig(n_warmup_steps=0), 0, own_states)


def batches(monkeypatch, model: Model, own_states: bool) -> list[loop.Batch]:
    seen = []

    def kept(state, drawn, *rest):
        seen.extend(batch for batch, _ in drawn)
        return loop.train_step(state, drawn, *rest)

    monkeypatch.setattr(self_training, "train_step", kept)
    after(model, own_states)
    return seen


def test_on_its_own_states_a_network_that_writes_the_right_ones_learns_what_it_learns_on_them():
    built = build(Parity(), max_length=8)
    data = changed(built.data, {"max_length": 6})
    own, right = (after(built.model, own, data) for own in (True, False))
    assert all(torch.equal(own.params[name], right.params[name]) for name in right.params)
    assert any(not torch.equal(right.params[name], param) for name, param in built.model.params.items())


def test_the_network_itself_is_left_as_it_was():
    model = a_network()
    before = {name: param.clone() for name, param in model.params.items()}
    after(model, True)
    assert all(torch.equal(before[name], param) and param.grad is None for name, param in model.params.items())


@pytest.mark.parametrize("own_states", [True, False])
def test_every_length_is_trained_on_with_its_own_states_or_the_right_ones(monkeypatch, own_states):
    model, (task,) = a_network(), DATA.tasks
    lengths = set()
    for batch in batches(monkeypatch, model, own_states):
        assert not batch.tokens.requires_grad
        assert bool((batch.weight == 1).all())
        n_scored = batch.packing.scored_row.bincount().tolist()
        ends = [row.tolist().index(DATA.vocabulary.end_of_input_id) for row in batch.tokens]
        assert n_scored == ends  # a state an input, and [EoS]
        for row in batch.tokens:
            length = row.tolist().index(DATA.vocabulary.end_of_input_id) - 1
            lengths.add(length)
            inputs, states = row[None, 1 : length + 1], row[None, length + 2 : 2 * length + 2]
            assert length <= 3 or not is_test_string(inputs, torch.tensor([length]))
            if own_states:
                strings = EvalSet(row[None, : 2 * length + 3], DATA, task, length, "all",
                                  self_training.Packing.of_lengths(DATA.layout, [length]))  # fmt: skip
                assert torch.equal(row[None, length + 2 : 2 * length + 3], freely_written(model, strings))
            else:
                assert torch.equal(states, task.states(inputs))
    assert lengths == set(range(1, 9))


def test_a_round_is_the_same_each_time_and_its_shifts_stay_within_what_the_network_knows():
    one, two = (after(a_network(), True) for _ in range(2))  # ids of 18 read tokens are shifted by up to 22 of 99
    assert all(torch.equal(one.params[name], two.params[name]) for name in one.params)


def test_a_circuit_built_for_longer_strings_writes_them_right_and_no_others():
    built = build(Parity(), max_length=max(LENGTHS))
    assert DATA.layout.n_read(max(LENGTHS)) <= N_CTX
    found = list(beyond(built.model, built.data, Parity(), 0))
    assert {score.value for score in found} == {1.0}
    assert sorted(score.position for score in found if score.measure is measures.ACCURACY_BEYOND) == sorted(
        f"length {length}" for length in LENGTHS
    )
    (following,) = [score for score in found if score.measure is measures.ACCURACY_AT_NEXT]
    assert following.position == ""
    random = Model({name: torch.zeros_like(param) for name, param in built.model.params.items()}, built.model.config)
    wrong = [s.value for s in beyond(random, built.data, Parity(), 0) if s.measure is not measures.STATES_BEYOND]
    assert set(wrong) == {0.0}


def test_what_is_written_after_a_round_is_told_apart_by_what_it_was_trained_on(monkeypatch, tmp_path):
    """A round on right states gives the circuit, one on its own a network of zeros."""
    right = build(Parity(), max_length=max(LENGTHS)).model
    zeros = Model({name: torch.zeros_like(param) for name, param in right.params.items()}, right.config)
    monkeypatch.setattr(longer, "self_trained", lambda *given: zeros if given[-1] else right)
    config = changed(recipes.parity_alone(), {"train.n_steps": 1, "data.max_length": 4, "model.n_ctx": N_CTX})
    sweep({"run": changed(config, {"n_test_strings": 4})}, How(runs_dir=tmp_path, on="here"), Console(quiet=True))
    found = {
        (score.checkpoint, score.network): score.value
        for score in longer.longer_strings(open_run(tmp_path / "run"))
        if score.measure is measures.ACCURACY_AT_NEXT
    }
    of_rounds = {(longer.AFTER, "trained"): 0.0, (longer.RIGHT_STATES, "trained"): 1.0}
    assert found == {("", "trained"): 0.0, ("", "control"): 0.0} | of_rounds


def test_the_round_has_the_courses_of_training(monkeypatch):
    """Position ids are shifted as far as the network knows, and the learning rate falls to the end."""
    shifts, rates = [], []

    def kept(state, drawn, config, optim, rate):
        shifts.extend(drawn[0][1]["position_shift"].tolist())
        rates.append(rate)
        return loop.train_step(state, drawn, config, optim, rate)

    monkeypatch.setattr(self_training, "train_step", kept)
    monkeypatch.setattr(self_training, "N_STEPS", 10)
    self_trained(a_network(), DATA, changed(SCHEDULE, {"n_steps": 8}), OptimConfig(n_warmup_steps=2), 0, True)
    assert len(rates) == 8  # a short run has a short round
    assert rates[0] < rates[1] > rates[-1]
    assert max(shifts) == 40 - DATA.layout.n_read(8)
    assert min(shifts) == 0


def test_a_round_that_cannot_be_made_is_refused():
    two = changed(DATA, {"tasks": (Parity(), Counter(modulus=3))})
    with pytest.raises(ValueError, match="must be one task"):
        after(a_network(), True, two)
    with pytest.raises(ValueError, match="n_ctx = 40: must be at least 46"):
        after(a_network(), True, changed(DATA, {"max_length": 20}))


def test_weights_of_lengths_and_stages_do_not_hold_for_longer_ones():
    weighted = changed(DATA, {"length_weights": (1.0,) * 5 + (9.0,), "length_loss_weights": (2.0,) * 6,
                              "curriculum": (Stage(n_steps=3, max_length=2),)})  # fmt: skip
    model = a_network()
    assert all(
        torch.equal(param, after(model, True).params[n]) for n, param in after(model, True, weighted).params.items()
    )
