"""On networks whose truth is known every name is right or abstains, and nothing is named where nothing is done."""

import itertools

import pandas as pd
import pytest

from compo_mech.analyses.named_roles import (
    decoys,
    hand_built,
    named_heads,
    named_mlps,
    named_untaught,
)
from compo_mech.analyses.wrong_networks import random_networks, wrongly_trained
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions

SAID = {
    "taken back": {"L1H0": "iteration", "L2H0": "takes back answer", "L0H1": "idle"},
    "two of three": {"L0H0": "lookup", "L1H0": "shares x", "L1H1": "shares x", "L1H2": "shares x"},
    "prefix sums": {"L0H1": "accumulates", "L1H0": "accumulates"},
    "cancelling": {"L1H0": "shares x", "L1H1": "shares x"},
    "inert diagonal": {"L1H0": "idle", "L1H1": "iteration"},
}


@pytest.mark.parametrize("name", SAID)
def test_circuits_that_mislead_are_named_by_what_they_do(name):
    built = build_hard_case(name, Parity(), max_length=5)
    said = {one.component: one.said for one in named_heads("hand-built", name, built)}
    assert SAID[name].items() <= said.items()


def wrong(found):
    return [one for one in found if one.verdict == "wrong"]


def test_nothing_is_named_in_a_random_or_a_wrongly_trained_network():
    networks = [*random_networks(2), next(wrongly_trained(1))]
    found = [one for network in networks for one in named_untaught("without", network)]
    assert found
    assert wrong(found) == []


@pytest.mark.slow
def test_every_name_on_twenty_circuits_of_twelve_kinds_is_right_or_abstains():
    found, kinds = [], set()
    for kind, built in itertools.islice(hand_built(Parity()), 22):
        kinds.add(kind)
        found += [*named_heads("hand-built", kind, built), *named_mlps("hand-built", kind, built)]
    assert len(kinds) == 22
    assert wrong(found) == []
    assert (pd.DataFrame(found)["verdict"] == "right").mean() > 0.9  # it does not abstain from everything


@pytest.mark.slow
def test_broken_circuits_and_networks_without_one_have_no_named_part():
    found = [
        one
        for part, built in itertools.islice(decoys(Parity()), 0, None, 3)
        for one in named_heads("decoys", part, built, part)
    ]
    assert wrong(found) == []
    built = build(Parity(), rungs=BuildOptions(broken="update"))
    (update,) = (one for one in named_mlps("decoys", "update", built, "update") if one.component.endswith("state"))
    assert update[3:] == ("no", "no", "right")  # of a component that is broken, no is the truth
    networks = itertools.chain(random_networks(12), wrongly_trained(2))
    assert wrong(one for network in networks for one in named_untaught("without", network)) == []
