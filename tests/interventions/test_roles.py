"""Roles, each on both sides of every threshold, and the sentences that say them."""

import math
from dataclasses import replace

import pytest

from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import MAX_SUBSET_HEADS, Cost
from compo_mech.interventions.head_evidence import HeadEvidence
from compo_mech.interventions.head_swaps import CARRIES, CARRIES_IN_PART, STAYS, Followed
from compo_mech.interventions.role_able import NEAR, is_able
from compo_mech.interventions.role_headline import headline
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import Heads, removal_sentence
from compo_mech.stats.intervals import Interval, wilson

N = 200
NOTHING = Interval(0.0, 0.0, 0.0)


def least(level):
    """The fewest of N whose interval is at a level or above it."""
    return next(k for k in range(N + 1) if wilson(k, N).low >= level)


def followed(n_followed=0, n_stayed=N, permuted=0.0, toward=0.0):
    return Followed(N, n_followed, N, n_stayed, permuted, Interval(toward, toward, toward), (2, 3))


def head(contents, before=(), lead=NOTHING, moved=0.5, shares=(), cost=0.0, writer=(1, 0)):
    evidence = HeadEvidence(dict(contents), dict(before), lead, moved, dict(shares))
    return HeadRole(Writer("head", *writer), 0.0, 0.0, cost, evidence)


def heads(*roles, accuracy=1.0, guess=0.5, layers=()):
    return Heads(roles, (0.0, 1.0), None, accuracy, guess, layers)


ROLES = {"x": "iteration", "end": "lookup", "end of prefix": "lookup", "prefix": "accumulates", "state": "carries",
         "answer": "carries", "x_3": "carries"}  # fmt: skip


@pytest.mark.parametrize(("content", "name"), ROLES.items())
def test_a_carrier_follows_and_stays(content, name):
    enough, stays = least(CARRIES), least(STAYS)
    assert head({content: followed(enough, stays)}).role[:2] == (name, content)
    assert not head({content: followed(enough, stays)}).in_part
    part = head({content: followed(enough - 1, stays)})
    assert (part.name, part.in_part) == ((name, True) if content != "x_3" else ("contributes", False))
    assert head({content: followed(enough, stays - 1)}).name == "contributes"  # all answers change, whatever x_t does
    hardly = followed(least(CARRIES_IN_PART), N)
    assert head({content: hardly}).in_part == (content != "x_3")
    assert head({content: replace(hardly, n_followed=hardly.n_followed - 1)}).name == "contributes"


def test_chance_is_no_content():
    enough = followed(least(0.6), N)
    assert head({"x": replace(enough, permuted=enough.follows.low - 1e-6)}).name == "iteration"
    assert head({"x": replace(enough, permuted=enough.follows.low)}).name == "contributes"


def test_the_content_that_answers_go_with_best_is_named():
    both = {"x": followed(180, 190), "prefix": followed(190, 190)}
    assert head(both).role[:2] == ("accumulates", "prefix")
    assert head(both | {"x": followed(195, 190)}).role[:2] == ("iteration", "x")


def test_what_is_brought_to_a_row_before_is_relayed():
    none = {"x": followed(), "prefix": followed()}
    assert head(none, before={"x": followed(N)}).role[:2] == ("relays", "x")
    assert head(none, before={"prefix": followed(N)}).role[:2] == ("accumulates", "prefix")
    assert head({"x": followed(N)}, before={"prefix": followed(N)}).role[:2] == ("iteration", "x")


@pytest.mark.parametrize(
    ("toward", "lead", "name"),
    [
        (-0.1, 0.1, "takes back"),
        (-0.0999, 0.1, "contributes"),
        (-0.1, 0.0999, "contributes"),
        (-1.5, 2.0, "takes back"),
    ],
)
def test_a_head_takes_back_what_it_moves_the_logits_away_from(toward, lead, name):
    role = head({"x": followed(), "answer": followed(toward=toward)}, lead=Interval(lead, lead, lead))
    assert role.name == name
    if name == "takes back":
        assert role.role.content == "answer"
        assert f"the logits go {toward:.1%} of the way" in str(heads(role))
        assert "-10% or less needed" in str(heads(role))


@pytest.mark.parametrize(
    ("cost", "moved", "name"),
    [(0.0199, 0.0099, "idle"), (0.02, 0.0099, "contributes"), (0.0199, 0.01, "contributes"), (-0.1, 0.0, "idle")],
)
def test_idle_is_what_moves_neither_answers_nor_logits(cost, moved, name):
    role = head({"x": followed()}, cost=cost, moved=moved)
    assert role.name == name
    said = str(heads(role))
    assert ("Idle: L1H0." in said) == (name == "idle")
    assert name != "idle" or moved == 0 or "the logits move by 0.99% at most" in said  # written on its side of 1%


def test_heads_that_carry_something_together_share_it():
    joint = followed(190, 196, permuted=0.48)
    one = head({"x": followed(120, 120)}, shares={"x": {Writer("head", 2, 1): joint}})
    other = head({"x": followed(20)}, shares={"x": {Writer("head", 1, 0): joint}}, writer=(2, 1))
    assert [role.name for role in (one, other)] == ["shares", "shares"]
    found = heads(one, other)
    assert found.iteration is None
    follow, stay = (f"{of.low:.1%} .. {of.high:.1%}" for of in (joint.follows, joint.stays))
    assert (
        "L1H0 carries x_t together with L2H1: with both put in, of 200 answers that another x_t would change 95% "
        f"follow ({follow}; from 50%; permuted labels 48%), and of 200 that it would not 98% stay ({stay}; from 85%) "
        "though all else differs; of L1H0 alone 60% follow and 60% stay, of L2H1 alone 10% follow and 100% stay."
    ) in str(found)
    assert "L2H1 carries" not in str(found)  # a pair is said once
    assert "L1H0 carries x_t together with L2H1" in headline(found)


def test_that_no_head_carries_is_said_where_rows_beside_are_right():
    """A network that is wrong about the rows whose outputs are put in brings nothing that answers could follow."""
    none, role = followed(0, N // 2), head({"x": followed(0, N // 2)}, cost=0.5)
    enough = least(STAYS)
    for beside in (None, wilson(enough, N)):
        found = replace(heads(role, layers=({}, {"x": none})), beside=beside)
        assert headline(found) == "by intervention no head carries x_t alone or with one other"
        assert "carried by none alone; the heads of layer 1 together do not carry it: of 200" in str(found)
    found = replace(heads(role, layers=({}, {"x": none})), beside=wilson(enough - 1, N))
    for said in (headline(found), str(found)):
        assert "no head carries" not in said
        assert "do not carry" not in said
        assert "arry x_t cannot be told" in said
        assert f"is right about {(enough - 1) / N:.0%} of rows (at least {found.beside.low:.1%}; 85% needed)" in said
    assert "the heads of layer 1 together may carry it or not: of 200" in str(found)
    carries = followed(N, N)
    assert "together carry it" in str(replace(found, layers=({}, {"x": carries})))
    named = replace(found, roles=(head({"x": carries}, cost=0.5),))
    assert "L1H0 is the iteration head" in headline(named)  # what answers follow, they follow


@pytest.mark.parametrize(
    ("n_followed", "n_stayed", "permuted"), [(0, -1, 0.0), (-1, -1, 0.0), (0, 0, 0.0), (0, -1, 1.0)]
)
def test_answers_that_follow_and_do_not_stay_are_of_something_else_as_well(n_followed, n_stayed, permuted):
    enough, stays = least(CARRIES), least(STAYS)
    found = followed(enough + n_followed, stays + n_stayed, permuted=permuted)
    one = heads(head({}, cost=0.5), layers=({}, {"x": found}))
    two = replace(one, roles=(*one.roles, head({}, writer=(1, 1))))
    if (n_followed, n_stayed, permuted) == (0, -1, 0.0):
        assert "of layer 1 together bring it and something else: of" in str(one)
        assert headline(one) == "by intervention L1H0 brings x_t and something else"
        assert headline(two) == "by intervention the heads of layer 1 together bring x_t and something else"
    else:
        assert "something else" not in str(one) + headline(one)


def test_roles_are_told_of_a_network_that_is_right_often_enough():
    role = head({"x": followed(N)}, cost=0.5)
    assert "no work of heads to name" not in str(heads(role, accuracy=0.75))
    said = str(heads(role, accuracy=0.74996))
    assert said.startswith("The network is right about 74.996% of states, of which 75% are needed")
    assert "L1H0" not in said
    assert "74.996% of states are right (75% needed)" in headline(heads(role, accuracy=0.74996))
    assert HeadRole(Writer("head", 1, 0), 1.0, 1.0, 0.5, None).name == "cannot be told"


@pytest.mark.parametrize(
    ("guess", "accuracy", "said"),
    [
        (0.508, 0.7536, "75.36% of states, of which 75.4% are needed"),
        (0.346, 0.6724, "67.2% of states, of which 67.3% are needed"),
        (0.346, 0.6729, "67.29% of states, of which 67.3% are needed"),
        (0.5068, 0.7526, "75.3% of states, of which 75.34% are needed"),
    ],
)
def test_what_is_right_and_what_is_needed_are_on_their_sides(guess, accuracy, said):
    role = head({"x": followed(N)}, cost=0.5)
    told = heads(role, accuracy=accuracy, guess=guess)
    assert said in str(told)
    number, level = said.split("%")[0], said.split("which ")[1].split("%")[0]
    assert float(number) < float(level)
    assert f"{number}% of states are right ({level}% needed)" in headline(told)


def test_where_guessing_leaves_no_room_roles_cannot_be_told():
    role = head({"x": followed(N)}, cost=0.1)
    assert is_able(1.0, 0.9)
    assert not is_able(1.0, 0.9001)
    assert "cannot be told" not in str(heads(role, guess=0.9, layers=({"end": followed(), "x": followed(N)},)))
    for guess in (0.9001, 0.95, 1.0):
        found = heads(role, guess=guess)
        assert str(found).startswith("What heads do cannot be told: guessing without x_t is right about ")
        assert "at most 90% leave room above" in str(found)
        assert "at most 90% leave room above" in headline(found)
    assert "90.01%" in str(heads(role, guess=0.9001))


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
def test_what_is_no_fraction_is_no_accuracy(value):
    role = head({"x": followed(N)}, cost=0.5)
    for found in (heads(role, accuracy=value), heads(role, guess=value)):
        for say in (str, headline):
            with pytest.raises(ValueError, match=r"= \S+: must be 0 \.\. 1"):
                say(found)


def test_a_content_towards_which_nothing_is_known_is_not_taken_back():
    none, back = followed(toward=math.nan), followed(toward=-0.5)
    lead = Interval(0.3, 0.3, 0.3)
    for contents in ({"x": none, "answer": back}, {"answer": back, "x": none}):
        assert head(contents, lead=lead).role[:2] == ("takes back", "answer")
    assert head({"x": none}, lead=lead).name == "contributes"


def test_without_which_heads_accuracy_falls_is_said_beside_the_level_and_what_was_tried():
    found = Cost((Writer("head", 1, 0),), "mean", accuracy=0.5496, cost=0.45)
    assert removal_sentence(found, 0.5, 2) == (
        "Accuracy falls to 54.96% (best guess 50%; near it up to 55%) without L1H0."
    )
    none = "No set of heads in one layer brings accuracy down to near the best guess (50%; near up to 5% above it)."
    assert removal_sentence(None, 0.5, MAX_SUBSET_HEADS) == none
    many = "; of the 9 heads of a layer one, two and all were tried"
    said = removal_sentence(None, 0.5, MAX_SUBSET_HEADS + 1)
    assert said == none.replace("layer brings", "layer that was tried brings").replace("above it)", f"above it{many})")
    assert many in removal_sentence(found, 0.5, MAX_SUBSET_HEADS + 1)
    part = head({"x": followed(least(CARRIES_IN_PART))}, cost=0.1)
    assert "No set of heads in one layer brings" in str(heads(part))


def test_what_the_rest_knows_is_said_beside_what_guessing_has():
    near = heads(head({"x": followed(N)}, cost=1 - 0.5 - NEAR))
    assert "still knows" not in str(near)
    more = heads(head({"x": followed(N)}, cost=1 - 0.5 - NEAR - 0.0004))
    assert "still knows something of x_t (55.04%; near the guess up to 55%)" in str(more)


def test_which_heads_carry_what_too_few_rows_ask_for_cannot_be_told():
    idle = head({}, cost=0.0, moved=0.0)
    for layers in ((), ({"end": followed()}, {"end": followed()})):
        found = heads(idle, layers=layers)
        assert "Which heads carry x_t cannot be told: too few rows ask for it." in str(found)
        assert headline(found) == "which heads carry x_t cannot be told by intervention: too few rows ask for it"
    asked = heads(head({"x": followed()}), layers=({"x": followed()}, {"x": followed()}))
    assert headline(asked) == "by intervention no head carries x_t alone or with one other"
    assert "x_t is carried by none alone; the heads of layer 0 together do not carry it" in str(asked)


def test_chance_is_written_on_its_side_of_what_follows():
    found = followed(least(0.51), N)
    chance = found.follows.low + 1e-4
    said = str(heads(head({"x": followed()}), layers=({"x": replace(found, permuted=chance)},)))
    low = float(said.split("follow (")[1].split("%")[0])
    assert low < float(said.split("permuted labels ")[1].split("%")[0])


def test_each_idle_head_was_ablated_by_itself():
    one, other = (head({"x": followed()}, cost=0.0199, moved=0.001, writer=(1, n)) for n in (0, 1))
    assert "Idle: L1H0, L1H1. Without each alone less than 2% of states go wrong" in str(heads(one, other))


def test_the_iteration_head_is_alone_in_its_layer_and_needed():
    whole, part = followed(N), followed(least(CARRIES_IN_PART))
    alone = head({"x": whole}, cost=0.25)
    assert heads(alone).iteration is alone
    assert heads(replace(alone, cost=0.2499)).iteration is None
    asked = ({"x": followed()}, {"x": whole})
    said = "without it 75.01% of states are right, 75% or less if it were needed"
    assert said in str(heads(replace(alone, cost=0.2499), layers=asked))
    beside = head({"x": part}, writer=(1, 1))
    assert heads(alone, beside).iteration is None
    assert heads(alone, replace(beside, writer=Writer("head", 0, 1))).iteration is alone
    assert "L1H0 is the iteration head" in headline(heads(alone))
    assert "L1H0 carries x_t (" in headline(heads(alone, beside))
    assert "L1H1 carries x_t in part" in headline(heads(alone, beside))
    assert "most at t = 2 3" in str(heads(alone, beside))


def test_a_figure_stands_beside_its_threshold_its_interval_and_chance():
    found = followed(least(CARRIES), N, permuted=0.48)
    said = str(heads(head({"x": found}, cost=0.5)))
    low = found.follows.low
    assert f"of 200 answers that another x_t would change {found.follows.mean:.0%} follow ({low:.1%} .. " in said
    assert "from 50%; permuted labels 48%" in said
    assert "of 200 that it would not 100% stay" in said
    assert "without it 50% of states are right (best guess from s_{t-1} alone: 50%)" in said


def test_what_too_few_rows_ask_for_cannot_be_told():
    role = head({"x": followed(N)}, cost=0.5)
    assert "[EoI] is carried cannot be told" in str(heads(role, layers=({"x": followed()}, {"x": followed(N)})))
    asked = ({"x": followed(), "end": followed()}, {"x": followed(N), "end": followed()})
    assert "cannot be told" not in str(heads(role, layers=asked))
