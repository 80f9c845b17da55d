from pathlib import Path

import pandas as pd
import pytest

from compo_mech import report
from compo_mech.studies import grading

CARD = pd.read_csv(Path(__file__).parents[1] / "figures" / "method_card.csv")
SOME = {"pristine", "saturated, rotated, noise"}


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "RUNGS", {name: rungs for name, rungs in grading.RUNGS.items() if name in SOME})
        return pd.DataFrame(grading.method_card(n_pairs=48, seed=0))


def test_the_committed_card_is_what_the_study_gives(table):
    stored = CARD[CARD["rung"].isin(SOME)].reset_index(drop=True)
    assert table.drop(columns=["auc_all", "auc_identifiable"]).equals(
        stored.drop(columns=["auc_all", "auc_identifiable"])
    )
    for column in ("auc_all", "auc_identifiable"):
        pd.testing.assert_series_equal(table[column], stored[column], atol=0.02, rtol=0)


def test_exact_patching_with_identifying_pairs_is_right_on_every_build():
    best = CARD[(CARD["method"] == "exact") & (CARD["counterfactual"] == "varied length, shifted")]
    assert len(best) == len(grading.TASKS) * len(grading.RUNGS)
    assert (best["auc_all"] >= 0.99).all()
    assert (best["coverage"] == 1).all()


def test_the_page_shows_every_cell_and_fetches_nothing(table):
    page = report.method_card_page(table)
    assert page.count("<td style='background") == len(table)
    assert page.count(" ●") == table["top_is_truth"].sum() + 1  # and once in the legend
    assert "http" not in page
