import ast
from pathlib import Path

import pytest
import torch

import compo_mech
from compo_mech.data.config import DataConfig
from compo_mech.data.encode import Encoder, encode
from compo_mech.data.tasks import Copy, Parity

DATA = DataConfig(tasks=(Parity(), Copy()))
INPUTS = torch.tensor([[1, 0, 1], [1, 1, 0]])


def symbols(data, row):
    return " ".join(data.vocabulary.decode(row.tolist()))


def test_a_row_is_the_task_its_inputs_and_its_states():
    rows = encode(DATA, Parity(), INPUTS).tokens
    assert symbols(DATA, rows[0]) == "[parity] 1 0 1 [EoI] 1 1 0 [EoS]"
    assert symbols(DATA, rows[1]) == "[parity] 1 1 0 [EoI] 1 0 0 [EoS]"
    assert symbols(DATA, encode(DATA, Copy(), INPUTS).tokens[0]) == "[copy] 1 0 1 [EoI] 1 0 1 [EoS]"


def test_shorter_strings_go_on_with_the_last_token():
    rows = encode(DATA, Parity(), INPUTS, torch.tensor([2, 3])).tokens
    assert symbols(DATA, rows[0]) == "[parity] 1 0 [EoI] 1 1 [EoS] [EoS] [EoS]"


def test_states_may_be_others_than_the_task_s():
    rows = encode(DATA, Parity(), INPUTS, states=torch.zeros_like(INPUTS)).tokens
    assert symbols(DATA, rows[0]) == "[parity] 1 0 1 [EoI] 0 0 0 [EoS]"


def test_rows_without_task_tokens_or_chain_of_thought():
    bare = DataConfig(task_token=False, chain_of_thought=False)
    assert symbols(bare, encode(bare, Parity(), INPUTS).tokens[0]) == "[BoS] 1 0 1 [EoI] 0 [EoS]"


def test_all_but_the_last_token_is_read():
    strings = encode(DATA, Parity(), INPUTS)
    assert torch.equal(strings.read, strings.tokens[:, : DATA.layout.n_read(3)])
    assert strings.position_ids.tolist() == [list(range(8))] * 2


def test_rows_of_several_tasks_are_those_of_each():
    task = torch.tensor([1, 0])
    states = torch.stack([Copy().states(INPUTS)[0], Parity().states(INPUTS)[1]])
    mixed = Encoder(DATA).tokens(task, INPUTS, states, torch.tensor([3, 3]))
    assert torch.equal(mixed[0], encode(DATA, Copy(), INPUTS).tokens[0])
    assert torch.equal(mixed[1], encode(DATA, Parity(), INPUTS).tokens[1])


def test_a_task_that_is_not_the_data_s_is_refused():
    with pytest.raises(ValueError, match=r"task = copy: must be one of parity"):
        encode(DataConfig(), Copy(), INPUTS)


def test_nothing_else_assembles_rows():
    root = Path(compo_mech.__file__).parent
    callers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "assemble"
    }
    assert callers == {"data/encode.py"}
