"""How heads share the work, as scores, on circuits whose truth is known."""

import math

from helpers import control

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.config import ModelConfig
from compo_mech.studies import measures
from compo_mech.studies.shared_heads import head_set_scores

CONTROL = ModelConfig(d_model=16, n_heads=2)


def scores_of(built):
    return {score.measure: score.value for score in head_set_scores(built.model, built.data, Parity(), seed=0)}


def test_one_head_does_it_alone_and_attention_shows_it():
    found = scores_of(build(Parity(), max_length=6))
    for measure in (measures.X_BROUGHT, measures.LARGEST_SHARE, measures.LARGEST_SHARE_OF_LAYER, measures.SHARE_SHOWS,
                    measures.HEADS_SHARING, measures.HEADS_ENOUGH, measures.HEADS_BLOCKING,
                    measures.LARGEST_SHARE_OF_EOI):  # fmt: skip
        assert found.pop(measure) == 1, measure.name
    assert not found


def test_two_heads_share_it_in_one_layer():
    found = scores_of(build(Parity(), max_length=6, rungs=BuildOptions(backup=True)))
    assert found[measures.LARGEST_SHARE] == 0.5
    assert found[measures.LARGEST_SHARE_OF_LAYER] == 1
    assert (found[measures.HEADS_SHARING], found[measures.HEADS_ENOUGH]) == (2, 2)


def test_layers_share_it_where_one_stands_in_for_another():
    found = scores_of(build_hard_case("self-repair", Parity()))
    assert found[measures.LARGEST_SHARE] == found[measures.LARGEST_SHARE_OF_LAYER] == 0.5


def test_a_head_that_attends_as_the_textbook_says_may_bring_nothing():
    found = scores_of(build_hard_case("inert diagonal", Parity()))
    assert found[measures.SHARE_SHOWS] == 0
    assert found[measures.LARGEST_SHARE] == 1


def test_no_heads_are_enough_where_the_prefix_comes():
    found = scores_of(build_hard_case("prefix sums", Parity()))
    assert found[measures.HEADS_ENOUGH] == math.inf
    assert found[measures.HEADS_SHARING] == 0
    assert not {measures.HEADS_BLOCKING, measures.SHARE_SHOWS} & set(found)  # there is nothing to block or show


def test_a_control_shares_next_to_nothing_and_too_many_heads_are_not_asked():
    data = DataConfig(max_length=6)
    found = {s.measure: s.value for s in head_set_scores(control(CONTROL, data), data, Parity(), 0)}
    assert abs(found[measures.LARGEST_SHARE]) < 0.25
    many = control(ModelConfig(d_model=16, n_layers=3, n_heads=4), data)
    assert measures.LARGEST_SHARE not in {s.measure for s in head_set_scores(many, data, Parity(), 0)}
