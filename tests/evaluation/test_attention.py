import math

import pytest
import torch

from compo_mech.data.layout import Layout
from compo_mech.evaluation import attention
from compo_mech.evaluation.attention import AttentionVerdict
from compo_mech.evaluation.head_scores import SUMMARISED, head_measures, layer_measures
from compo_mech.evaluation.measure import VERDICT_OF_EACH

LENGTH = 5
LAYOUT = Layout()


def one_hot(keys, n_keys, batch=3):
    return torch.nn.functional.one_hot(torch.tensor(keys), n_keys).float().expand(batch, 1, -1, -1)


def perfect(kind):
    """Attention at the scored rows of a head that does its work and nothing else."""
    queries, keys = LAYOUT.lookup_edges(LENGTH) if kind == "lookup" else LAYOUT.iteration_edges(LENGTH)
    targets = dict(zip(queries, keys, strict=True))
    return one_hot([targets.get(q, 0) for q in LAYOUT.scored(LENGTH)], LAYOUT.n_read(LENGTH))


def uniform():
    """Every row spreads over all positions up to its own."""
    n_keys = LAYOUT.n_read(LENGTH)
    rows = [[1 / (q + 1) if key <= q else 0.0 for key in range(n_keys)] for q in LAYOUT.scored(LENGTH)]
    return torch.tensor(rows).expand(3, 1, -1, -1)


@pytest.mark.parametrize("kind", ["lookup", "iteration"])
def test_a_perfect_head_scores_one(kind):
    found = head_measures(perfect(kind), LAYOUT, LENGTH)
    for metric in (kind, f"{kind}_above_half", f"{kind}_invariance", "pointer_weight", "pointer_agreement"):
        assert found[metric].tolist() == [1.0]
    assert found["entropy"].tolist() == [0.0]
    assert found["pointer_sharp_rows"].tolist() == [1.0]


def test_the_last_row_does_not_count_for_the_lookup():
    pattern = perfect("lookup").clone()
    pattern[:, :, -1] = 0
    pattern[:, :, -1, 0] = 1
    assert head_measures(pattern, LAYOUT, LENGTH)["lookup"] == 1
    pattern[:, :, -2] = 0
    pattern[:, :, -2, 0] = 1
    assert head_measures(pattern, LAYOUT, LENGTH)["lookup"] == pytest.approx(3 / 4)


def test_the_uniform_map_scores_its_exact_value():
    found = head_measures(uniform(), LAYOUT, LENGTH)
    # EoI is at 6: the rows that predict s1 .. s5 sit at 6 .. 10, the lookup's at 7 .. 10
    assert found["iteration"] == pytest.approx(sum(1 / (q + 1) for q in range(6, 11)) / 5)
    assert found["lookup"] == pytest.approx(sum(1 / (q + 1) for q in range(7, 11)) / 4)
    assert found["entropy"] == pytest.approx(sum(math.log(q + 1) for q in range(6, 12)) / 6)
    assert found["iteration_above_half"] == 0
    assert found["iteration_invariance"] == 1
    assert found["pointer_sharp_rows"] == 0


def test_peakiness_counts_weights_above_half():
    weights = torch.tensor([[[0.6, 0.4]], [[0.5, 0.51]]])
    assert attention.peakiness(weights) == 0.5
    assert attention.score(weights) == pytest.approx(0.5025)


def test_invariance_by_hand():
    weights = torch.tensor([[[0.0, 0.5]], [[1.0, 0.5]]])  # standard deviations 0.5 and 0
    assert attention.invariance(weights) == pytest.approx(0.75)


def test_pointer_finds_the_common_key_and_who_departs_from_it():
    pattern = torch.zeros(4, 1, 2, 5)
    pattern[:, 0, 0, 2] = 0.95  # all agree
    pattern[:3, 0, 1, 1] = 0.9
    pattern[3, 0, 1, 4] = 0.7  # one string looks elsewhere
    found = attention.pointer(pattern)
    assert found.key.tolist() == [[2, 1]]
    assert found.agreement.tolist() == [[1.0, 0.75]]
    assert found.weight[0].tolist() == pytest.approx([0.95, 0.85])
    assert found.sharp.tolist() == [[True, False]]


def test_the_offset_profile_moves_with_the_head():
    n_keys = LAYOUT.n_read(LENGTH)
    queries, keys = LAYOUT.iteration_edges(LENGTH)
    rows = [q - LAYOUT.scored(LENGTH)[0] for q in queries]
    for offset in (-1, 0, 2):
        profile = attention.offset_profile(one_hot([k + offset for k in keys], n_keys), rows, keys)
        assert {o for o, weight in profile.items() if weight > 0} == {offset}
        assert profile[offset] == 1
    total = sum(attention.offset_profile(uniform()[:, :, :-1], rows, keys).values())
    assert total == pytest.approx(1)


def test_measures_are_per_head_and_leave_their_input_alone():
    both = torch.cat([perfect("iteration"), uniform()], 1)
    before = both.clone()
    found = head_measures(both, LAYOUT, LENGTH)
    alone = head_measures(uniform(), LAYOUT, LENGTH)
    assert torch.equal(both, before)
    assert found["iteration"].shape == (2,)
    for metric, value in alone.items():
        assert float(found[metric][1]) == pytest.approx(float(value))


def test_verdicts():
    assert attention.attention_verdict(0.9, 0.0) is AttentionVerdict.TEXTBOOK
    assert attention.attention_verdict(0.89, 0.9) is AttentionVerdict.SHARP_PATCHWORK
    assert attention.attention_verdict(0.89, 0.89) is AttentionVerdict.DIFFUSE
    assert [str(v) for v in AttentionVerdict] == ["diffuse", "sharp patchwork", "textbook"]


@pytest.mark.parametrize(
    ("score", "sharp", "name"), [(math.nan, 0.95, "iteration_score"), (0.5, math.nan, "sharp_share")]
)
def test_of_what_is_not_a_number_there_is_no_verdict(score, sharp, name):
    with pytest.raises(ValueError, match=f"{name} = nan: must be a number"):
        attention.attention_verdict(score, sharp)
    of_each = VERDICT_OF_EACH([0.95, score, 0.5], [0.0, sharp, 0.95])  # a network of a stack that diverged
    assert of_each[[0, 2]].tolist() == [AttentionVerdict.TEXTBOOK, AttentionVerdict.SHARP_PATCHWORK]
    assert math.isnan(of_each[1])


def test_a_sharp_head_off_the_diagonal_is_a_patchwork():
    shifted = one_hot([key + 1 for key in range(1, LENGTH + 2)], LAYOUT.n_read(LENGTH))
    found = head_measures(shifted, LAYOUT, LENGTH)
    assert found["iteration"] == 0
    assert (
        attention.attention_verdict(float(found["iteration"]), float(found["pointer_sharp_rows"]))
        is AttentionVerdict.SHARP_PATCHWORK
    )


def sparsity(pattern, queries):
    return attention.sparsity(attention.concentration(pattern), queries)


def test_sparsity_is_one_for_one_key_and_nothing_for_an_even_row():
    queries = list(LAYOUT.scored(LENGTH))
    assert sparsity(uniform(), queries) == pytest.approx(0, abs=1e-6)
    assert sparsity(perfect("iteration"), queries) == 1
    halves = torch.zeros(1, 1, 1, 5)
    halves[..., [0, 3]] = 0.5  # two keys of the five that it sees
    assert sparsity(halves, [4]) == pytest.approx((5 - 2) / (5 - 1))
    alone = torch.cat([torch.eye(1, 5).view(1, 1, 1, 5), halves], 2)
    assert sparsity(alone, [0, 4]) == sparsity(halves, [4])


def test_distance_tells_spread_from_elsewhere():
    rows = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1], [0, 1 / 3, 1 / 3, 1 / 3]])[None, None]
    squares, weights = attention.concentration(rows), rows[..., 0]
    found = [float(attention.distance(squares[:, :, [i]], weights[:, :, [i]])) for i in range(3)]
    plain = (rows - torch.eye(1, 4)).norm(dim=-1).flatten() / math.sqrt(2)
    assert found == pytest.approx(plain.tolist())
    assert found == pytest.approx([0, 1, math.sqrt((1 + 1 / 3) / 2)])
    assert rows.sum() == 3  # untouched


def test_heads_that_share_the_rows_are_whole_together():
    weights = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]])[None]
    assert attention.together(weights) == 1
    assert attention.together(weights[:, 2:]) == 0.5
    one = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])  # two strings, each read by another head
    assert attention.together(one) == 0.5


def test_odd_spots_are_measured_apart():
    queries, keys = LAYOUT.iteration_edges(LENGTH)
    targets = dict(zip(queries, keys, strict=True))
    targets[queries[0]] = 0  # the first state is not read where it should be
    targets[LAYOUT.scored(LENGTH)[-1]] = LAYOUT.end_of_input(LENGTH)
    pattern = one_hot([targets[q] for q in LAYOUT.scored(LENGTH)], LAYOUT.n_read(LENGTH))
    found = {name: float(value) for name, value in head_measures(pattern, LAYOUT, LENGTH).items()}
    assert found["iteration"] == pytest.approx(4 / 5)
    assert (found["iteration_first"], found["iteration_middle"], found["iteration_last"]) == (0, 1, 1)
    assert (found["end_on_end_of_input"], found["end_pointer_weight"]) == (1, 1)


def test_layers_are_measured_beside_their_heads():
    pattern = torch.cat([perfect("iteration"), uniform()], 1)
    found = {(head, name): value for _, head, name, value in layer_measures([pattern], LAYOUT, LENGTH)}
    assert found[0, "iteration"] == found[None, "iteration_together"] == 1
    assert found[1, "iteration"] < 0.2


def test_layers_are_measured_at_once_as_each_alone():
    """Offsets that a layer has nothing at are left out of it, whatever others have there."""
    patterns = [perfect("iteration"), torch.cat([uniform(), perfect("lookup")], 1)]
    found = list(layer_measures(patterns, LAYOUT, LENGTH))
    alone = [(i, *rest) for i, one in enumerate(patterns) for _, *rest in layer_measures([one], LAYOUT, LENGTH)]
    assert [row[:3] for row in found] == [row[:3] for row in alone]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in alone], abs=1e-6)
    offsets = [{name for i, _, name, _ in found if i == layer and name.startswith("offset_")} for layer in (0, 1)]
    assert offsets[0] < offsets[1]


def test_lean_measures_are_those_that_are_summarised():
    pattern = torch.cat([perfect("iteration"), perfect("lookup"), uniform()], 1)
    whole, lean = (
        {(h, n): v for _, h, n, v in layer_measures([pattern], LAYOUT, LENGTH, lean=x)} for x in (False, True)
    )
    assert {name for _, name in lean} == set(SUMMARISED)
    for place, value in lean.items():
        assert value == pytest.approx(whole[place], abs=1e-6)
