from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.nn.functional import one_hot

from compo_mech.probing.controls import accuracy, best_from, permuted_control
from compo_mech.probing.probes import linear_probe, mlp_probe, numeric_probe, separable
from compo_mech.probing.split import MIN_GROUPS_FOR_FOLDS, Split
from compo_mech.probing.variance import additive_rest, beyond_additive, group_means


def position_pairs(shortest, longest):
    """(i, j, class of t) of every row L+t and [EoI] at L+1."""
    return torch.tensor([(n + t, n + 1, t - 1) for n in range(shortest, longest + 1) for t in range(1, n + 1)])


def onehot(values):
    return one_hot(values).double()


def numbers(*values):
    return torch.tensor(values)


def drawn(pairs, n_rows=1, seed=0):
    """A split with so many rows of each pair, and the rows."""
    rows = pairs.repeat_interleave(n_rows, 0)
    return Split.draw(rows[:, 2], rows[:, 0] * 100 + rows[:, 1], 5, generator(seed), rows[:, :2]), rows


def right(predictions, split):
    return float(accuracy(predictions, split, generator(), n_boot=10).mean)


def rotated(features, dim=80, seed=0):
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator(seed), dtype=torch.float64))[0]
    return features @ basis[: features.shape[1]]


PROBES = {
    "linear": linear_probe,
    "numeric": numeric_probe,
    "mlp": lambda features, split: mlp_probe(features, split, generator()),
}


def every_probe(features, split):
    return {name: probe(features, split) for name, probe in PROBES.items()}


# ------------------------------------------------------------------------------ who is held out


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_held_out_is_known_from_other_groups_and_no_group_is_torn(data):
    n_groups, n_folds = data.draw(st.integers(4, 30)), data.draw(st.integers(2, 6))
    keys = torch.tensor(data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=n_groups, max_size=n_groups)))
    n_rows = torch.tensor(data.draw(st.lists(st.integers(1, 3), min_size=n_groups, max_size=n_groups)))
    groups = torch.arange(n_groups).repeat_interleave(n_rows)[torch.randperm(int(n_rows.sum()), generator=generator())]
    also = keys[groups, 1:] if data.draw(st.booleans()) else None
    try:
        split = Split.draw(keys[groups, 0], groups * 7, n_folds, generator(), also)
    except ValueError as error:
        assert "pairs to test = 0" in str(error)  # noqa: PT017
        return
    assert torch.equal(split.groups, groups)
    fold = split.of_groups(split.fold)
    assert torch.equal(fold[groups], split.fold)
    columns = range(3 if also is not None else 1)
    for group in range(n_groups):
        others = keys[fold != fold[group]]
        if fold[group] >= 0:
            assert all((others[:, key] == keys[group, key]).any() for key in columns)
    labels = keys[:, 0]
    if also is None and n_groups >= MIN_GROUPS_FOR_FOLDS:  # only a label of one group is beyond testing
        for label in labels.unique():
            sizes = fold[labels == label].clamp_min(-1).add(1).bincount(minlength=n_folds + 1)
            assert sizes[0] == (1 if (labels == label).sum() == 1 else 0)
            assert sizes[1:].max() - sizes[1:].min() <= 1


def test_few_groups_are_left_out_one_by_one():
    for n_groups, n_in_fold in ((4, 1), (11, 1), (12, 6), (20, 10)):
        groups = torch.arange(n_groups)
        split = Split.draw(groups % 2, groups, 2, generator())
        assert split.fold.bincount().tolist() == [n_in_fold] * (n_groups // n_in_fold)


def test_a_group_that_moves_to_the_trained_ones_serves_the_others():
    labels, also = numbers(0, 0, 0, 1, 2, 2), numbers(0, 0, 1, 1, 0, 0)[:, None]
    split = Split.draw(labels, torch.arange(6), 2, generator(), also)
    assert [fold == -1 for fold in split.fold.tolist()] == [False, False, False, True, False, False]
    n_moved = 0
    for seed in range(10):
        twins = torch.arange(20) // 2
        split = Split.draw(torch.arange(20) % 2, torch.arange(20), 2, generator(seed), twins[:, None])
        apart = split.fold.view(10, 2).sort().values
        assert (apart[:, 1] >= 0).all()  # of twins in one fold only one moves
        n_moved += int((apart[:, 0] < 0).sum())
    assert n_moved


def test_folds_are_drawn_and_can_be_drawn_again():
    pairs = position_pairs(1, 8)
    first, again, other = (drawn(pairs, seed=seed)[0].fold for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first == -1).sum() >= 4  # those whose t, i or j is no other pair's: (2, 2), (3, 3), (15, 9), (16, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": numbers(0, 0, 1, 1, 2, 2)}, "pairs = 3: must be at least 4"),
        ({"n_folds": 1}, "n_folds = 1: must be at least 2"),
        ({"labels": numbers(0, 0, 1, 1, -1, 0)}, "labels = -1: must be at least 0"),
        ({"groups": numbers(0, 0, 1, 2, 2, 3)}, "labels = several in a pair: must be one for all rows of a pair"),
        (
            {"groups": numbers(0, 0, 1, 1, 2, 3), "also": numbers(*[[0, 0]] * 3, [0, 1], [0, 0], [0, 0])},
            r"also\[:, 1\]",
        ),
        ({"labels": torch.arange(6)}, "pairs to test = 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, message):
    good = {"labels": numbers(0, 0, 1, 1, 0, 1), "groups": torch.arange(6), "n_folds": 2}
    Split.draw(**good, generator=generator())
    with pytest.raises(ValueError, match=f"^{message}") as error:
        Split.draw(**good | arguments, generator=generator())
    assert "\n" not in str(error.value)


def test_permuted_labels_stay_whole_and_obey_the_law():
    split, _ = drawn(position_pairs(1, 8), n_rows=3)
    permuted = split.permuted(generator())
    assert torch.equal(permuted.groups, split.groups)
    assert torch.equal(permuted.group_labels[split.groups], permuted.labels)
    assert torch.equal(permuted.group_labels.bincount(), split.group_labels.bincount())
    assert not torch.equal(permuted.group_labels, split.group_labels)
    fold = permuted.of_groups(permuted.fold)
    for group in (fold >= 0).nonzero()[:, 0]:
        assert (permuted.group_labels[fold != fold[group]] == permuted.group_labels[group]).any()


def test_classes_groups_and_rows_weigh_the_same():
    labels, groups = numbers(0, 0, 0, 0, 1, 1, 1, 0), numbers(0, 0, 0, 1, 2, 3, 3, 4)
    split = Split(labels, groups, numbers(-1, -1, -1, -1, -1, -1, -1, 0), 2)
    third = 1 / 12
    expected = torch.tensor([third, third, third, 1 / 4, 1 / 4, 1 / 8, 1 / 8, 0], dtype=torch.float64)
    torch.testing.assert_close(split.weights, expected[None])


# ------------------------------------------------------------------------------ probes


def test_a_lookup_table_is_not_taken_for_a_rule():
    split, rows = drawn(position_pairs(1, 8), n_rows=3)
    lookup, rule = onehot(split.groups), onehot(rows[:, 2])
    assert separable(lookup, split.labels) == 1  # on the rows that it was fitted to nothing is amiss
    chance = float(split.group_labels.bincount().max()) / len(split.group_labels)
    for name, predictions in every_probe(lookup, split).items():
        assert right(predictions, split) <= chance + 0.05, name
    for name, predictions in every_probe(rule, split).items():
        assert right(predictions, split) == 1, name


@pytest.mark.parametrize("probe", ["linear", "numeric", "mlp"])
def test_labels_that_are_held_out_are_not_seen(probe):
    split, _ = drawn(position_pairs(1, 8), n_rows=2)
    features = torch.randn(2, len(split.labels), 6, generator=generator())
    before = PROBES[probe](features, split)
    assert (before[:, split.fold < 0] == -1).all()
    assert (before[:, split.fold >= 0] >= 0).all()
    for fold in range(2):
        held = split.fold == fold
        labels = torch.where(held, (split.labels + 1) % split.n_classes, split.labels)
        after = PROBES[probe](features, replace(split, labels=labels))
        assert torch.equal(after[:, held], before[:, held])
        assert not torch.equal(after[:, split.fold > fold], before[:, split.fold > fold])


@pytest.mark.parametrize(("shortest", "longest"), [(4, 8), (1, 12)])
def test_a_class_is_found_in_any_basis_beside_what_does_not_matter(shortest, longest):
    split, rows = drawn(position_pairs(shortest, longest), n_rows=6)
    i, j, t = rows.T
    tokens = onehot(torch.randint(2, (len(rows), 2), generator=generator())).flatten(1)
    features = rotated(torch.cat([onehot(t), onehot(i), onehot(j), tokens], 1))
    assert right(linear_probe(features, split), split) == 1
    noise = 0.1 * torch.randn(features.shape, generator=generator(), dtype=torch.float64)
    assert right(linear_probe(features + noise, split), split) > 0.9
    assert right(mlp_probe(rotated(onehot(t)) + noise, split, generator()), split) == 1
    assert right(mlp_probe(features, split, generator()), split) > 0.9


def summands(split, rows):
    """What an MLP that subtracts is given: p_i beside p_j, as one-hots and in a table of 40 numbers each."""
    i, j, _ = rows.T
    table = torch.randn(40, 40, generator=generator(), dtype=torch.float64)
    return torch.cat([onehot(i), onehot(j)], 1), torch.cat([table[i], table[j]], 1)


def test_a_class_is_not_read_from_its_two_summands_but_a_number_is():
    split, rows = drawn(position_pairs(1, 12))
    for raw in summands(split, rows):
        assert right(linear_probe(raw, split), split) < 0.05  # all other pairs with this i have other classes
        assert right(mlp_probe(raw, split, generator()), split) < 0.05
        assert right(numeric_probe(raw, split), split) > 0.6
    split, rows = drawn(position_pairs(4, 8))
    for raw in summands(split, rows):  # of so few pairs, without noise, a part is
        assert right(linear_probe(raw, split), split) < 0.7
        assert right(numeric_probe(raw, split), split) > 0.9
    noise = 0.1 * torch.randn(len(rows), 80, generator=generator(), dtype=torch.float64)
    assert right(linear_probe(rotated(raw) + noise, split), split) < 0.05


def test_a_ramp_is_read_as_attention_would_read_it():
    split, rows = drawn(position_pairs(1, 8))
    number = (rows[:, :1] - rows[:, 1:2]).double()
    assert right(linear_probe(number, split), split) == 1
    assert right(numeric_probe(number, split), split) == 1


def test_the_linear_probe_is_the_textbooks():
    split, _ = drawn(position_pairs(1, 8))
    assert len(split.labels) == len(split.group_labels)
    features = torch.randn(len(split.labels), 4, generator=generator(), dtype=torch.float64)
    told = linear_probe(features, split, ridge=1e-12)
    apart = replace(split, labels=3 * split.labels)  # classes that no group has are not told
    assert torch.equal(linear_probe(features, apart, ridge=1e-12), torch.where(told < 0, told, 3 * told))
    for fold in range(5):
        held, even = split.fold == fold, [1 / split.n_classes] * split.n_classes
        slow = LinearDiscriminantAnalysis(solver="lsqr", priors=even).fit(features[~held], split.labels[~held])
        assert told[held].tolist() == slow.predict(features[held]).tolist()


def test_an_mlp_reads_what_no_linear_probe_can():
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(8))
    a, b, c = cells.T
    split = Split.draw(a ^ b, torch.arange(len(cells)), 4, generator())
    features = torch.cat([cells[:, :2].double(), 0.3 * onehot(c)], 1)
    assert right(mlp_probe(features, split, generator()), split) == 1
    assert right(linear_probe(features, split), split) < 0.75


def test_sites_are_probed_each_alone_and_left_as_they_were():
    split, rows = drawn(position_pairs(2, 6), n_rows=3)
    i, j, t = rows.T
    features = torch.randn(3, 2, len(rows), 20, generator=generator())
    features[1, 0] += one_hot(t, 20)
    features[2, 1] = 0
    copy = features.clone()
    several = every_probe(features, split)
    assert torch.equal(features, copy)
    for one in ((0, 1), (1, 0), (2, 1)):
        for name, predictions in every_probe(features[one], split).items():
            assert torch.equal(predictions, several[name][one]), name
    means, _, within = group_means(features, split.groups)
    keys = [split.of_groups(key) for key in (t, i, j)]
    found, apart = beyond_additive(means, *keys, generator()), separable(features, t % 2)
    assert found.of_rest is not None
    for one in ((0, 1), (1, 0), (2, 1)):
        alone = beyond_additive(means[one], *keys, generator())
        assert alone.of_rest is not None
        torch.testing.assert_close(alone.additive, found.additive[one])
        torch.testing.assert_close(torch.tensor(alone.of_rest.at()), torch.tensor(found.of_rest.at(*one)))
        torch.testing.assert_close(group_means(features[one], split.groups).within, within[one])
        torch.testing.assert_close(separable(features[one], t % 2), apart[one])
    assert torch.equal(features, copy)


def test_a_group_counts_once_however_many_rows_it_has():
    pairs = position_pairs(1, 8)
    split, _ = drawn(pairs)
    features = torch.randn(len(pairs), 5, generator=generator())
    n_rows = torch.randint(1, 5, (len(pairs),), generator=generator())
    index = torch.arange(len(pairs)).repeat_interleave(n_rows)
    many = Split(split.labels[index], index, split.fold[index], 5)
    assert torch.equal(linear_probe(features[index], many), linear_probe(features, split)[index])
    assert right(linear_probe(features[index], many), many) == pytest.approx(
        right(linear_probe(features, split), split)
    )


def test_the_unit_of_features_does_not_matter():
    split, _ = drawn(position_pairs(1, 8))
    features = torch.randn(len(split.labels), 5, generator=generator())
    for same in (1000 * features + 5, torch.cat([features, torch.zeros(len(features), 30)], 1)):
        assert torch.equal(linear_probe(same, split, ridge=0.1), linear_probe(features, split, ridge=0.1))
    assert torch.equal(mlp_probe(1024 * features, split, generator()), mlp_probe(features, split, generator()))
    with pytest.raises(ValueError, match=r"ridge = 0\.0: must be above 0"):
        linear_probe(features, split, ridge=0.0)


# ------------------------------------------------------------------------------ how often they are right


def test_accuracy_by_hand():
    labels, groups = numbers(0, 0, 0, 0, 1, 1, 1), numbers(0, 0, 0, 1, 2, 2, 3)
    split = Split(labels, groups, numbers(0, 0, 0, 1, 0, 0, -1), 2)
    predictions = torch.stack([numbers(0, 0, 1, 1, 1, -1, -1), numbers(1, 1, 1, 1, 0, 0, -1)])
    found = accuracy(predictions, split, generator())
    assert found.mean.tolist() == pytest.approx([(2 / 3 + 0 + 1) / 3, 0])
    assert found.n_groups == 3
    assert found.at(1) == (0, 0, 0)
    assert found.at(0).low == 0  # of three draws with replacement all may be the wrong one: 1 in 27
    assert found.at(0).high == pytest.approx(1)


def test_the_bootstrap_covers_the_truth():
    """A group is told right with chance 0.7, all twelve rows or none: rows are no evidence of their own."""
    groups = torch.arange(40).repeat_interleave(12)
    split = Split.draw(groups % 2, groups, 5, generator())
    wrong = (torch.rand(300, 40, generator=generator()) > 0.7).long()[:, groups]
    found = accuracy(split.labels ^ wrong, split, generator(1))
    covered = ((found.low <= 0.7) & (found.high >= 0.7)).double().mean()
    assert 0.88 <= covered <= 0.99


def test_the_shuffled_control_lies_in_its_interval_of_chance():
    pairs, inside, draws = position_pairs(4, 8), [], 100
    for seed in range(draws):
        split, _ = drawn(pairs, seed=seed)
        noise = torch.randn(len(pairs), 32, generator=generator(seed))
        control = permuted_control(lambda permuted, x=noise: linear_probe(x, permuted), split, generator(seed), 6)
        inside.append(bool(control.by_chance))
    assert 0.9 <= sum(inside) / draws <= 0.99


def test_the_control_of_a_table_of_a_number_and_of_a_leak():
    split, rows = drawn(position_pairs(1, 8))
    table = torch.stack([onehot(split.groups), onehot(rows[:, 2]).matmul(torch.randn(8, 36).double())])
    control = permuted_control(lambda permuted: linear_probe(table, permuted), split, generator())
    assert control.by_chance.all()
    found = accuracy(linear_probe(table, split), split, generator())
    assert control.selectivity(found)[0] < 0.1
    assert control.selectivity(found)[1] > 0.7
    assert float(control.accuracy[1]) == pytest.approx(control.chance.at(1).mean, abs=0.1)

    leak = permuted_control(lambda permuted: permuted.labels.where(permuted.fold >= 0, -1), split, generator())
    assert float(leak.accuracy) == 1
    assert not bool(leak.by_chance)
    with pytest.raises(ValueError, match="n_permutations = 1: must be at least 2"):
        permuted_control(lambda permuted: permuted.labels, split, generator(), 1)


def test_chance_by_hand():
    """Always class 1 in fold 0, always class 0 in fold 1: right as often as these classes are there."""
    labels = numbers(*[0] * 8, *[1] * 4)
    split = Split.draw(labels, torch.arange(12), 2, generator())
    control = permuted_control(lambda permuted: (permuted.fold == 0).long(), split, generator(), 4)
    assert float(control.accuracy) == pytest.approx(0.5)  # 2 of 6 and 4 of 6, whatever the shuffle
    assert control.chance.at() == pytest.approx((0.5, 0.5, 0.5))
    assert bool(control.by_chance)


def test_the_best_guess_from_a_key_by_hand():
    labels, key = numbers(0, 0, 1, 1, 1, 2, 0), numbers(5, 5, 5, 7, 7, 7, 7)
    split = Split(labels, numbers(0, 1, 2, 3, 3, 4, 5), numbers(0, 1, 0, 1, 1, 0, -1), 2)
    assert best_from(key, split) == pytest.approx((2 + 1) / 5)  # of 5: two 0 and a 1; of 7: a 1, a 2
    split, rows = drawn(position_pairs(1, 8))
    assert best_from(rows[:, 2], split) == 1
    assert best_from(rows[:, 0], split) < 0.5


# ------------------------------------------------------------------------------ without folds


def at_pairs(values, pairs, seed=0):
    i, j, t = pairs.T
    return beyond_additive(values, t, i, j, generator(seed))


def test_variance_beyond_additive_by_hand():
    pairs = position_pairs(1, 8)
    i, j, t = pairs.T
    table = torch.randn(9, 5, generator=generator(), dtype=torch.float64)
    of_class = at_pairs(torch.stack([rotated(onehot(t)), rotated(7 + 100 * table[t])]), pairs)
    assert of_class.of_rest is not None
    torch.testing.assert_close(of_class.label, torch.ones(2).double())
    torch.testing.assert_close(of_class.of_rest.mean, torch.ones(2).double())
    torch.testing.assert_close(of_class.of_rest.low, torch.ones(2).double())
    assert (of_class.additive < 0.9).all()
    assert (of_class.beyond.mean > 0.1).all()
    assert of_class.of_rest.n_groups < len(pairs)  # (16, 9) alone has t = 8: no one can foretell it
    additive = [
        torch.cat([onehot(i), onehot(j)], 1),
        (i - j)[:, None] * torch.ones(1, 25) + 3,
        torch.ones(len(pairs), 25),
    ]
    for values in (*additive, additive[0].float() * 0.3 + 1):
        found = at_pairs(values, pairs)
        assert found.of_rest is not None
        assert found.of_rest.at() == found.beyond.at() == (0, 0, 0)
        assert additive_rest(values - values.mean(0), i, j).abs().max() < 1e-5
    assert float(at_pairs(additive[0], pairs).additive) == pytest.approx(1)


def test_noise_has_nothing_beyond_additive():
    pairs = position_pairs(1, 8)
    found = at_pairs(torch.randn(200, len(pairs), 3, generator=generator()), pairs)
    assert found.of_rest is not None
    assert found.of_rest.mean.mean() <= 0.02
    i, j, t = pairs.T
    small = torch.cat([onehot(i), onehot(j)], 1)
    n_gained = int(torch.linalg.matrix_rank(torch.cat([small, onehot(t)], 1)) - torch.linalg.matrix_rank(small))
    assert float(found.beyond.mean.mean()) == pytest.approx(n_gained / (len(pairs) - 1), abs=0.01)
    assert (found.of_rest.low <= found.of_rest.mean).all()
    assert (found.of_rest.low < 0).double().mean() > 0.9


def test_what_is_half_class_and_half_noise_is_in_between():
    pairs = position_pairs(1, 12)
    noise = torch.randn(len(pairs), 12, generator=generator(), dtype=torch.float64)
    shares = []
    for size in (0, 0.05, 0.2, 1):
        found = at_pairs(onehot(pairs[:, 2]) + size * noise, pairs)
        assert found.of_rest is not None
        shares.append(found.of_rest.mean)
    assert all(more > less for more, less in pairwise(shares))


def test_leaving_out_in_closed_form_is_refitting_without_each_group():
    pairs = position_pairs(1, 7)
    i, j, t = pairs.T
    values = torch.randn(len(pairs), 3, generator=generator(), dtype=torch.float64) + onehot(t)[:, :3]
    small = torch.cat([onehot(i), onehot(j), torch.ones(len(pairs), 1)], 1)
    large = torch.cat([small, onehot(t)], 1)
    squares, n_kept = torch.zeros(2, dtype=torch.float64), 0
    for group in range(len(pairs)):
        rest = torch.arange(len(pairs)) != group
        if torch.linalg.matrix_rank(large[rest]) < torch.linalg.matrix_rank(large):
            continue
        for which, design in enumerate((small, large)):
            foretold = design[group] @ torch.linalg.pinv(design[rest]) @ values[rest]
            squares[which] += (values[group] - foretold).square().sum()
        n_kept += 1
    found = at_pairs(values, pairs)
    assert found.of_rest is not None
    assert found.of_rest.n_groups == n_kept < len(pairs) == found.beyond.n_groups
    torch.testing.assert_close(found.of_rest.mean, 1 - squares[1] / squares[0])
    left = [(values - design @ torch.linalg.pinv(design) @ values).square().sum() for design in (small, large)]
    whole = (values - values.mean(0)).square().sum()
    torch.testing.assert_close(found.beyond.mean, (left[0] - left[1]) / whole)
    torch.testing.assert_close(found.additive, 1 - left[0] / whole)


def test_four_cells_cannot_be_cross_validated():
    s, x = torch.cartesian_prod(torch.arange(2), torch.arange(2)).T
    found = beyond_additive(onehot(s ^ x), s ^ x, s, x, generator())
    assert found.of_rest is None
    assert found.beyond.at() == pytest.approx((1, 1, 1))
    assert float(found.additive) == pytest.approx(0)
    assert float(found.label) == pytest.approx(1)
    signs = torch.tensor([[1.0], [-1], [-1], [1]]) / 2
    torch.testing.assert_close(additive_rest(onehot(s ^ x), s, x), torch.cat([signs, -signs], 1).double())


def test_linear_separability():
    signs = torch.randint(2, (400, 2), generator=generator())
    noise = torch.randn(400, 6, generator=generator(), dtype=torch.float64)
    labels = signs[:, 0] ^ signs[:, 1]
    plain = torch.cat([signs.double(), noise, torch.full((400, 1), 0.7)], 1)
    assert float(separable(plain, labels)) <= 0.8
    product = torch.cat([plain, (signs[:, :1] * signs[:, 1:]).double()], 1)
    assert float(separable(product, labels)) == 1
    line = torch.stack([torch.arange(40).double(), torch.full((40,), 1 / 3).double()], 1)  # the middle class is masked
    assert float(separable(line, torch.arange(40) // 10)) == 1
    assert float(separable(torch.ones(40, 3), torch.arange(40) // 10)) == 0.25


def test_group_means_by_hand():
    features = torch.tensor([[0.0, 1], [2, 1], [5, 1], [5, 3]])
    means, groups, within = group_means(torch.stack([features, torch.ones(4, 2)]), numbers(9, 9, 9, 4))
    assert groups.tolist() == [4, 9]
    torch.testing.assert_close(means[0], torch.tensor([[5, 3], [7 / 3, 1]]).double())
    assert within.tolist() == pytest.approx([(49 + 1 + 64) / 9 / (9 + 1 + 4 + 4 + 3), 0])


def test_what_both_parts_tell_of_four_pairs_is_chance():
    s, x = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat_interleave(8, 0).T
    split = Split.draw(s ^ x, 2 * s + x, 5, generator(), torch.stack([s, x], 1))
    parts, noise = torch.cat([onehot(s), onehot(x)], 1), torch.randn(200, 32, 6, generator=generator(1))
    for features in (parts, 0.1 * noise[0, :, :4] + parts):
        control = permuted_control(lambda permuted, f=features: linear_probe(f, permuted), split, generator(2))
        assert control.by_chance
        assert control.chance.low == 0
        assert control.accuracy > 0.5  # most ways to deal two labels to four pairs are functions of one part
    control = permuted_control(lambda permuted: linear_probe(noise, permuted), split, generator(3))
    assert control.by_chance.double().mean() > 0.95
    leak = permuted_control(lambda permuted: permuted.labels, split, generator(4), 64)
    assert leak.accuracy == 1
    assert not leak.by_chance


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_are_refused(wrong):
    labels = torch.arange(24) % 4
    split = Split.draw(labels, torch.arange(24), 4, generator())
    features = torch.randn(2, 24, 5, generator=generator())
    features[1, 3, 2] = wrong
    asked = (
        lambda: linear_probe(features, split),
        lambda: numeric_probe(features, split),
        lambda: mlp_probe(features, split, generator()),
        lambda: separable(features, labels),
    )
    for ask in asked:
        with pytest.raises(ValueError, match=rf"^features = {wrong}: must be finite, 1 of 240 are not$"):
            ask()
