import pytest
import torch
from helpers import pairs_of

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Automaton, Parity, Polynomial
from compo_mech.interventions.pairs import Switch

DATA = DataConfig(tasks=(Polynomial(modulus=5),), min_length=2, max_length=6)
WORDS = DATA.vocabulary


def parse(row):
    """Length, inputs and states of a row."""
    row = row.tolist()
    end = row.index(WORDS.end_of_input_id)
    states = row[end + 1 :]
    states = states[: states.index(WORDS.end_of_states_id)] if WORDS.end_of_states_id in states else states
    return end - 1, row[1:end], states


def test_clean_rows_are_rows_of_the_task_and_scored_where_they_should_be():
    pairs = pairs_of(DATA, Switch.TOKEN, 200)
    scored = {}
    for row, position, target in zip(pairs.row.tolist(), pairs.position.tolist(), pairs.target.tolist(), strict=True):
        scored.setdefault(row, []).append((position, target))
    for i, row in enumerate(pairs.clean_tokens):
        length, inputs, states = parse(row)
        assert states == DATA.tasks[0].states(torch.tensor(inputs)).tolist()
        expected = list(zip(range(length + 1, 2 * length + 2), [*states, WORDS.end_of_states_id], strict=True))
        assert scored[i] == expected


def test_each_switch_moves_what_it_says_and_nothing_else():
    pairs = pairs_of(DATA, Switch.TOKEN, 200)
    assert torch.equal(pairs.clean_position_ids, pairs.corrupt_position_ids)
    for clean, corrupt in zip(pairs.clean_tokens, pairs.corrupt_tokens, strict=True):
        assert parse(clean)[0] == parse(corrupt)[0]

    pairs = pairs_of(DATA, Switch.LENGTH, 200)
    for clean, corrupt in zip(pairs.clean_tokens, pairs.corrupt_tokens, strict=True):
        (a, _, _), (b, inputs, states) = parse(clean), parse(corrupt)
        assert a != b
        assert states == DATA.tasks[0].states(torch.tensor(inputs)).tolist()

    pairs = pairs_of(DATA, Switch.SHIFT, 200)
    assert torch.equal(pairs.clean_tokens, pairs.corrupt_tokens)
    shift = pairs.corrupt_position_ids - pairs.clean_position_ids
    assert set(shift.flatten().tolist()) == {1, 2, 3, 4}
    assert (shift == shift[:, :1]).all()

    pairs = pairs_of(DATA, Switch.STATE, 200)
    for clean, corrupt in zip(pairs.clean_tokens, pairs.corrupt_tokens, strict=True):
        (a, x, s), (b, y, r) = parse(clean), parse(corrupt)
        assert (a, x) == (b, y)
        assert all(i != j and j < 5 for i, j in zip(s, r, strict=True))

    pairs = pairs_of(DATA, Switch.END, 200)
    for clean, corrupt in zip(pairs.clean_tokens, pairs.corrupt_tokens, strict=True):
        end = clean.tolist().index(WORDS.end_of_input_id)
        assert corrupt.tolist().index(WORDS.end_of_input_id) == end - 1
        assert corrupt[end] == clean[end - 1]
        assert torch.equal(corrupt[end + 1 :], clean[end + 1 :])
        assert torch.equal(corrupt[: end - 1], clean[: end - 1])


def test_switches_go_together():
    pairs = pairs_of(DATA, Switch.LENGTH | Switch.SHIFT, 200)
    assert (pairs.corrupt_position_ids > pairs.clean_position_ids).all()
    assert all(parse(a)[0] != parse(b)[0] for a, b in zip(pairs.clean_tokens, pairs.corrupt_tokens, strict=True))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="switch = none"):
        pairs_of(DATA, Switch(0), 200)
    with pytest.raises(ValueError, match="more than one length"):
        pairs_of(DataConfig(tasks=(Parity(),), min_length=3, max_length=3), Switch.LENGTH)
    alone = DataConfig(tasks=(Automaton(transitions=((0, 0),)),), max_length=3)
    with pytest.raises(ValueError, match=r"^switch = STATE: automaton.* must have more than one state$"):
        pairs_of(alone, Switch.STATE | Switch.TOKEN)
    assert len(pairs_of(alone, Switch.TOKEN).row)
