import pytest

from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.data.vocabulary import Vocabulary

WORDS = Vocabulary((Parity(), Polynomial(modulus=5), Copy()))


def test_values_come_first_then_specials_then_tasks():
    assert WORDS.symbols == (
        "0", "1", "2", "3", "4", "[EoI]", "[EoS]", "[BoS]", "[parity]", "[polynomial(modulus=5)]", "[copy]",
    )  # fmt: skip
    assert (WORDS.end_of_input_id, WORDS.end_of_states_id, WORDS.beginning_id) == (5, 6, 7)
    assert [WORDS.task_token(task) for task in WORDS.tasks] == [8, 9, 10]


def test_both_ways():
    ids = list(range(len(WORDS)))
    assert WORDS.encode(WORDS.decode(ids)) == ids
    assert all(f"{i:>4}  {symbol}" in str(WORDS).splitlines() for i, symbol in enumerate(WORDS.symbols))


def test_strangers_are_refused():
    with pytest.raises(ValueError, match=r"'x'.*must be one of"):
        WORDS.encode(["x"])
    with pytest.raises(ValueError, match=r"token id = 11: must be 0 \.\. 10"):
        WORDS.decode([11])
