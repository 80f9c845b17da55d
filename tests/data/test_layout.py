import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compo_mech.data.layout import WHOLE_SPANS, Layout, Span
from compo_mech.data.packing import Packing

BOTH = pytest.mark.parametrize("layout", [Layout(True), Layout(False)], ids=["chain of thought", "answer only"])


def test_a_row_by_hand():
    rows = Layout().assemble(
        torch.tensor([90, 91]), torch.tensor([[1, 0, 1], [1, 1, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]),
        torch.tensor([3, 2]), 80, 81,
    )  # fmt: skip
    assert rows.tolist() == [[90, 1, 0, 1, 80, 1, 1, 0, 81], [91, 1, 1, 80, 1, 0, 81, 81, 81]]


def test_a_row_without_chain_of_thought_by_hand():
    rows = Layout(False).assemble(
        torch.tensor([90, 91]), torch.tensor([[1, 0, 1], [1, 1, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]),
        torch.tensor([3, 2]), 80, 81,
    )  # fmt: skip
    assert rows.tolist() == [[90, 1, 0, 1, 80, 0, 81], [91, 1, 1, 80, 0, 81, 81]]


@BOTH
@pytest.mark.parametrize("length", [1, 2, 7])
def test_parts_tile_the_row(layout, length):
    parts = [0, *layout.inputs(length), layout.end_of_input(length), *layout.states(length)]
    assert parts == list(range(layout.n_read(length)))
    assert len(layout.labels(length)) == layout.n_read(length) == layout.n_tokens(length) - 1
    scored = layout.scored(length)
    assert scored[0] == layout.end_of_input(length)
    assert list(scored)[1:] == list(layout.states(length))
    assert len(scored) == layout.n_scored(length)


def test_edges_by_hand():
    # length 3: EoI at 4; s1 s2 s3 at 5 6 7
    assert Layout().iteration_edges(3) == ([4, 5, 6], [1, 2, 3])
    assert Layout().lookup_edges(3) == ([5, 6], [4, 4])
    assert Layout().lookup_edges(1) == ([], [])
    assert Layout(False).iteration_edges(3) == ([], [])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.booleans())
def test_packing_against_a_plain_loop(lengths, chain_of_thought):
    layout = Layout(chain_of_thought)
    packing = Packing.of_lengths(layout, lengths)
    n_pos = max(layout.n_read(n) for n in lengths)
    tokens = [(row, pos) for row, n in enumerate(lengths) for pos in range(layout.n_read(n))]
    scored = [(row, pos) for row, n in enumerate(lengths) for pos in layout.scored(n)]
    assert packing.n_pos == n_pos
    assert list(zip(packing.row.tolist(), packing.position.tolist(), strict=True)) == tokens
    assert [tokens[i] for i in packing.scored_token] == scored
    assert list(zip(packing.scored_row.tolist(), packing.scored_position.tolist(), strict=True)) == scored
    if packing.token_slot is None or packing.slot_token is None:
        assert len(set(lengths)) == 1
    else:
        assert packing.token_slot.tolist() == [row * n_pos + pos for row, pos in tokens]
        assert torch.equal(packing.slot_token[packing.token_slot], torch.arange(len(tokens)))
    if packing.scored_slot is not None and packing.slot_scored is not None:
        assert torch.equal(packing.slot_scored[packing.scored_slot], torch.arange(len(scored)))
    for row, n in enumerate(lengths):
        for query, pos in enumerate(layout.scored(n)):
            assert packing.query_position[row, query] == pos
            assert packing.causal_scored[row, 0, query].tolist() == [key <= pos for key in range(n_pos)]


@pytest.mark.parametrize("chain_of_thought", [True, False])
def test_a_row_predicts_the_state_that_follows_it(chain_of_thought):
    layout = Layout(chain_of_thought)
    for length in (1, 2, 5):
        names = layout.labels(length)
        for row in list(layout.scored(length))[:-1]:
            assert names[row + 1] == f"s{layout.predicted(row, length)}"
        for t in range(1, length + 1):
            assert names[layout.input_position(t)] == f"x{t}"


def test_spans_tile_what_is_read():
    layout, lengths = Layout(), torch.tensor([1, 3, 4])
    wheres = torch.stack([layout.where(span, lengths, 12) for span in WHOLE_SPANS]).int().sum(0)
    assert wheres.tolist() == [[1] * layout.n_read(n) + [0] * (12 - layout.n_read(n)) for n in lengths.tolist()]
    third = layout.where(Span("state", 3), lengths, 12)
    assert third.nonzero().tolist() == [[1, 7], [2, 8]]
    assert [layout.labels(n)[p] for n, p in ((3, 7), (4, 8))] == ["s3", "s3"]
