import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compo_mech.data.tables import run_tables, stack_tables
from compo_mech.data.tasks import (
    Automaton,
    Copy,
    Counter,
    Dihedral,
    Parity,
    Polynomial,
    Symmetric,
    Task,
)
from compo_mech.data.tokenizer import SymbolTokenizer
from compo_mech.data.vocabulary import Vocabulary

EVERY = (Copy(), Parity(), Polynomial(), Polynomial(modulus=5, coefficients=(2, 1, 3, 4), start="zero"),
         Polynomial(modulus=2, zero_inputs=True), Automaton(transitions=((1, 0), (2, 0), (2, 1)), start=2),
         Counter(modulus=5), Dihedral(n=3), Symmetric(n=3))  # fmt: skip


@pytest.mark.parametrize(
    ("task", "inputs", "states"),
    [
        (Polynomial(), [3, 4, 5], [3, 2, 0]),
        (Polynomial(start="zero"), [3, 4, 5], [1, 5, 4]),
        (Polynomial(modulus=7, coefficients=(1, 2, 3, 4), start="zero"), [1, 2], [0, 3]),
        (Parity(), [1, 0, 1, 1], [1, 1, 0, 1]),
        (Copy(), [1, 0, 1, 1], [1, 0, 1, 1]),
        (Counter(modulus=3), [2, 2, 1], [2, 1, 2]),
        (Automaton(transitions=((1, 0), (2, 0), (2, 1))), [0, 0, 1, 1], [1, 2, 1, 0]),
    ],
)
def test_worked_examples(task, inputs, states):
    assert task.states(torch.tensor(inputs)).tolist() == states


@pytest.mark.parametrize("task", EVERY, ids=str)
def test_states_iterate_the_rule(task):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(task.first_input, task.n_inputs, (50, 9), generator=generator)
    states = task.states(inputs)
    assert states.min() >= 0
    assert states.max() < task.n_states
    for x, s in zip(inputs.tolist(), states.tolist(), strict=True):
        state = task.start_state
        for t in range(9):
            state = x[t] if state is None else int(task.step(state, x[t]))
            assert state == s[t]


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("kind", [Dihedral, Symmetric])
def test_groups_are_groups(kind, n):
    task = kind(n=n)
    table = task.table[:-1]
    size = 2 * n if kind is Dihedral else math.factorial(n)
    assert table.shape == (size, size)
    everyone = torch.arange(size)
    assert torch.equal(table[0], everyone)
    assert torch.equal(table[:, 0], everyone)
    for line in (*table, *table.T):
        assert torch.equal(line.sort().values, everyone)
    a, b, c = (i.flatten() for i in torch.meshgrid(everyone, everyone, everyone, indexing="ij"))
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    assert not torch.equal(table, table.T)


def test_s5_has_120_elements():
    assert Symmetric(n=5).table.shape == (121, 120)


def test_symmetric_multiplies_permutations():
    elements = list(itertools.permutations(range(4)))
    table = Symmetric(n=4).table
    for s, x in [(3, 17), (22, 5), (9, 9)]:
        assert elements[table[s, x]] == tuple(elements[s][elements[x][i]] for i in range(4))


def test_a_counter_modulo_two_is_parity():
    assert torch.equal(Counter(modulus=2).table, Parity().table)


def test_stacked_tables_run_each_row_under_its_own_task():
    task = torch.arange(len(EVERY)).repeat(7)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.stack(
        [torch.randint(EVERY[i].first_input, EVERY[i].n_inputs, (6,), generator=generator) for i in task]
    )
    states = run_tables(stack_tables([task.table for task in EVERY]), task, inputs)
    for i, x, s in zip(task.tolist(), inputs, states, strict=True):
        assert torch.equal(EVERY[i].states(x), s)


@pytest.mark.parametrize("task", EVERY, ids=str)
def test_spelling_goes_both_ways(task):
    assert Task.read(str(task)) == task


@given(st.integers(2, 30), st.tuples(*[st.integers(-5, 5)] * 4))
def test_spelling_of_any_polynomial(modulus, coefficients):
    task = Polynomial(modulus=modulus, coefficients=coefficients)
    assert Task.read(str(task)) == task


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("walk", "must be one of"),
        ("parity(modulus=2)", "modulus = 2: there is no such setting"),
        ("polynomial(modulus=1)", "modulus = 1"),
        ("polynomial(7)", "must be written as"),
        ("automaton", "transitions"),
        ("automaton(transitions=((0, 1), (1,)))", "transitions"),
        ("automaton(transitions=((0, 2), (1, 0)))", "next states must be 0 .. 1"),
        ("automaton(transitions=((0, 1), (1, 0)), start=2)", "start = 2"),
        ("__import__('os')", "must be"),
        ("", "must be written as"),
        ("polynomial(modulus=5, modulus=7)", "must set modulus once"),
        (f"polynomial(modulus={'9' * 600})", f"modulus = {'9' * 59}…: must be less than or equal to 2048"),
        ("9" * 600, f"task = '…{'9' * 59}': must be written as"),
        ("parity(modulus={[]: 1})", "must be written as"),
        ("-" * 30_000 + "1", "must be nested less deep"),
        ("-" * 100_000 + "1", "must be nested less deep"),
        ("polynomial(modulus=" + "-" * 30_000 + "1)", "must be nested less deep"),
    ],
    ids=lambda words: words[:30],
)
def test_bad_spellings_are_named_in_one_line(text, complaint):
    with pytest.raises(ValueError, match="task") as caught:
        Task.read(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (torch.tensor([[1.0, 0.0]]), r"2-d, of torch\.float32: must be a tensor of integers"),
        (torch.tensor([[1.0, torch.nan]]), r"2-d, of torch\.float32: must be"),
        (torch.tensor([[True, False]]), r"2-d, of torch\.bool: must be"),
        (torch.tensor(1), r"0-d, of torch\.int64: must be"),
        ([[1, 0]], "a list: must be a tensor of integers"),
        (torch.tensor([[1, 2]]), "2: must be 0 .. 1 in parity"),
    ],
)
def test_what_is_no_string_of_inputs_is_refused_in_one_line(inputs, complaint):
    """Integers of any size are inputs."""
    assert Parity().states(torch.tensor([[1, 1, 0]], dtype=torch.int32)).tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match=f"^inputs = {complaint}[^\n]*$"):
        Parity().states(inputs)


def test_symbols_with_blanks_come_back_as_they_went():
    tasks = (Polynomial(modulus=5, zero_inputs=True), Polynomial(modulus=5), Automaton(transitions=((0, 1), (1, 0))))
    tokenizer = SymbolTokenizer(Vocabulary(tasks))
    ids = list(range(len(tokenizer.vocabulary)))
    assert tokenizer.encode(tokenizer.decode(ids)) == ids
    assert tokenizer.encode("[polynomial(modulus=5, zero_inputs=True)]  1 1\t[EoI]") == [8, 1, 1, 5]
    for wrong in ("[polynomial(modulus=5, zero_inputs=True)]1", "1[polynomial(modulus=5, zero_inputs=True)]"):
        with pytest.raises(ValueError, match="must be"):
            tokenizer.encode(wrong)
