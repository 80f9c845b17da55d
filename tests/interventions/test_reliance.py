"""Which tokens answers depend on, on circuits whose truth is known, and against loops over a HookedTransformer."""

import pytest
import torch
from helpers import generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.interventions import token_reliance as module
from compo_mech.interventions.token_reliance import reliance
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked

LENGTH = 5


def of_build(built, task, n_strings=32):
    return reliance(built.model, built.data, task, LENGTH, generator(), n_strings)


def test_the_textbook_circuit_goes_by_the_state_and_by_x_t():
    found = of_build(build(Parity(), max_length=LENGTH), Parity())
    assert found.changed == {"x_t": 1, "earlier inputs": 0, "later inputs": 0, "s_t-1": 1, "earlier states": 0}
    assert (found.carried, found.n_moved) == ({}, 0)
    assert found.n_right == found.n == 32 * LENGTH


def test_copy_forgets_the_state():
    changed = of_build(build(Copy(), max_length=LENGTH), Copy()).changed
    assert changed == {"x_t": 1, "earlier inputs": 0, "later inputs": 0, "s_t-1": 0, "earlier states": 0}


@pytest.mark.parametrize(("name", "place"), [("prefix sums", "later inputs"), ("prefix counts", "its own position")])
def test_prefixes_are_added_up_where_the_circuit_does_so(name, place):
    """Sums stand at x_t, where layer 0 has made them; counts are made by the last layer, of inputs where they stand."""
    found = of_build(build_hard_case(name, Parity(), LENGTH), Parity())
    assert found.changed == {"x_t": 1, "earlier inputs": 1, "later inputs": 0, "s_t-1": 0, "earlier states": 0}
    expected = dict.fromkeys(("its own position", "later inputs", "[EoI] and states", "the row"), 0) | {place: 1}
    assert found.carried == expected
    assert found.n_moved == 32 * LENGTH * (LENGTH - 1) // 2


def looped(hooked, data, n_strings):
    """The slow twin: string by string and place by place, with hooks."""
    inputs = torch.randint(0, 2, (n_strings, LENGTH), generator=generator())
    states, layout = Parity().states(inputs), data.layout
    rows = list(layout.scored(LENGTH))[:-1]
    of_rows = {int(layout.predicted(row, LENGTH)): row for row in rows}
    name = f"blocks.{hooked.cfg.n_layers - 2}.hook_resid_post"
    changed, carried = {}, {}

    def answers(tokens, hooks=()):
        return hooked.run_with_hooks(tokens, fwd_hooks=list(hooks))[0].argmax(-1)

    for tokens, own in zip(encode(data, Parity(), inputs).read, states, strict=True):
        tokens = tokens[None]
        before = answers(tokens)
        places = [(p, i + 1, True) for i, p in enumerate(layout.inputs(LENGTH))]
        places += [(p, i + 1, False) for i, p in enumerate(layout.states(LENGTH))] if data.chain_of_thought else []
        for position, number, is_input in places:
            other = tokens.clone()
            other[0, position] = 1 - other[0, position]
            after = answers(other)
            _, cache = hooked.run_with_cache(other, names_filter=name)
            answers_by_place = {}  # the same for every row
            for t, row in of_rows.items():
                if before[row] != own[t - 1] or position > row:
                    continue
                if is_input:
                    kind = "x_t" if number == t else "earlier inputs" if number < t else "later inputs"
                else:
                    kind = "s_t-1" if number == t - 1 else "earlier states"
                changed.setdefault(kind, []).append(bool(after[row] != before[row]))
                if kind != "earlier inputs" or after[row] == before[row]:
                    continue
                for place, taken in {
                    "its own position": [position],
                    "later inputs": [p for p in layout.inputs(LENGTH) if p > position],
                    "[EoI] and states": list(range(layout.end_of_input(LENGTH), row)),
                    "the row": [row],
                }.items():
                    if not taken:
                        continue

                    def put(stream, hook, taken=taken, cache=cache):
                        stream[:, taken] = cache[name][:, taken]
                        return stream

                    if (key := tuple(taken)) not in answers_by_place:
                        answers_by_place[key] = answers(tokens, [(name, put)])
                    found = answers_by_place[key]
                    carried.setdefault(place, []).append(bool(found[row] != before[row]))
    return [{key: sum(v) / len(v) for key, v in found.items()} for found in (changed, carried)]


@pytest.mark.parametrize("chain_of_thought", [True, False])
def test_fractions_are_those_of_a_loop(chain_of_thought):
    data = DataConfig(max_length=LENGTH, chain_of_thought=chain_of_thought)
    config = ModelConfig(d_model=16, n_layers=3, n_heads=2, biases=True)
    model = random_model(config, data, seed=4)
    for name, param in model.params.items():
        if name.split(".")[-1] in ("W_V", "W_O", "W_in", "W_out"):
            param *= 6  # so that answers depend on inputs
    model.params["unembed.b_U"][:] = torch.tensor([0.0, 0.0, *[-100.0] * (len(data.vocabulary) - 2)])  # states only
    found = reliance(model, data, Parity(), LENGTH, generator(), 12)
    with torch.no_grad():
        changed, carried = looped(to_hooked(model), data, 12)
    assert 0 < found.n_right < found.n
    assert found.n_moved > 0
    assert found.changed == pytest.approx(changed)
    assert found.carried == pytest.approx(carried)
    assert sum(found.carried.values()) > 0


def test_one_layer_has_nothing_before_the_last():
    data = DataConfig(max_length=LENGTH)
    model = random_model(ModelConfig(d_model=8, n_layers=1, n_heads=1), data)
    assert reliance(model, data, Parity(), LENGTH, generator(), 8).carried == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"length": LENGTH + 1}, "length = 6: must be one that training asks about: 1, 2, 3, 4, 5"),
        ({"n_strings": 0}, "n_strings = 0: must be at least 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, words):
    built = build(Parity(), max_length=LENGTH)
    with pytest.raises(ValueError, match=words):
        reliance(**{"model": built.model, "data": built.data, "task": Parity(), "length": LENGTH} | changes,
                 generator=generator())  # fmt: skip


def test_attention_both_ways_and_numbers_that_are_none_are_refused():
    data = DataConfig(max_length=LENGTH)
    both_ways = random_model(ModelConfig(d_model=8, attention_dir="bidirectional"), data)
    with pytest.raises(ValueError, match="attention_dir = bidirectional"):
        reliance(both_ways, data, Parity(), LENGTH, generator(), 4)
    broken = random_model(ModelConfig(d_model=8), data)
    broken.params["blocks.0.mlp.W_in"][0, 0] = float("nan")
    with pytest.raises(ValueError, match="W_in"):
        reliance(broken, data, Parity(), LENGTH, generator(), 4)


def test_every_other_token_is_as_likely():
    tokens, task = torch.full((600, 1), 2), Polynomial(modulus=5)
    assert (task.first_input, task.n_inputs, task.n_states) == (1, 5, 5)
    seen = module._replaced(tokens, 0, task, True, generator())[:, 0].bincount(minlength=5)
    assert seen[[0, 2]].tolist() == [0, 0]  # 0 is no input here, 2 is the token itself
    assert (seen[[1, 3, 4]] > 150).all()
    seen = module._replaced(tokens, 0, task, False, generator())[:, 0].bincount(minlength=5)
    assert (seen > 100).tolist() == [True, True, False, True, True]
