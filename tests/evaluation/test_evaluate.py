import pandas as pd
import pytest
import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Parity
from compo_mech.evaluation import attention
from compo_mech.evaluation.measure import measure, measure_control, measure_train
from compo_mech.evaluation.sets import eval_sets, train_sets
from compo_mech.evaluation.table import measured
from compo_mech.ground_truth.build import build
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.generate import generate
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params
from compo_mech.training import loop
from compo_mech.training.loop import TrainConfig
from compo_mech.training.optim import OptimConfig

DATA = DataConfig.model_validate({"tasks": ["parity", "polynomial(modulus=3)"], "min_length": 2, "max_length": 5})
CONFIG = ModelConfig(d_model=32, n_heads=2)


@pytest.fixture(scope="module")
def model():
    """Half trained, so that some strings are right and some are not."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weights = init_params(CONFIG, len(DATA.vocabulary), 14, generator)
    state = loop.start(weights, CONFIG, OptimConfig(), generator)
    for _ in loop.train(state, TrainingStream(DATA, 0), CONFIG, OptimConfig(), TrainConfig(n_steps=120)):
        pass
    return Model(weights, CONFIG)


@pytest.fixture(scope="module")
def sets():
    return eval_sets(DATA, 40)


@pytest.fixture(scope="module")
def rows(model, sets):
    return measure(model, DATA, sets)


def value(rows, **place):
    found = [r.value for r in rows if all(getattr(r, name) == wanted for name, wanted in place.items())]
    assert len(found) == 1
    return found[0]


def test_measures_against_the_hooked_transformer_and_plain_loops(model, sets, rows):
    hooked, words = to_hooked(model), DATA.vocabulary
    some_right_some_wrong = set()
    for test in sets:
        n_prompt, n_new = test.length + 2, test.length + 1
        teacher = hooked(test.tokens[:, :-1]).argmax(-1)[:, -n_new:]
        written = test.tokens[:, :n_prompt]
        for _ in range(n_new):
            written = torch.cat([written, hooked(written)[:, -1].argmax(-1)[:, None]], 1)
        written = written[:, n_prompt:]
        right = [row == good for row, good in zip(teacher.tolist(), test.tokens[:, n_prompt:].tolist(), strict=True)]
        free = [row == good for row, good in zip(written.tolist(), test.tokens[:, n_prompt:].tolist(), strict=True)]
        states = range(words.n_values)
        grammar = [all(t in states for t in row[:-1]) and row[-1] == words.end_of_states_id for row in written.tolist()]
        place = {"task": str(test.task), "length": test.length}
        assert value(rows, metric="accuracy", **place) == pytest.approx(sum(right) / len(right))
        assert value(rows, metric="generated_accuracy", **place) == pytest.approx(sum(free) / len(free))
        assert value(rows, metric="grammar", **place) == pytest.approx(sum(grammar) / len(grammar))
        some_right_some_wrong |= set(right)
    assert some_right_some_wrong == {True, False}


def test_scores_against_patterns_of_the_hooked_transformer(model, sets, rows):
    hooked = to_hooked(model)
    for test in sets:
        _, cache = hooked.run_with_cache(test.tokens[:, :-1])
        end = test.length + 1
        for layer in range(2):
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
            for head in range(2):
                diagonal = [pattern[:, head, end + k, 1 + k].mean().item() for k in range(test.length)]
                lookup = [pattern[:, head, q, end].mean().item() for q in range(end + 1, 2 * end - 1)]
                place = {"task": str(test.task), "length": test.length, "layer": layer, "head": head}
                assert value(rows, metric="iteration", **place) == pytest.approx(
                    sum(diagonal) / len(diagonal), abs=1e-5
                )
                assert value(rows, metric="lookup", **place) == pytest.approx(sum(lookup) / len(lookup), abs=1e-5)
                assert value(rows, metric="offset_+0", **place) == pytest.approx(
                    sum(diagonal) / len(diagonal), abs=1e-5
                )


def slow_generate(model, prompts, n_new):
    """All that was written is read again for every token."""
    tokens = prompts
    for _ in range(n_new):
        n, n_pos = tokens.shape
        packing = Packing.build([n_pos] * n, [1] * n)
        tokens = torch.cat([tokens, forward(model, tokens, packing).argmax(-1)[:, None]], 1)
    return tokens[:, prompts.shape[1] :]


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        ModelConfig(d_model=16, n_heads=4, biases=True),
        ModelConfig(d_model=16, normalization="none", act_fn="relu"),
        ModelConfig(n_layers=1, d_model=12, n_heads=3, d_head=5, normalization="none", biases=True),
        ModelConfig(n_layers=3, d_model=16, n_heads=2, init="transformer_lens"),
    ],
    ids=["two heads", "biases", "no norm", "one layer", "three layers"],
)
def test_generating_equals_reading_again_for_every_token(config):
    generator = torch.Generator().manual_seed(1)
    model = Model(init_params(config, 9, 20, generator), config)
    for param in model.params.values():
        param += 0.2 * torch.randn(param.shape, generator=generator)  # no bias or gain at its neutral value
    prompts = torch.randint(9, (64, 7), generator=generator)
    written = generate(model, prompts, 13)
    assert torch.equal(written, slow_generate(model, prompts, 13))
    assert len(written.unique(dim=0)) > 8  # else nothing is told apart
    assert generate(model, prompts, 0).shape == (64, 0)


def test_a_trained_network_writes_the_same_as_when_it_reads_again(model, sets):
    for test in sets:
        prompts, n_new = test.tokens[:, : test.length + 2], test.length + 1
        expected = slow_generate(model, prompts, n_new)
        assert torch.equal(generate(model, prompts, n_new), expected)


def test_splits_are_named(rows):
    splits = {(r.task, r.length): r.split for r in rows if r.metric == "accuracy"}
    poly = "polynomial(modulus=3)"  # two inputs, 1 and 2, so 32 strings of length 5
    assert splits == {(task, n): "all" for task in ("parity", poly) for n in range(2, 6)}
    longer = eval_sets(DataConfig(min_length=6, max_length=7), 8)
    assert [(s.split, len(s.tokens)) for s in longer] == [("test", 8), ("test", 8)]


def test_means_are_over_lengths_from_four_on(rows):
    for layer in range(2):
        for head in range(2):
            place = {"task": "parity", "layer": layer, "head": head}
            by_length = [value(rows, metric="iteration", length=n, **place) for n in (4, 5)]
            mean = value(rows, metric="iteration", split="mean", **place)
            sharp = [value(rows, metric="pointer_sharp_rows", length=n, **place) for n in (4, 5)]
            sharp_mean = value(rows, metric="pointer_sharp_rows", split="mean", **place)
            assert mean == pytest.approx(sum(by_length) / 2)
            assert sharp_mean == pytest.approx((4 * sharp[0] + 5 * sharp[1]) / 9)
            assert value(rows, metric="verdict", split="mean", **place) == attention.attention_verdict(mean, sharp_mean)


def test_a_fresh_model_is_the_control(sets):
    control = measure_control(CONFIG, 14, DATA, sets, seed=5)
    assert {r.split for r in control} == {"control"}
    assert max(r.value for r in control if r.metric == "iteration") < 0.6
    assert max(r.value for r in control if r.metric == "accuracy") < 0.5
    # near 1 before any training: invariance means nothing alone
    assert min(r.value for r in control if r.metric == "iteration_invariance") > 0.8


def test_without_chain_of_thought_there_is_no_iteration_score():
    data = DataConfig(max_length=4, chain_of_thought=False)
    params = init_params(CONFIG, len(data.vocabulary), 14, torch.Generator().manual_seed(0))
    found = {r.metric for r in measure(Model(params, CONFIG), data, eval_sets(data, 8))}
    assert "generated_accuracy" in found
    assert "pointer_weight" in found
    assert not found & {"iteration", "verdict"}


def test_tasks_that_are_only_mixed_in_are_not_measured():
    data = DataConfig.model_validate({"tasks": ["copy", "parity"], "task_weights": [0, 1], "max_length": 2})
    assert {str(s.task) for s in eval_sets(data, 8)} == {"parity"}


def test_training_strings_are_measured_apart_where_they_are_a_fixed_set():
    built = build(Parity())
    data = built.data.model_copy(update={"n_train_strings": 5})
    stream = TrainingStream(data, 3)
    sets = train_sets(stream)
    assert [test.length for test in sets] == list(data.lengths)
    for i, test in enumerate(sets):
        assert test.split == "train"
        assert torch.equal(test.tokens[:, 1 : test.length + 1], stream.strings[0, 0, i, :, : test.length])
    rows = measure_train(built.model, sets)
    assert {(row.split, row.metric, row.value) for row in rows} == {("train", "accuracy", 1.0)}
    assert train_sets(TrainingStream(built.data, 3)) == []


def test_what_is_measured_of_a_task_leaves_out_training_strings_and_control():
    rows = [(split, "parity", split) for split in ("train", "control", "test", "all", "mean")]
    table = pd.DataFrame(rows, columns=["split", "task", "value"])
    assert measured(table, "parity")["value"].tolist() == ["test", "all", "mean"]
