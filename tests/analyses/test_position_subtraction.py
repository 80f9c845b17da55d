from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from helpers import SEEDS, generator

from compo_mech.analyses import position_subtraction
from compo_mech.analyses.examine import Answer
from compo_mech.analyses.position_subtraction import examine_subtraction
from compo_mech.analyses.subtraction_probe import _rule_or_table, behaviour_sentence, subtraction_verdict
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.probing import probes, sites
from compo_mech.probing.grid import position_grid
from compo_mech.probing.probes import linear_probe
from compo_mech.probing.unseen_pairs import Exposure, UnseenPairs, data_pairs
from compo_mech.stats.intervals import Interval
from compo_mech.weights.subtraction import Subtraction

FLAGS = ("decodable", "query_by_difference", "mlp_out", "q", "followed", "needed")


@pytest.fixture(autouse=True)
def fewer_pairs(monkeypatch):
    """Builds are judged by fewer pairs, and no verdict rests on how well small MLPs are fitted."""
    monkeypatch.setattr(position_subtraction, "N_SWAPS", 200)
    monkeypatch.setattr(probes, "N_STEPS", 2)


def flags(found):
    """Every property that a verdict can rest on."""
    return {
        "decodable": found.decodable,
        "query_by_difference": found.query_by_difference,
        "mlp_out": found.holds("mlp_out"),
        "q": found.holds("q"),
        "followed": found.followed,
        "needed": found.additive["MLP output"].needed,
    }


@lru_cache
def examined(task, rungs, seed=0, thorough=False):
    built = build(task, rungs=rungs)
    return examine_subtraction(built.model, built.data, task, seed, int(rungs.three_layers), thorough)


def untrained(data, seed):
    settings = ModelConfig()
    n_ctx = data.layout.n_tokens(data.max_length)
    return Model(init_params(settings, len(data.vocabulary), n_ctx, generator(seed)), settings)


# ------------------------------------------------------------------------------------ the grid


def test_the_grid_has_every_pair_once_by_hand():
    grid = position_grid(DataConfig(max_length=4), Parity(), generator())
    pairs = list(zip(grid.i.tolist(), grid.j.tolist(), grid.t.tolist(), strict=True))
    assert pairs == [(4, 3, 2), (5, 4, 2), (6, 4, 3), (6, 5, 2), (7, 5, 3), (8, 5, 4)]  # t = i - j + 1, not from [EoI]
    left_out = DataConfig(max_length=5, length_weights=(1.0, 1.0, 0.0, 1.0, 1.0))
    assert position_grid(left_out, Parity(), generator()).j.tolist() == [3, *[5] * 3, *[6] * 4]


def test_rows_of_the_grid_are_its_pairs():
    data = DataConfig(tasks=(Polynomial(modulus=5),), max_length=6)
    grid = position_grid(data, Polynomial(modulus=5), generator())
    rows, groups = grid.rows, grid.split.groups
    assert torch.equal(groups.bincount(), torch.full((15,), 8))
    assert torch.equal(grid.t, grid.i - grid.j + 1)
    for key, of_row in ((grid.i, rows.position), (grid.j, rows.end), (grid.t, rows.t), (grid.t - 2, grid.split.labels)):
        assert torch.equal(key[groups], of_row)
    assert (rows.tokens.gather(1, rows.end[:, None]) == data.vocabulary.end_of_input_id).all()
    assert (rows.tokens.gather(1, rows.position[:, None])[:, 0] == rows.s).all()
    fold = grid.split.of_groups(grid.split.fold)
    for key in (grid.i, grid.j, grid.t):  # what is held out has its i, its j and its t elsewhere
        for group in (fold >= 0).nonzero()[:, 0]:
            assert (key[fold != fold[group]] == key[group]).any()


# ---------------------------------------------------------------------- builds that subtract

EXACT = [
    BuildOptions(),
    BuildOptions(rotated=True),
    BuildOptions(subtraction="difference"),
    BuildOptions(subtraction="difference", rotated=True),
    BuildOptions(three_layers=True),
]
HARDER = [
    BuildOptions(layer_norm=True),
    BuildOptions(layer_norm=True, rotated=True),
    BuildOptions(sharpness=8),
    BuildOptions(noise=0.01, rotated=True),
    BuildOptions(distractors=True, rotated=True),
    BuildOptions(three_layers=True, rotated=True, distractors=True),
]


def named(rungs):
    return ", ".join(f"{name}={value}" for name, value in rungs.model_dump(exclude_defaults=True).items()) or "pristine"


@pytest.mark.parametrize("rungs", EXACT + HARDER, ids=named)
def test_builds_subtract(rungs):
    found, exact = examined(Parity(), rungs), rungs in EXACT
    least = 1 if exact else 0.99
    for site in ("MLP output", "query"):
        assert found.probe(site)["linear"] >= least
        assert found.probe(site)["permuted"] < 0.3
    for site in ("raw embeddings", "MLP input"):  # all other pairs with the same i have another t
        assert found.probe(site)["linear"] < 0.05
    assert found.guess_from_i < 0.5
    assert found.score.mean >= (0.999 if exact else 0.95)
    for kind in ("mlp_out", "q"):
        for context in ("matched", "independent"):
            assert found.best_site(kind, context)["iia"] >= least
    assert flags(found) == dict.fromkeys(FLAGS, True)
    assert subtraction_verdict(found).answer == Answer.YES


@pytest.mark.parametrize("rungs", [BuildOptions(rotated=True), BuildOptions(subtraction="difference")], ids=named)
@pytest.mark.parametrize("task", [Copy(), Polynomial(modulus=5)], ids=str)
def test_the_task_does_not_matter(task, rungs):
    found = examined(task, rungs)
    assert found.probe("MLP output")["linear"] == 1
    assert found.score.mean >= 0.999
    assert found.best_site("q", "independent")["iia"] == 1
    assert subtraction_verdict(found).answer == Answer.YES


def test_rule_and_table_are_told_apart_by_weights_and_by_neurons():
    table, rule = (examined(Parity(), BuildOptions(subtraction=s), thorough=True) for s in ("table", "difference"))
    assert table.kind is not None
    assert rule.kind is not None
    assert (table.kind.verdict, rule.kind.verdict) == ("table", "rule")
    assert table.score_by_weights[0] >= 0.999
    assert examined(Parity(), BuildOptions(three_layers=True)).kind is None
    assert table.neurons is not None
    assert rule.neurons is not None
    assert table.curve is not None
    works = table.neurons["added"] > 1e-6
    assert works.sum() == 28 - 6  # a neuron a pair, but six pairs are sums: (4, 3), (5, 4), (15, 9) and (16, 9) have
    #                               an i of their own, so (6, 4) is what is left of j = 4, and (6, 5) of i = 6
    assert table.neurons["n_pairs"][works].to_numpy() == pytest.approx(1, abs=1e-3)
    bends = rule.neurons["added"] > 1e-6
    assert rule.neurons["share by t"][bends].to_numpy() == pytest.approx(1, abs=1e-4)
    assert bends.sum() < 8
    assert (table.neurons["share by t"][works] < 0.5).all()
    assert table.curve["chosen"].iloc[0] == 1
    assert table.curve["chosen"].iloc[-1] == pytest.approx(table.additive["MLP output"].additive.mean, abs=2e-3)


def test_the_same_seed_gives_the_same_findings_and_another_others():
    built = build(Parity(), max_length=4, rungs=BuildOptions(noise=0.01, rotated=True))
    first, again, other = (
        examine_subtraction(built.model, built.data, Parity(), seed, thorough=False) for seed in (0, 0, 1)
    )
    assert first.probes.equals(again.probes)
    assert first.interchanges.equals(again.interchanges)
    assert not first.interchanges.equals(other.interchanges)
    assert not first.probes.equals(other.probes)


# ---------------------------------------------------------------------------- and that do not


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
@pytest.mark.parametrize("subtraction", ["table", "difference"])
def test_builds_with_a_broken_subtraction_get_a_no(subtraction, task, seed):
    found = examined(task, BuildOptions(broken="subtraction", subtraction=subtraction, rotated=True, seed=seed), seed)
    assert flags(found) == dict.fromkeys(FLAGS, False)
    assert str(subtraction_verdict(found)).startswith("no")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pointer_that_no_answer_follows_is_not_said_to_be_used_or_absent(seed):
    for broken in ("update", "iteration"):
        found = examined(Parity(), BuildOptions(broken=broken, seed=seed), seed)
        assert found.decodable  # it is there
        assert found.query_by_difference
        assert not found.holds("mlp_out")
        assert not found.holds("q")
        assert not found.followed
        assert not found.additive["MLP output"].needed
        assert str(subtraction_verdict(found)).startswith("cannot be told; t is decodable")


@pytest.mark.parametrize(
    ("name", "layer", "answer"),
    [("counted", 1, Answer.NO), ("prefix sums", 0, Answer.CANNOT_BE_TOLD), ("sinusoidal positions", 0, Answer.YES)],
)
def test_counting_is_no_subtraction_and_a_prefix_has_no_answer_for_another_t(name, layer, answer):
    built = build_hard_case(name, Parity(), max_length=6)
    found = examine_subtraction(built.model, built.data, Parity(), 0, layer, thorough=False)
    assert subtraction_verdict(found).answer == answer
    assert found.decodable
    if name == "counted":  # t is held and used, but the row's position has nothing to do with it
        assert found.holds("mlp_out")
        assert found.own_position.follows == 0
        assert found.own_position.keeps == 1


def test_the_row_s_own_position_decides_at_its_threshold():
    found = examined(Parity(), BuildOptions())
    unread = found.probes.copy()
    unread[["linear", "low"]] = 0.0
    hidden = replace(found, probes=unread)  # positions are used, but t is not found
    assert subtraction_verdict(hidden).answer == Answer.CANNOT_BE_TOLD
    still = replace(hidden, own_position=replace(found.own_position, accuracy=Interval(0.8, 0.75, 0.85)))
    assert subtraction_verdict(still).answer == Answer.NO
    assert found.own_position.accuracy.mean == 1
    assert max(found.own_position.placebo, found.own_position.permuted) < 0.75  # neither control passes
    for low, answer in ((0.7501, Answer.YES), (0.75, Answer.NO)):
        moved = replace(found.own_position, accuracy=Interval(0.8, low, 0.85))
        verdict = subtraction_verdict(replace(found, own_position=moved))
        assert verdict.answer == answer
        assert (answer == Answer.YES) or verdict.reasons == ("answers do not follow the row's own position",)
        kept = replace(found, state=replace(moved, placebo=0.5, permuted=0.5))
        assert subtraction_verdict(kept).answer == (Answer.YES if low > 0.75 else Answer.CANNOT_BE_TOLD)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_place_of_the_end_there_is_nothing_to_subtract(seed):
    found = examined(Parity(), BuildOptions(broken="lookup", rotated=True, seed=seed), seed)
    assert flags(found) == dict.fromkeys(FLAGS, False)
    assert found.score.mean < 0.3


def test_what_is_missing_is_said():
    found = examined(Parity(), BuildOptions())
    held = found.interchanges.copy()
    held.loc[(held["kind"] == "mlp_out"), "iia"] = 0.85
    in_part = replace(found, interchanges=held)
    assert subtraction_verdict(in_part).answer == Answer.IN_PART
    cut = found.additive["MLP output"]._replace(additive=Interval(0.95, 0.94, 0.96))
    hardly = replace(in_part, additive=found.additive | {"MLP output": cut})
    assert str(subtraction_verdict(hardly)) == (
        "no; answers do not follow the t of its output, answers do not need what it has beyond sums over i and j"
    )
    neither = in_part.interchanges.copy()
    neither.loc[(neither["kind"] == "q"), ["iia", "low"]] = 0.7
    assert str(subtraction_verdict(replace(found, interchanges=neither))) == (
        "no; answers do not follow the t of its output, answers do not follow the t of the next layer's query"
    )
    for control in ("placebo", "permuted"):
        held = found.interchanges.copy()
        held[control] = 0.95
        assert not replace(found, interchanges=held).holds("q")
        assert not replace(found, interchanges=held).followed


# ----------------------------------------------------------------------------- controls


def counted(seeds, lengths, monkeypatch, thorough):
    """How many controls have each property, and the share of permuted labels that are decoded by chance."""
    monkeypatch.setattr(sites, "mlp_probe", lambda values, split, generator: linear_probe(values, split))
    results = {}
    for longest in lengths:
        data = DataConfig(max_length=longest)
        found = [examine_subtraction(untrained(data, seed), data, Parity(), seed, 0, thorough) for seed in seeds]
        named = {name: sum(flags(one)[name] for one in found) for name in FLAGS}
        by_chance = sum(one.probes.set_index("site")["by_chance"].astype(float) for one in found) / len(found)
        results[longest] = named, by_chance, max(one.score.low for one in found)
        assert all(str(subtraction_verdict(one)).startswith("no") for one in found)
    return results


def test_a_few_controls_have_none_of_it(monkeypatch):
    for named, _, score in counted(range(1), (8, 12), monkeypatch, thorough=False).values():
        assert named == dict.fromkeys(FLAGS, 0)
        assert score < 0.4


@pytest.mark.slow
def test_fifty_controls_hardly_ever_have_any_of_it(monkeypatch):
    found = counted(range(25), (8, 12), monkeypatch, thorough=True).values()
    assert max(sum(named[flag] for named, _, _ in found) for flag in FLAGS) <= 5, found
    assert (sum(by_chance for _, by_chance, _ in found) / len(found) > 0.9 - 1e-9).all(), found
    assert max(score for _, _, score in found) < 0.4


# ------------------------------------------------------------------------------ never trained on


def test_behaviour_is_asked_where_pairs_are_unseen():
    built = build(Parity(), rungs=BuildOptions(subtraction="gaps", seed=1))
    pairs = frozenset(data_pairs(built.data))
    exposure = Exposure(built.gaps & pairs, pairs - built.gaps)
    found = examine_subtraction(built.model, built.data, Parity(), 0, thorough=False, exposure=exposure)
    assert found.behaviour is not None
    assert found.behaviour.verdict == "table"
    assert examined(Parity(), BuildOptions()).behaviour is None


def said_of(unseen, seen, guess, n):
    pairs = tuple((i, 3) for i in range(4, 4 + n))
    behaviour = UnseenPairs(pairs, Interval(seen, seen, seen), Interval(*unseen), guess, None)
    return behaviour_sentence(replace(examined(Parity(), BuildOptions()), behaviour=behaviour))


@pytest.mark.parametrize(
    ("unseen", "seen", "guess", "n", "said"),
    [
        ((0.95, 0.9, 1.0), 1.0, 0.5, 6, "a rule: it does pairs that were never trained on. At 6 pairs of "),
        ((0.95, 0.8996, 1.0), 1.0, 0.5, 6, "in between. At 6 pairs of "),
        ((0.6, 0.5, 0.75), 1.0, 0.5, 6, "a table: it fails at pairs that were never trained on. At 6 pairs of "),
        ((1.0, 0.0, 1.0), 1.0, 0.5, 1, "cannot be told from 1 pair (6 needed). At 1 pair of positions never "),
        ((1.0, 1.0, 1.0), 1.0, 0.5, 5, "cannot be told from 5 pairs (6 needed). At 5 pairs of "),
        ((0.95, 0.9, 1.0), 0.95, 0.88, 6, "cannot be told, since at trained pairs it does not exceed the best guess "),
    ],
)
def test_what_is_said_of_pairs_never_trained_on(unseen, seen, guess, n, said):
    sentence = said_of(unseen, seen, guess, n)
    assert sentence.startswith(f"Rule or table, by behaviour: {said}")
    low = "0.8996" if unseen[1] == 0.8996 else f"{unseen[1]:.2f}"
    assert f"{unseen[0]:.2f} ({low} .. {unseen[2]:.2f}) of states are right (a rule: an interval from " in sentence
    if guess == 0.5:
        assert "an interval from 0.90 on; a table: up to 0.75)" in sentence
    assert "fail as well" not in sentence


@pytest.mark.parametrize(
    ("kind", "control", "said"),
    [
        (
            Subtraction("neither", 0.95, 3.0, 0.9496, 4.0, 36), None,
            "neither a rule nor a table; of neurons' variance i - j explains 95.0% in the mean and 94.96% in the "
            "median (a rule: 90% and 95% or more; no control), and the median neuron is active on 4.0 of 36 pairs "
            "(a table: at most 7.2, and at most 50% explained in the mean; no control).",
        ),
        (
            Subtraction("table", 0.5, 3.0, 0.4, 7.2, 36), Subtraction("neither", 0.2, 9.0, 0.25, 12.6, 36),
            "a table; of neurons' variance i - j explains 50.0% in the mean and 40.0% in the median (a rule: 90% and "
            "95% or more; control 20% and 25%), and the median neuron is active on 7.2 of 36 pairs (a table: at most "
            "7.2, and at most 50% explained in the mean; control 12.6).",
        ),
    ],
)  # fmt: skip
def test_what_decides_by_the_weights_is_said(kind, control, said):
    found = examined(Parity(), BuildOptions())
    assert _rule_or_table(replace(found, kind=kind), replace(found, kind=control)) == (
        f"Rule or table, by the weights: {said}"
    )


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("data", "settings", "task", "message"),
    [
        ({}, {"n_layers": 1}, Parity(), "n_layers = 1: must be at least 2"),
        ({"chain_of_thought": False}, {}, Parity(), "chain_of_thought = False"),
        ({"max_length": 1}, {}, Parity(), r"pairs \(i, j\) = 0: must be at least 4"),
        ({"max_length": 2}, {}, Parity(), r"pairs \(i, j\) = 1: must be at least 4"),
        ({"max_length": 3}, {}, Parity(), r"pairs \(i, j\) = 3: must be at least 4"),
        ({"min_length": 6, "max_length": 6}, {}, Parity(), "pairs to test = 0"),
        ({}, {}, Copy(), "task = copy: must be one of parity"),
    ],
)
def test_what_cannot_be_asked_gets_one_line(data, settings, task, message):
    data, config = DataConfig(**{"max_length": 6, **data}), ModelConfig(d_model=16, **settings)
    params = init_params(config, len(data.vocabulary), data.layout.n_tokens(data.max_length), generator())
    with pytest.raises(ValueError, match=f"^{message}") as error:
        examine_subtraction(Model(params, config), data, task, 0)
    assert "\n" not in str(error.value)
    if "n_layers" not in settings:
        with pytest.raises(ValueError, match=f"^{message}"):
            position_grid(data, task, generator())


def test_a_layer_with_none_after_it_is_refused():
    built = build(Parity())
    with pytest.raises(ValueError, match="n_layers = 2: must be at least 3"):
        examine_subtraction(built.model, built.data, Parity(), 0, layer=1)
