"""How seeds end and how early that shows: planted answers, and the summary of a network against its own measures."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from compo_mech.data.tasks import Parity
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.evaluation.stacked import DIVERGED, measure_each
from compo_mech.ground_truth.build import build
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.runs.config import RunConfig
from compo_mech.studies import foretelling
from compo_mech.studies import outcomes as study
from compo_mech.studies.first_weights import WEIGHTS, weight_measures
from compo_mech.studies.foretelling import foretold
from compo_mech.studies.outcomes import EARLY, ends, outcomes, summary

BUILT = build(Parity(), max_length=5)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(foretelling, "N_RESAMPLES", 20)


def planted(known_from, n=120, noise=1.0):
    """Seeds of which a third end textbook; from a step on one of three measures says which."""
    draws, rows = np.random.default_rng(0), []
    textbook = np.arange(n) % 3 == 0
    for step in (0, 100, 200):
        found = {name: draws.normal(size=n) for name in ("a", "b", "c")}
        if step >= known_from:
            found["b"] = noise * found["b"] - 2 * textbook
        verdict = np.where(textbook, "textbook", "diffuse")
        rows.append(pd.DataFrame({"seed": np.arange(n), "step": step, "verdict": verdict} | found))
    return pd.concat(rows)


def test_the_outcome_is_foretold_from_where_it_is_known_on():
    found = foretold(planted(known_from=100), ("a", "b", "c")).set_index("step")
    assert found.index.tolist() == [0, 100]
    assert found["low"][0] < 0.5 < found["high"][0]
    assert found["area"][100] > 0.85
    assert found["low"][100] < found["area"][100] < found["high"][100]
    assert found["best alone"][100] == "b"
    assert found["chosen"][100] == 10
    assert found["its area"][100] > 0.85
    assert (found["permuted"] - 0.5).abs().max() < 0.15


def test_a_measure_is_chosen_on_other_seeds_than_it_is_judged_on():
    """Of many measures that say nothing, the best on all seeds would seem to say something."""
    draws, n = np.random.default_rng(1), 80
    names, end = [f"m{i}" for i in range(20)], np.arange(n) % 2 == 0
    chosen_on_all, found = [], []
    for _ in range(4):
        first = pd.DataFrame({"seed": np.arange(n), "step": 0} | {name: draws.normal(size=n) for name in names})
        both = pd.concat([first, first.assign(step=9)])
        (row,) = foretold(both.assign(verdict=np.where(end, "textbook", "diffuse").tolist() * 2), names).to_dict(
            "records"
        )
        chosen_on_all.append(max(abs(roc_auc_score(end, first[name]) - 0.5) for name in names))
        found.append(row["its area"] - 0.5)
    assert np.mean(chosen_on_all) > 0.12
    assert np.mean(found) < 0.06


def test_nothing_is_foretold_where_all_end_alike():
    alike = planted(known_from=0).assign(verdict="textbook")
    assert foretold(alike, ("a",)).empty


def test_seeds_that_diverged_are_counted_and_not_foretold():
    seeds = planted(known_from=0)
    gone = seeds["seed"].isin([0, 1])
    diverged = seeds.assign(b=seeds["b"].where(~gone), verdict=seeds["verdict"].where(~gone, DIVERGED))
    assert foretold(diverged, ("a", "b")).equals(foretold(seeds[~gone], ("a", "b")))
    last = diverged[diverged["step"] == 200].assign(worst_accuracy=1.0)
    last["route"] = last["verdict"].map({"textbook": "textbook diagonal", "diffuse": "mixed", DIVERGED: DIVERGED})
    assert ends(last).set_index("seeds that end")["n"].to_dict() == {
        "diffuse": 79,
        "sharp patchwork": 0,
        "textbook": 39,
        "diverged": 2,
        "accuracy ≥ 0.99 at every length": 120,
        "that, and textbook": 39,
        "x_t by the route: mixed": 79,
        "x_t by the route: textbook diagonal": 39,
        "x_t by the route: diverged": 2,
    }


def test_a_summary_is_what_is_measured_alone():
    sets = eval_sets(BUILT.data, 16)
    found = summary(
        measure_each({n: p[None] for n, p in BUILT.model.params.items()}, BUILT.model.config, BUILT.data, sets)
    )
    rows = measure(BUILT.model, BUILT.data, sets)
    means = {(row.layer, row.metric): row.value for row in rows if row.split == "mean" and row.head == 0}
    for name in EARLY[:-2]:
        layer, metric = int(name[1]), name.partition(" ")[2]
        assert found[name][0] == pytest.approx(means[layer, metric], abs=1e-6), name
    assert found["accuracy"][0] == found["worst_accuracy"][0] == 1
    assert found["verdict"].tolist() == ["textbook"]


def test_accuracy_is_told_over_lengths_and_at_the_worst():
    """Of a network that knows only the first positions, and so is right about short strings."""
    params = {name: param.clone() for name, param in BUILT.model.params.items()}
    params["pos_embed.W_pos"][7:] = 0
    short, sets = Model(params, BUILT.model.config), eval_sets(BUILT.data, 16)
    found = summary(measure_each({name: p[None] for name, p in params.items()}, short.config, BUILT.data, sets))
    by_length = [row.value for row in measure(short, BUILT.data, sets) if row.metric == "generated_accuracy"]
    assert min(by_length) < max(by_length)
    assert found["accuracy"][0] == pytest.approx(sum(by_length) / len(by_length))
    assert found["worst_accuracy"][0] == min(by_length)


def test_seeds_are_followed_counted_and_kept(tmp_path, capsys, monkeypatch):
    out = tmp_path / "outcomes.csv"
    outcomes(n_seeds=3, n_at_once=2, n_steps=3, out=out)
    table = pd.read_csv(out)
    assert table.groupby("seed")["step"].apply(list).tolist() == [[0, 3]] * 3
    counted = ends(table[table["step"] == 3]).set_index("seeds that end")
    assert counted["n"].tolist()[:6] == [3, 0, 0, 0, 0, 0]
    assert counted["n"][6:].sum() == 3
    assert table.groupby("step")["route"].count().tolist() == [0, 3]
    assert counted["high"]["textbook"] < 1
    shown = capsys.readouterr().out
    assert "nothing can be foretold" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outcomes.csv", "outcomes.kept"]
    content = out.read_bytes()
    monkeypatch.setattr(study.loop, "train", None)  # both stacks are kept
    outcomes(n_seeds=3, n_at_once=2, n_steps=3, out=out)
    assert out.read_bytes() == content


def test_routes_are_those_of_each_network():
    """Of two built by hand, one of which fetches x_t and one whose head 0 of layer 1 is gone."""
    config = RunConfig(data=BUILT.data, model=BUILT.model.config)
    broken = dict(BUILT.model.params)
    broken["blocks.1.attn.W_O"] = torch.zeros_like(broken["blocks.1.attn.W_O"])
    nan = {name: param * math.nan for name, param in broken.items()}
    params = {name: torch.stack([p[name] for p in (BUILT.model.params, broken, nan)]) for name in broken}
    found = study._routes(params, config)
    assert found["route"] == ["textbook diagonal", "no route", DIVERGED]
    assert found["textbook route"][0] == pytest.approx(1, abs=1e-3)
    assert np.isnan(found["textbook route"][2])


def test_weights_are_measured_by_hand():
    config = ModelConfig(d_model=8, d_mlp=16, n_heads=1, n_ctx=8)
    one, two = (init_params(config, 6, 8, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    both = {name: torch.stack([one[name], two[name]]) for name in one}
    both["blocks.0.attn.W_V"][1, 0] = torch.eye(8)
    both["blocks.0.attn.W_O"][1, 0] = torch.eye(8)
    both["blocks.1.attn.W_K"][1, 0] = torch.diag(torch.tensor([3.0, 4, 0, 0, 0, 0, 0, 0]))
    found = weight_measures(both)
    assert list(found) == WEIGHTS
    assert found["blocks.1.attn.W_K norm"][1] == pytest.approx(5)
    assert found["blocks.1.attn.W_K stable rank"][1] == pytest.approx(25 / 16)
    assert found["L0H0 into L1H0 K"][1] == pytest.approx(5 / (8**0.5 * 5))  # the identity passes all of it on
    w_v, w_o, w_q = (one[f"blocks.{name}"][0] for name in ("0.attn.W_V", "0.attn.W_O", "1.attn.W_Q"))
    by_hand = (w_v @ w_o @ w_q).norm() / ((w_v @ w_o).norm() * w_q.norm())
    assert found["L0H0 into L1H0 Q"][0] == pytest.approx(float(by_hand))


def test_a_mistake_is_told_before_anything_is_trained(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        outcomes(out=tmp_path / "no" / "outcomes.csv")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
