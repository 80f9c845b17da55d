from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from helpers import generator

from compo_mech.circuits.exact import exact
from compo_mech.circuits.grade import grade
from compo_mech.circuits.scorers import SCORERS
from compo_mech.circuits.selection import ranked
from compo_mech.data.tasks import Automaton, Counter, Dihedral, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.build import build, solves
from compo_mech.ground_truth.families import RUNGS, subjects
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.tracr import read_tracr, tracr_programs
from compo_mech.ground_truth.tracr_pairs import program_pairs
from compo_mech.ground_truth.trained_in import trained_in_networks
from compo_mech.interventions.edges import TOK, all_edges
from compo_mech.interventions.graph import corrupt_logits, run_both
from compo_mech.interventions.metrics import cross_entropy
from compo_mech.report.method_card import method_card_page

method_card = import_module("compo_mech.ground_truth.method_card")  # the package has its function under this name

CARD = method_card.method_card_table()
SUMMARY = method_card.by_family(CARD)
NETWORKS = Path(__file__).parents[1] / "data"
EVERY = subjects(NETWORKS)
SOON = [("Tracr", "length")]
LATER = [
    ("Tracr", "histogram"),
    ("hand-built", "saturated, rotated, noise"),
    ("misleading", "self-repair"),
    ("Tracr", "sort"),
    ("trained-in", "automaton"),
]


def check_stored(family, name):
    """What the card says of the first network of this name is what is found."""
    subject = next(one for one in EVERY if one.family == family and name in one[1:3])
    found = pd.DataFrame(method_card.grades(subject, n_pairs=48, seed=0))
    stored = CARD[(CARD[["family", "task", "build"]] == list(subject[:3])).all(axis=1)]
    stored = stored.reset_index(drop=True)
    areas = ["auc_all", "auc_identifiable"]
    assert found.drop(columns=areas).equals(stored.drop(columns=areas))
    for column in areas:
        pd.testing.assert_series_equal(found[column], stored[column], atol=0.02, rtol=0)


@pytest.mark.parametrize(("family", "name"), SOON)
def test_the_committed_card_is_what_is_found(family, name):
    check_stored(family, name)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), LATER)
def test_the_committed_card_is_what_is_found_on_larger_networks(family, name):
    check_stored(family, name)


def test_the_card_has_every_network_and_every_method():
    graded = {tuple(row) for row in CARD[["family", "task", "build"]].drop_duplicates().to_numpy()}
    assert graded == {subject[:3] for subject in EVERY}
    for family, rows in CARD.groupby("family"):
        assert set(rows["method"]) >= SCORERS.keys() - {"pair patching"}, family
        best = rows[(rows["counterfactual"] == method_card.identifying(family)) & (rows["method"] == "exact")]
        assert len(best) == sum(subject.family == family for subject in EVERY)
    assert not CARD.duplicated(["family", "task", "build", "counterfactual", "method"]).any()


def test_exact_patching_with_identifying_pairs_is_right_on_every_build():
    best = CARD[(CARD["method"] == "exact") & (CARD["counterfactual"] == "varied length, shifted")]
    best = best[best["family"] == "hand-built"]
    assert len(best) == sum(subject.family == "hand-built" for subject in EVERY)
    assert (best["auc_all"] >= 0.99).all()
    assert (best["coverage"] == 1).all()


def test_exact_patching_with_rows_drawn_anew_is_right_on_every_compiled_program():
    best = CARD[(CARD["family"] == "Tracr") & (CARD["method"] == "exact")].set_index("counterfactual")
    assert len(best.loc["rows drawn anew"]) == 13
    assert best.loc["rows drawn anew", "top_is_truth"].all()
    assert not best.loc["token, same length", "top_is_truth"].any()


def test_the_best_attribution_method_finds_what_others_built():
    areas = SUMMARY.set_index(["family", "counterfactual", "method"])["auc"]
    assert areas["Tracr", "rows drawn anew", "IG 20"] >= 0.95
    assert areas["Tracr", "rows drawn anew", "EAP"] < 0.75
    assert areas["trained-in", "varied length, shifted", "IG 20"] >= 0.95


def test_exact_patching_finds_every_circuit_that_was_trained_in():
    found = CARD[(CARD["family"] == "trained-in") & (CARD["method"] == "exact")].set_index("counterfactual")
    assert found.loc["varied length, shifted", "top_is_truth"].all()
    assert not found.loc["token, same length", "top_is_truth"].any()


def test_what_single_edges_miss_under_redundancy_pairs_find():
    shown = CARD[(CARD["build"] == "two of three") & (CARD["counterfactual"] == "varied length, shifted")]
    for method, lowest, highest in (("exact", 0.5, 0.9), ("pair patching", 1.0, 1.0), ("subset patching", 1.0, 1.0)):
        areas = shown[shown["method"] == method]["auc_all"]
        assert len(areas) == 1
        assert areas.between(lowest, highest).all(), method


@pytest.mark.parametrize("name", ["length", "shuffled_Dyck_1"])
def test_pairs_of_a_program_have_every_answer_and_move_all_that_is_true(name):
    program = read_tracr(NETWORKS / "tracr", name)
    pairs = program_pairs(program, 24, generator())
    runs = run_both(program.model, pairs)
    assert runs.logits.argmax(-1).equal(pairs.target)
    moved = {writer for writer, out in runs.clean.items() if not runs.corrupt[writer].allclose(out)}
    assert moved >= {edge.writer for edge in program.edges}
    assert len({tuple(row) for row in pairs.target.view(24, -1).tolist()}) > (name != "length")
    usual = program_pairs(program, 24, generator(), resampled=False)
    assert corrupt_logits(program.model, usual, run_both(program.model, usual)).argmax(-1).equal(usual.foil)
    assert usual.clean_tokens.equal(pairs.clean_tokens)
    with pytest.raises(ValueError, match="n_pairs = 0: must be at least 1"):
        program_pairs(program, 0, generator())


def test_every_edge_is_flagged_or_scored_under_every_counterfactual():
    built = build(Parity(), max_length=5, rungs=BuildOptions(distractors=True))
    edges = all_edges(built.model.config)
    for name in method_card.COUNTERFACTUALS:
        pairs, corrupt = method_card.counterfactual(built, name, 12, seed=1)
        runs = run_both(built.model, pairs, corrupt)
        for method in method_card.QUICK:
            found = SCORERS[method](built.model, pairs, edges, cross_entropy, corrupt)
            sizes = ranked(found)
            still = found.no_effect if method == "exact" else found.zero_gradient
            assert method == "exact" or not any(found.no_effect)  # a gradient does not tell
            for edge, score, size, hidden, idle in zip(
                edges, found.scores.tolist(), sizes.tolist(), found.unidentifiable, still, strict=True
            ):
                own, other = (out[edge.writer][pairs.both_read] for out in (runs.clean, runs.corrupt))
                assert hidden == bool((other - own).norm() <= 1e-6 * own.norm().clamp(min=1e-6)), (name, edge)
                assert idle == (not hidden and abs(score) < 1e-6), (name, edge)
                if hidden:
                    assert size == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "task"),
    enumerate([
        *(Polynomial(modulus=p) for p in (2, 3, 7, 11)), Automaton(transitions=((1, 0), (2, 0), (2, 1))),
        Counter(modulus=3), Symmetric(n=3), Dihedral(n=3),
    ]),
    ids=str,
)  # fmt: skip
def test_exact_patching_is_right_on_all_other_tasks(place, task):
    """Each build on every second task, and each task with every second build."""
    for name, rungs in list(RUNGS.items())[place % 2 :: 2]:
        if solves(task, rungs):
            built = build(task, rungs=rungs)
            pairs, _ = method_card.counterfactual(built, method_card.IDENTIFYING, 48, seed=2)
            edges = all_edges(built.model.config)
            if task.n_inputs - task.first_input == 1:  # x_t is the same in every string, which no pair can vary
                edges = [edge for edge in edges if edge.writer != TOK or edge.reader.kind != "v"]
            found = grade(exact(built.model, pairs, edges), built.edges & set(edges))
            assert found.coverage == 1, name
            assert found.auc_all >= 0.99, name


def test_families_without_their_folder_are_left_out(tmp_path):
    assert {subject.family for subject in subjects(tmp_path)} == {"hand-built", "misleading"}
    for family, known in (
        ("Tracr", tracr_programs(NETWORKS / "tracr")), ("trained-in", trained_in_networks(NETWORKS / "trained_in")),
    ):  # fmt: skip
        assert len(known) == sum(subject.family == family for subject in EVERY) > 0


def test_the_page_shows_every_cell_and_fetches_nothing():
    page = method_card_page(CARD)
    assert page.count("<td style='background") == len(CARD)
    assert page.count(" ●") == CARD["top_is_truth"].sum() + 1  # and once in the legend
    for row in SUMMARY.itertuples():
        assert (
            f"<td>{row.auc:.3f}<br>{row.n_top_is_truth} of {row.n_networks}<br>{row.n_forwards:.0f} passes</td>" in page
        )
    assert "http" not in page
