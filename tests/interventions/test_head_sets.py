"""Sets of heads, on networks whose division of work is known, and the algebra of shares."""

import itertools
import math

import pytest
import torch
from helpers import control, generator

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_sets import HeadSets, head_sets
from compo_mech.model.config import ModelConfig

HEADS = tuple(Writer("head", layer, head) for layer, head in itertools.product(range(2), range(2)))


def sets_of(built, content="x", task=None, **more):
    return head_sets(built.model, built.data, task or built.data.tasks[0], content, generator(), **more)


def shares_of(found):
    return {str(head): round(share, 6) for head, share in found.shares.items() if abs(share) > 1e-9}


def random_sets(seed, n=4):
    values = torch.rand(2**n, generator=generator(seed), dtype=torch.float64)
    values[0] = 0
    return HeadSets("x", HEADS[:n], tuple(values.tolist()))


@pytest.mark.parametrize(
    ("options", "shares", "n_enough", "n_blocking"),
    [
        ({}, {"L1H0": 1}, 1, 1),
        ({"backup": True}, {"L1H0": 0.5, "L1H1": 0.5}, 2, 1),
        ({"three_layers": True, "distractors": True}, {"L2H0": 1}, 1, 1),
    ],
    ids=["textbook", "backup", "three layers"],
)
@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
def test_shares_of_hand_built_heads_by_hand(task, options, shares, n_enough, n_blocking):
    found = sets_of(build(task, max_length=6, rungs=BuildOptions(**options)))
    assert shares_of(found) == shares
    assert found.whole == 1
    assert len(found.smallest_enough()) == n_enough
    assert len(found.smallest_blocking()) == n_blocking


def test_heads_that_divide_the_rows_have_their_fraction_of_them():
    found = sets_of(build(Parity(), max_length=6, rungs=BuildOptions(split=True)))
    even, odd = (found.shares[head] for head in HEADS[2:])
    assert even + odd == pytest.approx(1)
    assert 0.3 < even < 0.7
    assert found.value([HEADS[2]]) == pytest.approx(even)  # nothing is done twice
    assert found.smallest_enough() == found.smallest_blocking() == HEADS[2:]


def test_of_three_heads_of_which_any_two_decide_each_has_a_third():
    found = sets_of(build_hard_case("two of three", Parity()))
    assert shares_of(found) == {f"L1H{i}": pytest.approx(1 / 3, abs=1e-6) for i in range(3)}
    assert len(found.smallest_enough()) == len(found.smallest_blocking()) == 2
    assert max(found.value([head]) for head in found.heads) == 0


@pytest.mark.parametrize(
    ("name", "content", "head"),
    [
        ("counted", "end", "L1H0"),
        ("idle layer 0", "end", "L1H0"),
        ("inert diagonal", "x", "L1H1"),
        ("taken back", "x", "L1H0"),
    ],
)
def test_one_head_has_it_all_wherever_it_stands(name, content, head):
    assert shares_of(sets_of(build_hard_case(name, Parity()), content)) == {head: 1}


@pytest.mark.parametrize("name", ["prefix sums", "prefix counts"])
def test_where_the_prefix_comes_no_set_brings_one_input(name):
    found = sets_of(build_hard_case(name, Parity()))
    assert abs(found.whole) < 0.1
    assert found.smallest_enough() is None
    assert found.smallest_blocking() == ()


def test_random_networks_have_nothing_to_share():
    data, asked = DataConfig(max_length=6), []
    for seed in range(6):
        model = control(ModelConfig(d_model=16, n_heads=2), data, seed)
        asked.append(head_sets(model, data, Parity(), "x", generator(seed), n_rows=512))
    asked = [found for found in asked if found is not None]  # those that are right by accident often enough
    assert len(asked) >= 3
    assert max(abs(value) for found in asked for value in found.values) < 0.25


@pytest.mark.parametrize("seed", range(3))
def test_shares_obey_the_axioms(seed):
    one, two = random_sets(seed), random_sets(seed + 10)
    assert sum(one.shares.values()) == pytest.approx(one.whole)
    both = HeadSets("x", HEADS, tuple(a + 2 * b for a, b in zip(one.values, two.values, strict=True)))
    for head in HEADS:  # of a sum of values the sum of shares
        assert both.shares[head] == pytest.approx(one.shares[head] + 2 * two.shares[head])
    idle = HeadSets("x", HEADS, one.values[:8] * 2)  # the last head adds nothing to any set
    assert idle.shares[HEADS[3]] == 0
    orders = list(itertools.permutations(HEADS))  # the definition, order by order
    before = [order[: order.index(HEADS[1])] for order in orders]
    added = [one.value([*some, HEADS[1]]) - one.value(some) for some in before]
    assert one.shares[HEADS[1]] == pytest.approx(math.fsum(added) / len(orders))


@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_sets_are_those_that_a_search_finds(seed):
    found = random_sets(seed)
    every = [s for n in range(5) for s in itertools.combinations(HEADS, n)]
    enough = found.smallest_enough(0.7)
    n = min(len(s) for s in every if found.value(s) >= 0.7)
    assert (len(enough), found.value(enough)) == (n, max(found.value(s) for s in every if len(s) == n))
    left = {s: found.value([head for head in HEADS if head not in s]) for s in every}
    blocking = found.smallest_blocking(0.3)
    n = min(len(s) for s, value in left.items() if value <= 0.3)
    assert (len(blocking), left[blocking]) == (n, min(value for s, value in left.items() if len(s) == n))


def test_a_set_is_asked_as_its_heads_are_named():
    built = build(Parity(), max_length=6, rungs=BuildOptions(split=True))
    whole = sets_of(built)
    some = sets_of(built, heads=HEADS[:1:-1])
    assert some.heads == HEADS[:1:-1]
    assert some.shares[HEADS[2]] == pytest.approx(whole.shares[HEADS[2]])
    assert some.value([HEADS[3]]) == whole.value([HEADS[3]])


def test_what_cannot_be_asked():
    built = build(Parity(), max_length=6)
    wide = control(ModelConfig(d_model=24, n_heads=6), built.data)
    with pytest.raises(ValueError, match="heads = 12: must be 1 to 10"):
        head_sets(wide, built.data, Parity(), "x", generator())
    single = control(ModelConfig(d_model=16, n_layers=1), built.data)
    with pytest.raises(ValueError, match="n_layers = 1: must be 2 or more"):
        head_sets(single, built.data, Parity(), "end", generator())
    for heads, told in (
        ([], "heads = 0: must be 1 to 10"),
        ([HEADS[0], HEADS[0]], "heads = L0H0 L0H0: must be different"),
        ([Writer("head", 1, -1)], "must be among L0H0 to L1H1"),
        ([Writer("head", 2, 0)], "heads = L2H0: must be among L0H0 to L1H1"),
        ([Writer("mlp", 1)], "heads = mlp1: must be among L0H0 to L1H1"),
    ):
        with pytest.raises(ValueError, match=told):
            sets_of(built, heads=heads)
    at_once = build(Parity(), max_length=4, rungs=BuildOptions(chain_of_thought=False))
    assert sets_of(at_once) is None
    assert sets_of(at_once, "end") is None
    short = built.data.model_copy(update={"max_length": 3})
    assert head_sets(built.model, short, Parity(), "end", generator()) is None
