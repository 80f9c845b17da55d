"""Fine-tuning changes what it says, scores the right rows, and goes on to the bit; the control is of the same shape."""

import torch
from helpers import generator

from compo_mech.data import Parity, is_test_string
from compo_mech.pretrained.control import control_of
from compo_mech.pretrained.fine_tuning import (
    answer_logits,
    fine_tune,
    n_right,
    read_strings,
    split_strings,
    starting_state,
    string_rows,
    trained,
)

FIRST = 1


def weights_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_answers_are_the_states_and_the_line_break(model):
    rows = string_rows(model, Parity(), torch.tensor([[1, 0, 1], [1, 1, 1]]))
    assert ["".join(model.tokenizer.convert_ids_to_tokens(row)) for row in rows.tolist()] == ["101=110\n", "111=101\n"]
    with torch.no_grad():
        whole = model(rows)
        _, stream = read_strings(model, Parity(), torch.tensor([[1, 0, 1], [1, 1, 1]]), FIRST)
        for found in (answer_logits(model, rows), answer_logits(model, rows, FIRST, stream)):
            torch.testing.assert_close(found, whole[:, 3:7], rtol=0, atol=2e-4)  # the rows of = 1 1 0, for one
        right = (whole[:, 3:6].argmax(-1) == rows[:, 4:7]).sum()
    assert n_right(model, rows, stream, FIRST) == (right, 6)


def test_strings_are_split_where_there_are_enough():
    for length in (6, 8):
        train, test = (split_strings(Parity(), length, test=which) for which in (False, True))
        assert len(train) + len(test) == 2**length
        assert is_test_string(test, torch.full((len(test),), length)).all()
    assert len(split_strings(Parity(), 5, test=True)) == len(split_strings(Parity(), 5, test=False)) == 32


def test_only_the_blocks_from_the_first_layer_on_change_and_the_loss_falls(fresh_model):
    before, state = weights_of(fresh_model), starting_state(fresh_model, FIRST, generator())
    losses = [loss for _, loss in fine_tune(fresh_model, state, Parity(), (2, 3), FIRST, 60, lr=3e-3)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    changed = {name for name, weight in weights_of(fresh_model).items() if not torch.equal(weight, before[name])}
    assert changed == set(trained(fresh_model, FIRST))
    assert {name.split(".")[1] for name in changed} == {"1", "2"}


def test_what_was_broken_off_goes_on_to_the_bit(fresh_model):
    def steps(state, n_steps):
        return list(fine_tune(fresh_model, state, Parity(), (2, 3), FIRST, n_steps))

    start = weights_of(fresh_model)
    whole = steps(starting_state(fresh_model, FIRST, generator()), 6)
    end = weights_of(fresh_model)
    fresh_model.load_state_dict(start, strict=False)
    first = starting_state(fresh_model, FIRST, generator())
    begun = steps(first, 3)
    second = starting_state(fresh_model, FIRST, generator(99))
    second.load_tensors(first.tensors())
    second.step = first.step
    assert begun + steps(second, 6) == whole
    assert all(torch.equal(weight, end[name]) for name, weight in weights_of(fresh_model).items())


def test_the_control_is_of_the_same_shape_and_nobody_trained_it(model):
    control = control_of(model, generator(1))
    for name, weight in weights_of(control).items():
        last = name.split(".")[-1]
        assert weight.shape == weights_of(model)[name].shape
        if "W" in last:
            assert abs(float(weight.std()) * 32**0.5 - 0.8) < 0.15
        else:
            assert (weight == (last == "w")).all()
    again, other = (weights_of(control_of(model, generator(seed)))["embed.W_E"] for seed in (1, 2))
    assert torch.equal(again, control.W_E)
    assert not torch.equal(other, control.W_E)
