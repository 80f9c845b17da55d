import math

import helpers
import pytest
from rich.console import Console

from compo_mech.analyses import state_update
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.probing import sites
from compo_mech.probing.probes import linear_probe
from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import last_row, measures
from compo_mech.studies.probe_scores import position_scores, state_scores, subtraction_scores, update_scores
from compo_mech.studies.special_rows import special_rows


@pytest.fixture(scope="module")
def built():
    return build(Parity(), max_length=6)


@pytest.fixture(scope="module")
def control(built):
    return helpers.control(built.model.config, built.data)


@pytest.fixture(autouse=True)
def what_scores_read(monkeypatch):
    """Scores read the linear probes; small MLPs and separability, which others test, take most of the time."""
    monkeypatch.setattr(state_update, "separable", lambda features, labels: math.nan)
    monkeypatch.setattr(sites, "mlp_probe", lambda values, split, generator: linear_probe(values, split))


def by_place(scores) -> dict[tuple[str, str], float]:
    return {(score.measure.name, score.site): score.value for score in scores}


def test_a_hand_built_subtraction_is_found(built, control):
    found = by_place(subtraction_scores(built.model, built.data, Parity(), seed=0))
    for site in ("MLP output", "query"):
        assert found["probe accuracy", site] == found["IIA", site] == 1
    assert found["subtraction score", ""] == pytest.approx(1)
    assert (found["subtraction by table", ""], found["subtraction by rule", ""]) == (1, 0)
    other = by_place(subtraction_scores(control, built.data, Parity(), seed=0))
    assert other["IIA", "query"] < 0.7
    assert other["subtraction by table", ""] == other["subtraction by rule", ""] == 0


def test_a_hand_built_update_is_found(built, control):
    found = by_place(update_scores(built.model, built.data, Parity(), seed=0))
    assert found["IIA", "MLP output"] == found["probe accuracy", "MLP output"] == 1
    assert found["accuracy if additive", ""] < 0.7
    assert found["sets of pairs fired on", ""] == 4 == found["neurons for 90%", ""]
    other = by_place(update_scores(control, built.data, Parity(), seed=0))
    assert other["IIA", "MLP output"] < 0.7


@pytest.mark.parametrize("scorer", [position_scores, state_scores, special_rows])
def test_scores_of_networks_stand_beside_those_of_the_control(scorer, tmp_path):
    small = {
        "train.n_steps": 2,
        "train.snapshot_every": 2,
        "data.max_length": 5,
        "model.d_model": 16,
        "n_test_strings": 8,
    }
    config = changed(recipes.parity_alone(), small)
    settings = {name: getattr(config, name) for name in type(config).model_fields}
    run = launch(Launch(**settings, name="one", runs_dir=tmp_path), Console(quiet=True))
    scores = scorer(run)
    assert {score.task for score in scores} == {"parity"}
    trained, control = (
        [score._replace(value=0.0, network="trained") for score in scores if score.network == network]
        for network in ("trained", "control")
    )
    of_training = {"accuracy", "accuracy at the longest", "solved", "steps to 99%", "first step at 95%",
                   "first step at 99%"}  # fmt: skip
    of_the_able = {measures.END_FOUND, *last_row.SIGNALS.values(), *last_row.OF_LENGTHS.values()}
    assert [
        score for score in trained if score.measure.name not in of_training and score.measure not in of_the_able
    ] == [score for score in control if score.measure not in of_the_able]
    assert len(set(trained)) == len(trained)
