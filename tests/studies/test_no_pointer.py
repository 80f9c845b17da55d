"""What a study of networks without a pointer scores, on circuits whose truth is known."""

from dataclasses import replace

import pytest
from helpers import random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.model.config import ModelConfig
from compo_mech.studies import measures
from compo_mech.studies.no_pointer import network_scores


def scores_of(built, data=None):
    found = network_scores(built.model, data or built.data, Parity(), seed=0)
    return {(score.measure, score.position or score.variable): score.value for score in found}


def test_sums_at_the_inputs_are_found_where_the_circuit_makes_them():
    found = scores_of(build_hard_case("prefix sums", Parity(), 6))
    assert found[measures.BY_EARLIER_INPUTS, ""] == found[measures.BY_TOKEN, "x_t"] == 1
    assert found[measures.BY_TOKEN, "s_t-1"] == 0
    assert found[measures.EARLIER_INPUTS_CARRIED, "later inputs"] == 1
    assert found[measures.EARLIER_INPUTS_CARRIED, "the row"] == 0
    assert found[measures.PROBE, "prefix"] == 1


def test_the_textbook_circuit_adds_nothing_up():
    built = build(Parity(), max_length=6)
    found = scores_of(built)
    assert found[measures.BY_EARLIER_INPUTS, ""] == 0
    assert found[measures.BY_TOKEN, "s_t-1"] == 1
    assert measures.EARLIER_INPUTS_CARRIED not in {measure for measure, _ in found}
    assert found[measures.PROBE, "prefix"] < 0.6
    short = scores_of(built, built.data.model_copy(update={"max_length": 3}))
    assert (measures.PROBE, "prefix") not in short  # eight prefixes are too few to hold some out


@pytest.mark.parametrize("name", ["changed by earlier inputs", "changed by a token", "earlier inputs carried"])
def test_its_measures_are_declared(name):
    assert measures.MEASURES[name].bounds == (0, 1)


def test_what_the_last_layer_does_is_not_read_by_the_probe():
    data = DataConfig(max_length=6)
    model, other = (random_model(ModelConfig(d_model=16, n_heads=1), data, seed=seed) for seed in (0, 1))
    last = {name: param for name, param in other.params.items() if name.startswith("blocks.1.")}
    one, two = (
        [score.value for score in network_scores(asked, data, Parity(), seed=0) if score.measure is measures.PROBE]
        for asked in (model, replace(model, params=model.params | last))
    )
    assert one == two
    assert 0.1 < one[0] < 0.6
