"""What the study of a language model asks: its strings, guesses, heads at random, and units that are kept."""

import pandas as pd
import pytest
import torch
from helpers import generator
from rich.console import Console

from compo_mech.pretrained import FORMS, TASKS, drawn_lines
from compo_mech.studies.language_accuracy import BASELINES, N_SCORED, n_right
from compo_mech.studies.language_circuit import bootstrap
from compo_mech.studies.language_heads import CARRYING, found_sets, random_heads
from compo_mech.studies.language_pointer import SHIFT, lines_of_kind
from compo_mech.studies.language_summary import summary
from compo_mech.studies.language_units import measured

QUIET = Console(quiet=True)


def test_states_of_lines_follow_their_rules():
    rules = {
        "copy digits": lambda s, x: x,
        "copy bits": lambda s, x: x,
        "parity": lambda s, x: s ^ x,
        "running maximum": max,
        "sum mod 10": lambda s, x: (s + x) % 10,
    }
    for name, rule in rules.items():
        for inputs, states in drawn_lines(TASKS[name], 20, 6, generator()):
            before = 0
            for x, state in zip(inputs, states, strict=True):
                before = rule(before, x)
                assert state == before
        (inputs, states), *_ = drawn_lines(TASKS[name], 1, 6, generator())
        (again, last), *_ = drawn_lines(TASKS[name], 1, 6, generator(), chain_of_thought=False)
        assert (again, last) == (inputs, states[-1:])
    assert FORMS["words"].line([3, 1], [3, 4]) == "Input: 3 1\nOutput: 3 4\n\n"


def test_guesses_are_worth_what_they_are_by_hand():
    shown = [([0], [7])] * 3 + [([0], [2])]
    scored = [([2, 3, 3], [2, 7, 7])] + [([7, 1, 7], [7, 7, 7])] * (N_SCORED - 1)
    right = {name: n_right([*shown, *scored], guess) for name, guess in BASELINES.items()}
    rest = N_SCORED - 1
    assert right == {
        "most frequent state": [2] + [3] * rest,
        "repeat the last state": [1] + [3] * rest,  # the first is guessed to be the most frequent one
        "copy x_t": [1] + [2] * rest,
    }
    at_once = [([0], [1])] + [([1, 0, 1], [1])] * N_SCORED
    assert n_right(at_once, BASELINES["copy x_t"]) == [1] * N_SCORED


@pytest.mark.parametrize("length", [6, 9])
def test_lines_tell_content_from_position(length):
    draws = generator()
    for _ in range(50):
        inputs, states = lines_of_kind("distinct", length, draws)
        assert (len(set(inputs)), states) == (length, inputs)
        inputs, states = lines_of_kind("shifted", length, draws)
        assert (len(set(inputs)), states) == (length, inputs[SHIFT:])
        inputs, states = lines_of_kind("repeated", length, draws)
        (twice,) = [x for x in set(inputs) if inputs.count(x) == 2]
        first, second = (i for i, x in enumerate(inputs) if x == twice)
        assert (len(set(inputs)), states) == (length - 1, inputs)
        assert first + 1 < second < length - 1


def test_heads_at_random_are_of_the_same_layers_and_none_of_those_that_carry():
    draws = generator()
    drawn = [random_heads(9, draws) for _ in range(200)]
    assert all([layer for layer, _ in heads] == [layer for layer, _ in CARRYING] for heads in drawn)
    assert not {head for heads in drawn for head in heads} & set(CARRYING)
    assert len({tuple(heads) for heads in drawn}) > 100


def test_found_sets_are_the_heads_that_move_most():
    moved = {"L3H1": 0.2, "L10H0": 0.9, "L0H8": -0.5}
    rows = [
        {"measure": "logits moved alone", "component": name, "value": value + d}
        for d in (-0.1, 0.1)
        for name, value in moved.items()
    ]
    rows += [
        {"measure": "weight on x_t", "component": "L0H8", "value": 99.0},
        {"measure": "logits moved alone", "component": "L3H1"},
    ]
    assert found_sets(pd.DataFrame(rows), (1, 2)) == {"best 1": [(10, 0)], "best 2": [(10, 0), (3, 1)]}


def test_units_are_measured_once_and_one_that_breaks_leaves_nothing(tmp_path):
    calls = []

    def unit(name, fails=False):
        def measure():
            calls.append(name)
            if fails:
                raise KeyboardInterrupt
            return [{"measure": "m", "value": float(len(calls)), "n": 2}]

        return measure

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, "part", {"a": unit("a"), "b": unit("b", fails=True), "c": unit("c")}, QUIET)
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["a.csv"]
    table = measured(tmp_path, "part", {name: unit(name) for name in "abc"}, QUIET)
    assert calls == ["a", "b", "b", "c"]
    assert table[["part", "unit", "value"]].to_numpy().tolist() == [
        ["part", "a", 1.0],
        ["part", "b", 3.0],
        ["part", "c", 4.0],
    ]


def test_a_bootstrap_of_equal_prompts_overlaps_wholly_and_of_unlike_ones_less():
    scores = torch.rand(1, 40, generator=generator())
    assert bootstrap(scores.expand(6, -1), 5, generator()) == (1.0, 1.0, 1.0)
    unlike = bootstrap(torch.eye(6).repeat(1, 10), 5, generator())
    assert unlike.low < unlike.mean < 1


def test_a_summary_counts_over_prompts_and_draws_whole_prompts():
    rows = [("a", "plain", 1, 2), ("b", "plain", 3, 6), ("c", "words", 0, 2)]
    table = pd.DataFrame(rows, columns=["unit", "form", "value", "n"]).assign(measure="carried", component="L0H0")
    found = summary(table).set_index("form")
    assert found["value"].tolist() == [0.5, 0.0, 0.4]  # plain, words, all: 4 of 10
    assert found.loc["plain", ["low", "high", "n_units"]].tolist() == [0.5, 0.5, 2]  # both have a half right
    assert found.loc["words", ["low", "high"]].isna().all()  # one prompt has no interval
    assert found.loc["all", ["low", "high"]].tolist() == [0.0, 0.5]
    mean = summary(table.assign(measure="weight on x_t", value=[0.2, 0.4, 0.9]))
    assert mean["value"].round(6).tolist() == [0.3, 0.9, 0.5]  # means of prompts, however many answers they have
