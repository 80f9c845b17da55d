"""How early what is measured of a network foretells its end: on seeds that no weight was fitted to."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from compo_mech.evaluation.attention import AttentionVerdict
from compo_mech.evaluation.stacked import DIVERGED

FOLDS = StratifiedKFold(10, shuffle=True, random_state=0)
N_RESAMPLES = 400
MIN_EACH = 20
"""Seeds of either end without which nothing is fitted."""


def foretold(followed: pd.DataFrame, early: Sequence[str]) -> pd.DataFrame:
    """Foretell, at each step, whether a seed ends textbook, by logistic regression on what is measured then.

    Args:
        followed: rows of every seed at every step.
        early: columns that may be used.

    Returns:
        A row a step: area under the ROC curve over held-out seeds (tenfold; 0.5 is chance) with its interval over
        resampled seeds, the same with the ends permuted among seeds, the one measure that does best on the seeds
        fitted to, as often as it is chosen, and its area over held-out seeds. Seeds that diverged are left out; no
        rows if nearly all others end alike.
    """
    last = followed[followed["step"] == followed["step"].max()].set_index("seed")["verdict"]
    last = last[last != DIVERGED]
    end = (last == str(AttentionVerdict.TEXTBOOK)).to_numpy(bool)
    if min(end.sum(), (~end).sum()) < MIN_EACH:
        return pd.DataFrame()
    draws, rows = np.random.default_rng(0), []
    permuted = draws.permutation(end)
    for step, at_step in followed[followed["step"] < followed["step"].max()].groupby("step"):
        x = at_step.set_index("seed").loc[last.index, list(early)].to_numpy(float)
        known, control, (single, (name, n_chosen)) = _by_all(x, end), _by_all(x, permuted), _by_one(x, end, early)
        low, high = _interval(known, end, draws)
        rows.append((step, roc_auc_score(end, known), low, high, roc_auc_score(permuted, control)))
        rows[-1] += (name, n_chosen, roc_auc_score(end, single))
    columns = ["step", "area", "low", "high", "permuted", "best alone", "chosen", "its area"]
    return pd.DataFrame(rows, columns=columns)


def _by_all(x: Float[np.ndarray, "seed measure"], end: Bool[np.ndarray, "seed"]) -> Float[np.ndarray, "seed"]:
    """What all measures foretell of each seed, fitted to the seeds of other folds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return np.asarray(cross_val_predict(model, x, end, cv=FOLDS, method="decision_function"))


def _by_one(
    x: Float[np.ndarray, "seed measure"], end: Bool[np.ndarray, "seed"], early: Sequence[str]
) -> tuple[Float[np.ndarray, "seed"], tuple[str, int]]:
    """What the measure foretells of each seed that does best on the seeds of other folds; which that is in most folds,
    and in how many."""
    foretells, names = np.zeros(len(end)), list[str]()
    for fitted, held_out in FOLDS.split(x, end):
        above_chance = np.array([roc_auc_score(end[fitted], column) for column in x[fitted].T]) - 0.5
        best = int(np.abs(above_chance).argmax())
        foretells[held_out] = np.sign(above_chance[best]) * x[held_out, best]
        names.append(early[best])
    return foretells, Counter(names).most_common(1)[0]


def _interval(
    score: Float[np.ndarray, "seed"], end: Bool[np.ndarray, "seed"], draws: np.random.Generator
) -> tuple[float, float]:
    """The 2.5% and 97.5% quantiles over seeds drawn with replacement, from either end as many as there are."""

    def area(textbook: np.ndarray, other: np.ndarray) -> float:
        drawn_end = np.repeat([True, False], [len(textbook), len(other)])
        return float(roc_auc_score(drawn_end, np.concatenate([textbook, other])))

    of_ends = (score[end], score[~end])
    found = bootstrap(of_ends, area, n_resamples=N_RESAMPLES, vectorized=False, method="percentile", rng=draws)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
