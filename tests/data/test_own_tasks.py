"""A task of one's own is checked when it is defined and when it becomes a setting."""

import itertools
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field

from compo_mech.data.config import DataConfig
from compo_mech.data.rule import rule_checksum
from compo_mech.data.tasks import Automaton, Copy, Parity, Symmetric, Task


def given(size, default):
    return property(lambda self: self.sizes.get(size, default))


class Own(Task):
    """Three states and as many inputs, under a rule that each test gives."""

    name: ClassVar[str] = "given_by_a_test"
    rule: ClassVar[Any]
    sizes: ClassVar[dict[str, Any]] = {}
    n_states, n_inputs = given("n_states", 3), given("n_inputs", 3)
    first_input, start_state = given("first_input", 0), given("start_state", 0)

    def step(self, state, x):
        return type(self).rule(state, x)


def ruled(rule, **sizes):
    """`Own` under this rule, defined anew so that no table of another rule is at hand."""

    class Ruled(Own):
        name: ClassVar[str] = "ruled"

    Ruled.rule, Ruled.sizes = staticmethod(rule), sizes
    return Ruled()


CALLS = itertools.count()


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (lambda state, x: state + x, r"step\(1, 2\) = 3 of ruled: must be a state, 0 \.\. 2"),
        (lambda state, x: state - x, r"step\(0, 1\) = -1 of ruled: must be a state"),
        (lambda state, x: max(state, x) + 1, r"step\(0, 2\) = 3 of ruled"),
        (lambda state, x: state / 2, r"step\(0, 0\) = 0\.0 of ruled: must be an integer"),
        (lambda state, x: torch.full_like(state, 0.5, dtype=torch.float), "must be a state"),
        (lambda state, x: None, r"step\(0, 0\) = None of ruled: must be an integer"),
        (lambda state, x: {}[0], r"step\(0, 0\) = KeyError: 0 of ruled: must be a state"),
        (lambda state, x: torch.arange(4).view(2, 2), r"step\(0, 0\) = tensor\(.* of ruled: must be an integer"),
        (lambda state, x: torch.randint(3, state.shape), "must depend on nothing but"),
        (lambda state, x: random.randrange(3), "must depend on nothing but"),
        (lambda state, x: next(CALLS) % 2 if x == 1 else 0, "must depend on nothing but"),
    ],
)
def test_a_rule_that_gives_no_states_is_refused(rule, complaint):
    task = ruled(rule)
    for use in (lambda: DataConfig(tasks=(task,)), lambda: task.table, lambda: task.states(torch.tensor([[1, 2]]))):
        with pytest.raises(ValueError, match=complaint) as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        (lambda state, x: (state + x) % 3, [1, 2, 0]),
        (lambda state, x: max(state, x), [1, 1, 2]),  # of integers alone
        (lambda state, x: x if state == 1 else 0, [0, 1, 2]),
        (lambda state, x: state < x, [0, 0, 1]),
        (lambda state, x: 2, [2, 2, 2]),
        (lambda state, x: np.arange(9).reshape(3, 3)[int(x), int(state)] % 3, [1, 1, 1]),
        (lambda state, x: np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]])[state, x] == 1, [1, 0, 1]),  # numpy's own bools
        (lambda state, x: (state + x).to(torch.int8) % 3, [1, 2, 0]),
        (lambda state, x: (state.mul_(2) - x) % 3, [2, 1, 0]),  # of tensors alone, which it changes
        (lambda state, x: torch.where(x == 2, 0, state), [1, 1, 0]),
        # in none of these is a tensor what an integer is
        (lambda state, x: 0 if x in {1, 2} else state, [1, 0, 0]),
        (lambda state, x: {(1, 0): 2, (1, 1): 0}.get((state, x), state), [2, 0, 1]),
        (lambda state, x: len({state, x}), [2, 1, 2]),
        (lambda state, x: {"10": 2, "11": 1}.get(f"{state}{x}", 0), [2, 1, 0]),
        (lambda state, x: 7 ** (30 + state + x) % 3, [1, 1, 1]),
        (lambda state, x: 2 ** (99 * x + state) % 3, [2, 1, 2]),
    ],
)
def test_rules_written_in_any_way_are_taken_at_their_word(rule, row):
    assert ruled(rule).table[1].tolist() == row


@pytest.mark.parametrize("sizes", [{"n_states": 1, "n_inputs": 2}, {"n_inputs": 1}])
def test_a_task_may_have_one_state_or_one_input(sizes):
    table = ruled(lambda state, x: 0, **sizes).table  # of each state, and of the start
    assert table.tolist() == [[0] * sizes["n_inputs"]] * (sizes.get("n_states", 3) + 1)


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"n_states": 3.0}, r"n_states = 3\.0 of ruled: must be an integer of at least 1"),
        ({"n_states": 0}, "n_states = 0"),
        ({"n_inputs": -2}, "n_inputs = -2"),
        ({"n_inputs": True}, "n_inputs = True"),
        ({"first_input": 3}, r"first_input = 3 of ruled: must be an input, 0 \.\. 2"),
        ({"start_state": 5}, r"start_state = 5 of ruled: must be a state, 0 \.\. 2"),
        ({"start_state": "0"}, "start_state = '0'"),
        ({"start_state": None, "n_inputs": 4}, "n_inputs = 4 of ruled: must be at most 3"),
        (
            {"n_states": 10**6, "n_inputs": 10**6},
            "tasks = ruled: its rule has 1000000000000 entries, must have at most 4194304",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        DataConfig(tasks=(ruled(lambda state, x: 0 * state, **sizes),))


def test_a_rule_need_not_know_what_is_never_drawn():
    task = ruled(lambda state, x: (state + 2) // x % 3, first_input=1)
    assert task.table[:, 1:].tolist() == [[2, 1], [0, 1], [1, 2], [2, 1]]
    assert DataConfig(tasks=(task,)).tasks == (task,)


@pytest.mark.parametrize("inputs", [[0, 2], [-1, 0]])
def test_what_is_no_input_is_refused(inputs):
    with pytest.raises(ValueError, match=rf"inputs = {min(inputs) if min(inputs) < 0 else 2}: must be 0 \.\. 1"):
        Parity().states(torch.tensor(inputs))


def test_a_table_is_its_callers_own():
    for task in (Parity(), Symmetric(n=3), Automaton(transitions=((1, 0), (0, 1)))):
        before = task.table.clone()
        task.table.fill_(0)
        task.table[:] += 1
        torch.as_tensor(task.step(1, 1)).add_(1)
        assert torch.equal(task.table, before)
        assert task.step(1, 1) == before[1, 1]


def test_a_taken_name_is_refused_and_means_what_it_meant():
    with pytest.raises(ValueError, match=r"name = 'parity': must be another in .*Mine, since compo_mech\..*Parity has"):

        class Mine(Copy):
            name: ClassVar[str] = "parity"

    class First(Copy):
        name: ClassVar[str] = "first"

    with pytest.raises(ValueError, match="name = 'first': must be another in"):

        class Second(Parity):
            name: ClassVar[str] = "first"

    assert type(Task.read("parity")) is Parity
    assert Task.read("first") == First()


@pytest.mark.parametrize("name", ["two words", "a/b", "7", "", "lambda", "naïve", 3, None, "a.b", "a(b)"])
def test_a_name_that_cannot_be_read_is_refused(name):
    with pytest.raises(ValueError, match="must be an identifier"):
        type("Named", (Copy,), {"name": name, "__module__": __name__, "__annotations__": {"name": ClassVar[object]}})


def test_a_class_needs_a_name_of_its_own():
    with pytest.raises(ValueError, match=r"name = None: must be an identifier, set in .*Nameless itself"):

        class Nameless(Parity):
            pass


def test_a_class_below_a_class_below_is_read_back():
    class Base(Task):
        """Abstract: it needs no name."""

        size: int = Field(default=2, ge=2)

        @property
        def n_states(self):
            return self.size

    class Middle(Base):
        name: ClassVar[str] = "middle"

        def step(self, state, x):
            return (state + x) % self.size

    class Leaf(Middle):
        name: ClassVar[str] = "leaf"

        def step(self, state, x):
            return x

    for task in (Middle(size=4), Leaf(), Leaf(size=3)):
        assert Task.read(str(task)) == task
        assert DataConfig(tasks=(str(task),)).tasks == (task,)


def test_a_class_that_is_defined_again_takes_its_place():
    def define(shift):
        class Again(Task):
            name: ClassVar[str] = "again"

            @property
            def n_states(self):
                return 2

            def step(self, state, x):
                return (state + x + shift) % 2

        return Again()

    old, new = define(0), define(1)
    assert Task.read("again") == new
    assert rule_checksum(old) != rule_checksum(new)
    with pytest.raises(ValueError, match="task = again: must be what its spelling gives back, but that is another"):
        DataConfig(tasks=(old,))


def test_settings_that_cannot_be_spelled_are_refused():
    class Odd(Copy):
        name: ClassVar[str] = "odd"
        where: Path = Path("a")
        given: int = Field(default=1, alias="called")
        many: list[int] | tuple[int | list[int], ...] = ()

    assert DataConfig(tasks=(Odd(),)).tasks == (Odd(),)
    for odd, complaint in (
        (Odd(where=Path("b")), "must be what its spelling gives back, but"),
        (Odd(called=2), "must be what its spelling gives back, but"),
        (Odd(many=[1]), r"many = \[1\] of odd\(many=\[1\]\): must be fixed, such as a tuple"),
        (Odd(many=(1, [2])), r"many = \(1, \[2\]\) of odd\(many=\(1, \[2\]\)\): must be fixed, such as a tuple"),
    ):
        with pytest.raises(ValueError, match=complaint):
            DataConfig(tasks=(odd,))


@pytest.mark.parametrize("attribute", ["states", "table"])
def test_what_the_rule_decides_is_left_alone(attribute):
    with pytest.raises(ValueError, match=f"{attribute} = of .*Beside: must be left alone"):

        class Beside(Copy):
            name: ClassVar[str] = "beside"
            locals()[attribute] = property(lambda self: None)

    with pytest.raises(ValueError, match="task = 'beside': must be one of"):
        Task.read("beside")


def test_no_task_has_the_token_of_another_thing():
    class End(Copy):
        name: ClassVar[str] = "EoS"

    with pytest.raises(ValueError, match=r"tasks = EoS: must not have the token \[EoS\]"):
        DataConfig(tasks=(End(),))
