import math
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from helpers import control, generator, pairs_of

from compo_mech.circuits import discovery
from compo_mech.circuits.discovery import SWAPPED, _moved, _objections, discover
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.edge_search import Found
from compo_mech.circuits.edge_sets import OnRows
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.gradient_scorers import eap
from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.prompts import take_rows
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import top
from compo_mech.circuits.stability import stability
from compo_mech.data.config import DataConfig
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, all_edges
from compo_mech.interventions.graph import run_both
from compo_mech.interventions.metrics import METRICS, answered, cross_entropy, kl_divergence
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.stats.intervals import Interval
from compo_mech.training import loop
from compo_mech.training.loop import TrainConfig

BUILT = build(Parity())
EVERY = all_edges(BUILT.model.config)
FEW, MANY = range(4), range(50)
BREAKS = ("lookup", "subtraction", "iteration", "update")


def found_in(model, data, seed=0):
    max_shift = model.n_ctx - data.layout.n_tokens(data.max_length)  # as trained, or as built
    return discover(model, pairs_of(data, n_rows=24, seed=seed, max_shift=max_shift), generator(seed))


@cache
def trained(config):
    """A run of a recipe, without its measurements."""
    n_ctx = config.data.layout.n_tokens(config.data.max_length) + config.train.max_position_shift
    rng = generator(0)
    params = init_params(config.model, len(config.data.vocabulary), n_ctx, rng)
    for param in params.values():
        param.requires_grad_(True)
    state = loop.start(params, config.model, config.optim, rng)
    for _ in loop.train(state, TrainingStream(config.data, 0), config.model, config.optim, config.train):
        pass
    return Model({name: param.detach() for name, param in state.params.items()}, config.model)


SHORT = recipes.polynomial().model_copy(
    update={
        "data": DataConfig(tasks=(Copy(),), max_length=5),
        "train": TrainConfig(n_steps=200, max_position_shift=2),
    }
)


def untrained(n_heads, seed):
    data = recipes.parity().data
    n_ctx = data.layout.n_tokens(data.max_length) + 2
    return control(ModelConfig(n_heads=n_heads), data, seed, n_ctx), data


def shuffled(config, seed):
    """A trained network with the entries of every matrix in another order: same weights, no structure."""
    model, rng = trained(config), generator(seed)
    params = {
        name: param.flatten()[torch.randperm(param.numel(), generator=rng)].view_as(param) if param.ndim > 1 else param
        for name, param in model.params.items()
    }
    return Model(params, model.config), config.data


def decoy(broken, seed):
    """A hand-built circuit of something else than the task, in one of several guises."""
    task = (Parity(), Copy(), Polynomial(modulus=5))[seed % 3]
    guise = ({}, {"distractors": True}, {"rotated": True}, {"noise": 0.01})[seed // 3 % 4]
    built = build(task, rungs=BuildOptions(broken=broken, seed=seed, **guise))
    return built.model, built.data


NO_CIRCUITS = {
    "randomly initialised, 1 heads": partial(untrained, 1),
    "randomly initialised, 4 heads": partial(untrained, 4),
    "shuffled": partial(shuffled, SHORT),
    "decoy": lambda seed: decoy(BREAKS[seed % 4], seed // 4),
}


def n_circuits(make, seeds):
    return sum(found_in(*make(seed), seed).verdict == "circuit" for seed in seeds)


@pytest.mark.parametrize("kind", NO_CIRCUITS)
def test_networks_without_a_circuit_are_told(kind):
    assert n_circuits(NO_CIRCUITS[kind], FEW) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", NO_CIRCUITS)
def test_networks_without_a_circuit_are_told_fifty_times(kind):
    assert n_circuits(NO_CIRCUITS[kind], MANY) <= 2


@pytest.mark.slow
def test_a_run_of_the_recipe_has_a_circuit_until_its_weights_are_shuffled():
    config = changed(recipes.parity(), {"data.max_length": 8})
    assert found_in(trained(config), config.data).verdict == "circuit"
    assert n_circuits(partial(shuffled, config), FEW) == 0


def test_a_trained_network_has_a_circuit():
    found = found_in(trained(SHORT), SHORT.data)
    assert found.verdict == "circuit", found.reason
    assert len(found.circuit) < found.n_edges == 32
    assert found.swap >= SWAPPED


@pytest.mark.parametrize(
    "rungs",
    [
        BuildOptions(), BuildOptions(sharpness=150, rotated=True), BuildOptions(split=True), BuildOptions(backup=True),
        BuildOptions(noise=0.01, distractors=True),
    ],
    ids=str,
)  # fmt: skip
def test_the_circuit_of_a_hand_built_network_is_found(rungs):
    built = build(Polynomial(modulus=5), rungs=rungs)
    found = found_in(built.model, built.data)
    assert found.verdict == "circuit", found.reason
    assert found.circuit == built.edges
    assert found.random.high < 0.5
    assert found.swap > 0.98


def test_what_counts_is_the_task_and_not_what_the_network_does():
    """A decoy is true to itself by a small circuit; that is no circuit for the task."""
    decoy = build(Parity(), rungs=BuildOptions(broken="iteration"))
    pairs = pairs_of(decoy.data, n_rows=24)
    own = Behaviour(decoy.model, pairs, kl_divergence)
    assert own.faithfulness(BUILT.edges) == pytest.approx(1, abs=1e-3)  # the same ten edges
    found = discover(decoy.model, pairs, generator(0))
    assert found.verdict == "cannot be told"
    assert found.circuit is None
    assert found.reason.startswith(f"cannot be told: the network is right about {found.accuracy.clean:.1%} of the ")
    assert "90% of the former are needed" in found.reason  # a build is not meant to answer shifted strings
    other_task = build(Copy())  # copy's tokens are parity's
    wrong = replace(pairs_of(other_task.data, n_rows=24), target=pairs_of(other_task.data, n_rows=24).target.roll(1))
    assert discover(other_task.model, wrong, generator(0)).verdict == "cannot be told"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("LARGEST_FRACTION", 0.1, "that is nearly the whole network (at most 10% allowed)"),
        ("HELD_OUT", 1.01, "found on half of the prompts, one moves 1.00 on the others (1.01 needed)"),
        ("OVERLAP", 1.01, "circuits of two halves of the prompts overlap by 1.00 (1.01 needed)"),
    ],
)
def test_every_demand_can_fail(monkeypatch, name, value, complaint):
    monkeypatch.setattr(discovery, name, value)
    found = found_in(BUILT.model, BUILT.data)
    assert found.verdict == "no circuit"
    assert found.reason.endswith(f"but {complaint}")
    assert found.circuit == BUILT.edges


def test_random_circuits_that_do_as_well_speak_against_one(monkeypatch):
    monkeypatch.setattr(discovery, "random_edges", lambda edges, n_edges, generator: BUILT.edges)
    found = found_in(BUILT.model, BUILT.data)
    assert found.verdict == "no circuit"
    assert f"as many at random move {found.random}, up to as much" in found.reason
    assert found.random.high >= found.swap >= SWAPPED


def test_a_large_network_is_searched_in_score_order(monkeypatch):
    """By the smallest of the circuits that move enough; scores that say nothing need nearly every edge."""

    def even(model, pairs, edges, metric, corrupt):
        return EdgeScores(tuple(edges), torch.ones(len(edges)), (False,) * len(edges), (False,) * len(edges))

    monkeypatch.setattr(discovery, "LARGE", 60)
    found = found_in(BUILT.model, BUILT.data)
    assert found.verdict == "circuit"
    assert found.circuit == BUILT.edges
    assert found.found is None
    assert found.reason.startswith("circuit: the first 10 of 61 edges in score order move 1.00 of")
    found = discover(BUILT.model, pairs_of(BUILT.data, n_rows=24), generator(0), even)
    assert found.verdict == "no circuit"
    assert found.circuit == set(EVERY[: len(found.circuit)])
    assert len(found.circuit) > 0.9 * found.n_edges


def test_a_circuit_of_one_edge():
    """A network without blocks, and a task that it does: say the token again."""
    config = ModelConfig(d_model=16, normalization="none", n_layers=1)
    data = DataConfig(tasks=(Copy(),), max_length=4)
    params = init_params(config, len(data.vocabulary), 20, generator(0))
    params = {name: torch.zeros_like(p) if name.endswith(("W_O", "W_out")) else p for name, p in params.items()}
    params["embed.W_E"] = torch.eye(16)[: len(data.vocabulary)]
    params["pos_embed.W_pos"] = params["pos_embed.W_pos"] * 0
    params["unembed.W_U"] = torch.eye(16)[:, : len(data.vocabulary)]
    model, pairs = Model(params, config), pairs_of(data, n_rows=24)
    itself = pairs.clean_tokens[pairs.row, pairs.position]
    repeats = replace(pairs, target=itself, foil=pairs.corrupt_tokens[pairs.row, pairs.position])
    found = discover(model, repeats, generator(0))
    assert found.circuit == {Edge(TOK, LOGITS)}
    assert found.verdict == "circuit"
    assert found.swap == found.held_out == found.overlap == 1
    assert found.n_edges == len(all_edges(config))
    assert found.random.mean == pytest.approx(1 / found.n_edges, abs=0.2)


def test_no_swap_where_nothing_differs():
    pairs = pairs_of(BUILT.data, n_rows=24)
    with pytest.raises(ValueError, match="none with answers that differ"):
        discover(BUILT.model, replace(pairs, foil=pairs.target), torch.Generator())
    with pytest.raises(ValueError, match=r"pairs = 1 rows: must be at least 2"):
        discover(BUILT.model, take_rows(pairs, torch.tensor([0])), torch.Generator())


def test_the_same_seeds_give_the_same_discovery():
    one, two = (found_in(BUILT.model, BUILT.data, seed=3) for _ in range(2))
    assert (one.circuit, one.swap, one.random, one.held_out) == (two.circuit, two.swap, two.random, two.held_out)


def test_rows_are_taken_with_all_that_belongs_to_them():
    pairs = pairs_of(BUILT.data, n_rows=6)
    rows = torch.tensor([4, 1, 4])
    taken = take_rows(pairs, rows)
    assert torch.equal(taken.clean_tokens, pairs.clean_tokens[rows])
    assert torch.equal(taken.corrupt_position_ids, pairs.corrupt_position_ids[rows])
    assert taken.lengths.tolist() == pairs.lengths[rows].tolist()
    places = list(
        zip(taken.row.tolist(), taken.position.tolist(), taken.target.tolist(), taken.foil.tolist(), strict=True)
    )
    expected = [
        (new, int(pairs.position[i]), int(pairs.target[i]), int(pairs.foil[i]))
        for new, old in enumerate(rows.tolist())
        for i in range(len(pairs.row))
        if pairs.row[i] == old
    ]
    assert places == expected
    whole = take_rows(pairs, torch.arange(6))
    assert all(
        torch.equal(getattr(whole, name), getattr(pairs, name)) for name in ("row", "position", "target", "foil")
    )
    with pytest.raises(ValueError, match="no scored position"):
        take_rows(pairs, torch.tensor([], dtype=torch.long))


@pytest.mark.parametrize("metric", METRICS)
def test_one_patch_serves_every_resample(metric):
    """Against scoring each resample by itself, on a network that is wrong to a different degree on each."""
    model, data = untrained(2, 0)
    pairs, rng = pairs_of(data, n_rows=8, max_shift=2), generator(0)
    draws = [torch.randint(8, (8,), generator=rng) for _ in range(3)]
    edges = all_edges(model.config)[::4]
    kept = EdgePatches.run(model, pairs, edges)
    assert kept.scores(METRICS[metric]).scores.tolist() == exact(model, pairs, edges, METRICS[metric]).scores.tolist()
    fast = torch.stack([kept.values(METRICS[metric], rows) for rows in draws])
    slow = torch.stack([exact(model, take_rows(pairs, rows), edges, METRICS[metric]).scores for rows in draws])
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-4)
    assert (fast[0] - fast[1]).abs().max() > 1e-4
    for rows, found in zip(draws, fast, strict=True):
        taken = kept.take(rows).scores(METRICS[metric])
        alone = exact(model, take_rows(pairs, rows), edges, METRICS[metric])
        assert taken.scores.tolist() == found.tolist()
        assert (taken.unidentifiable, taken.edges) == (alone.unidentifiable, alone.edges)


def test_scores_by_row_add_up_to_those_of_all_rows():
    model, data = untrained(2, 0)
    pairs = pairs_of(data, n_rows=8, max_shift=2)
    kept = EdgePatches.run(model, pairs)
    by_row = kept.by_row()
    mean = by_row.rise.sum(1) / by_row.n_scored.sum()
    torch.testing.assert_close(mean.float(), kept.scores().scores, atol=1e-6, rtol=1e-4)
    rows = torch.tensor([5, 0])
    torch.testing.assert_close(kept.take(rows).by_row().rise, by_row.rise[:, rows])
    torch.testing.assert_close(kept.take(rows).by_row().gap, by_row.gap[rows])


def test_overlaps_by_hand():
    one, two, three = (Edge(writer, LOGITS) for writer in (TOK, POS, EVERY[-1].writer))
    assert jaccard(frozenset({one, two}), frozenset({two, three})) == pytest.approx(1 / 3)
    assert jaccard(frozenset({one}), frozenset({one})) == 1
    assert jaccard(frozenset({one}), frozenset({two})) == 0
    assert jaccard(frozenset(), frozenset()) == 1


def test_a_clear_circuit_is_stable_and_a_guess_is_not():
    def overlap(model, data, scorer=exact, n_edges=10):
        rng, pairs = generator(0), pairs_of(data, n_rows=16, max_shift=2)
        return stability(model, pairs, partial(top, n_edges=n_edges), rng, n_resamples=10, scorer=scorer)

    assert overlap(BUILT.model, BUILT.data) == (1, 1, 1)
    slow = overlap(BUILT.model, BUILT.data, scorer=lambda *args: exact(*args), n_edges=7)
    assert slow == overlap(BUILT.model, BUILT.data, n_edges=7)
    assert slow.low < 1  # seven of ten: which ones, the prompts decide
    guess = overlap(*untrained(1, 0), scorer=eap)
    assert guess.low < guess.mean < 1
    assert guess.mean <= guess.high <= 1


def test_answers_are_counted_where_they_differ():
    pairs = pairs_of(BUILT.data, n_rows=8)
    runs = run_both(BUILT.model, pairs)
    assert answered(runs.logits, runs.logits, pairs) == 1
    right = torch.nn.functional.one_hot(pairs.target, runs.logits.shape[1]).float()
    assert answered(right, right, pairs) == 1
    foils = torch.nn.functional.one_hot(pairs.foil, runs.logits.shape[1]).float()
    assert answered(foils, right, pairs) == 0  # though many places have the same answer on both
    assert cross_entropy(foils, right, pairs) < cross_entropy(-right, right, pairs)


class Half(OnRows):
    """Half of the prompts, on which one edge moves 0.9 of the answers and all others what is left over."""

    def __init__(self, edge, others):
        self.edge, self.others = edge, others

    def swap(self, circuit):
        return 0.9 if self.edge in circuit else self.others


def test_a_circuit_of_one_half_is_tried_on_the_other(monkeypatch):
    scores = EdgeScores((EVERY[0],), torch.ones(1), (False,), (False,))
    halves = [(Half(EVERY[0], 0.3), scores), (Half(EVERY[1], 0.2), scores)]
    monkeypatch.setattr(discovery, "_circuit", lambda on, scores: (frozenset({on.edge}), None))
    assert discovery._held_out(halves) == (0.2, 0.0)
    monkeypatch.setattr(discovery, "_circuit", lambda on, scores: (None, None))
    assert discovery._held_out(halves) == (None, None)


@pytest.mark.parametrize(
    ("overlap", "objects"), [(0.7391, True), (20 / 27 - 1e-9, True), (0.7408, False), (1.0, False)]
)
def test_halves_that_agree_no_more_than_random_circuits_do_are_an_objection(overlap, objects):
    """Two random sets of 80 of 94 edges share 80 * 80 / 94, of 2 * 80 less those: 80 / (2 * 94 - 80), 20 / 27."""
    found = _objections(80, 94, 1.0, Interval(0.5, 0.4, 0.6), held_out=1.0, overlap=overlap)
    assert bool(found) == objects
    assert not objects or "and two random ones of its size by 0.74" in found[0]
    assert _objections(20, 94, 1.0, Interval(0.5, 0.4, 0.6), held_out=1.0, overlap=0.6) == []


@pytest.mark.parametrize(
    "given", [{"held_out": math.nan}, {"overlap": math.nan}, {"random": Interval(*[math.nan] * 3)}]
)
def test_what_is_not_a_number_is_no_reason_for_a_circuit(given):
    fine = {"size": 20, "n_edges": 94, "moved": 1.0, "random": Interval(0.5, 0.4, 0.6), "held_out": 1.0, "overlap": 1.0}
    assert _objections(**fine) == []
    assert len(_objections(**fine | given)) == 1


def test_one_edge_is_singular():
    edges = frozenset(all_edges(BUILT.model.config)[:1])
    one = Found(edges, {}, edges, n_sets=0, background=0.0, finished=True)
    assert _moved(1, 61, 0.95, one).startswith(
        "1 of 61 edges, 1 of which matters only together with others, moves 0.95 "
    )
    assert _moved(2, 61, 0.95, None).startswith("the first 2 of 61 edges in score order move 0.95 ")
