from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
import torch
from helpers import control, generator

from compo_mech.analyses.sharing import circuits_of, compare, evidence, standing
from compo_mech.circuits.edge_patches import RowScores
from compo_mech.circuits.overlap import permutation_test, permuted_overlap, standard_ranks
from compo_mech.circuits.selection import score_order
from compo_mech.cli.commands import dissect_command
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Span
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.steps import Steps
from compo_mech.interventions.edges import POS, TOK, Edge, Reader, Writer, all_edges
from compo_mech.interventions.task_pairs import task_pairs
from compo_mech.interventions.task_token import (
    TaskTokenPatching,
    carried_across,
    patch_task_token,
    patch_task_token_both_ways,
)
from compo_mech.launch import main
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import NotFinite
from compo_mech.model.sites import Site
from compo_mech.plots.shared_edges import edges_figure
from compo_mech.plots.theme import subscripts
from compo_mech.report.sharing import (
    _circuits_sentence,
    _heads_sentence,
    _task_token_sentence,
    patched_names,
    sharing_section,
    sharing_sentences,
    task_token_rows,
)
from compo_mech.runs import recipes
from compo_mech.runs.run import Run

TASKS = (Parity(), Polynomial(modulus=3, zero_inputs=True))
DATA = DataConfig(tasks=TASKS, max_length=4)
SMALL = ModelConfig(d_model=16, n_heads=2)
HEAD, LOOKUP, TELLER = Writer("head", 1, 0), Writer("head", 0, 0), Writer("head", 0, 1)


SHIFTS = Shifts(4, answered=False)


class TwoTasks(Steps):
    """The textbook circuit for two tasks: L0H1 fetches the task token, and MLP 1 updates by its task.

    Apart: MLP 0 also reads the task, and points for the second one by another pointer, which L1H1 follows.
    """

    def __init__(self, apart):
        n_ctx, n_words = DATA.layout.n_tokens(DATA.max_length) + 4, len(DATA.vocabulary)
        spaces = {"end": n_ctx, "pointer": n_ctx, "pointer1": n_ctx, "value": n_words, "told": n_words}
        super().__init__(DATA, BuildOptions(), spaces, n_layers=2, n_heads=2)
        self.look_up(0, 0)
        _, key = self.head(0, 1, "tells the task", "token", "told")
        self.ask_always.add((0, 1))
        signs = [self.words.task_token(task) for task in TASKS]
        for sign in signs:
            key[self.at("token", sign), 0] = 1.0
        for e in range(2, n_ctx):
            for i in range(e, n_ctx):
                for k in (0, 1) if apart else (0,):
                    own = (self.at("position", i), *((self.at("told", signs[k]),) if apart else ()))
                    self.both(0, self.at("end", e), own, self.at(("pointer", "pointer1")[k], i - e + 1))
        for h, pointer in enumerate(("pointer", "pointer1")[: 1 + apart]):
            query, key = self.head(1, h, "iteration", "token", "value")
            for t in range(1, n_ctx):
                query[self.at(pointer, t), t] = self.scale
                key[self.at("position", t), t] = 1.0
                if apart:  # without a pointer of its own a head rests on the task token
                    query[self.at(("pointer1", "pointer")[h], t), 0] = self.scale
            key[self.at("position", 0), 0] = 1.0
        for k, task in enumerate(TASKS):
            for x in range(task.n_inputs):
                for own, state in [*((s, s) for s in range(task.n_states)), (self.words.end_of_input_id, -1)]:
                    here = (self.at("token", own), self.at("told", signs[k]))
                    self.both(1, self.at("value", x), here, self.at("answer", int(task.table[state, x])))
        end = self.at("value", self.words.end_of_input_id)
        self.both(1, end, (), self.at("answer", self.words.end_of_states_id))


@cache
def built(apart):
    torch.set_num_threads(1)
    return TwoTasks(apart).finished()


@cache
def shared_by(apart):
    model = built(apart)
    return compare(model, DATA, *(evidence(model, DATA, task, SHIFTS, n_pairs=16) for task in TASKS))


def share(found, name, kind="reader"):
    table = found.task_token.assign(name=patched_names)
    rows = table[(table["name"] == name) & (table["kind"] == kind)]
    assert len(rows) == 2, name
    return rows["follows"].tolist()


# ------------------------------------------------------------------------- hand-built truth


@pytest.mark.slow
def test_one_head_for_both_tasks_and_only_the_last_mlp_reads_the_task():
    found = shared_by(apart=False)
    assert found.chosen == "as discovery keeps them"
    assert found.circuits[0] == found.circuits[1]
    assert found.anywhere[0].value == 1
    assert found.anywhere[0].p < 0.01
    assert found.same_kind[0].permuted.mean >= found.anywhere[0].permuted.mean
    for task in found.tasks:
        assert task.x[1, 0] == 1
        assert task.x.sum() == 1
    assert all(across[1, 0] == 1 and across.sum() == 1 for across in found.across)
    assert share(found, "mlp1") == [1, 1]
    assert share(found, "L0H1.v") == [1, 1]  # reads the token itself; its output goes into the last MLP alone
    for part in ("L0H0.v", "mlp0", "L1H0.q", "L1H0.k", "L1H0.v", "L1H1.v"):
        assert share(found, part) == [0, 0], part
    assert share(found, "L0H1 → mlp1", "edge") == [1, 1]
    assert share(found, "L0H1.z", "site") == share(found, "mlp_out1", "site") == [1, 1]
    assert share(found, "L1H0.z", "site") == share(found, "L1H0.v @ inputs", "site") == [0, 0]
    assert found.task_token["placebo"].max() < 0.5
    assert (found.task_token["own"] == 1).all()
    assert (found.task_token["other"] == 1).all()
    assert found.task_token["control"].max() < 0.2
    heads, circuits, token = sharing_sentences(found)
    assert heads.startswith("L1H0 carries x_t for both tasks (100.0% and 100.0%, 50% needed)")
    assert "L0H0 carries the position of [EoI] for both" in heads
    assert "share 10 of 10 edges: Jaccard 1.00" in circuits
    assert token.startswith(
        "mlp1 depends on the task token: where it alone reads the other task's stream, 100.0% and 100.0%"
    )
    assert "it reads it from L0H1 (100.0% and 100.0%)" in token
    assert "L1H0, which carries x_t, does not matter for that: patching its output moves 0.0%" in token


@pytest.mark.slow
def test_a_head_for_each_task():
    found = shared_by(apart=True)
    one, other = found.circuits
    assert {Edge(HEAD, Reader("mlp", 1)), Edge(TOK, Reader("v", 1, 0))} <= one - other
    assert {Edge(Writer("head", 1, 1), Reader("mlp", 1)), Edge(TOK, Reader("v", 1, 1))} <= other - one
    assert {Edge(LOOKUP, Reader("mlp", 0)), Edge(POS, Reader("v", 0, 0))} <= one & other
    standings = {str(edge): how for edge, how in zip(found.edges["edge"], found.edges["standing"], strict=True)}
    assert standings["L1H0 → mlp1"] == standings["tok → L1H0.v"] == "first"
    assert standings["L1H1 → mlp1"] == standings["tok → L1H1.v"] == "second"
    assert standings["L0H0 → mlp0"] == "shared"
    assert found.anywhere[0].value < min(half[0] for half in found.halves)
    assert share(found, "mlp1") == [1, 1]
    assert [task.x[1].round().tolist() for task in found.tasks] == [[1, 0], [0, 1]]
    heads, circuits, _ = sharing_sentences(found)
    assert heads.startswith(
        "No head carries x_t for both tasks (50% needed): L1H0 most for parity (100.0%), L1H1 most for polynomial"
    )
    assert "only parity's" in circuits


def test_a_fresh_network_tells_nothing():
    table = patch_task_token_both_ways(control(SMALL, DATA), control(SMALL, DATA, 1), DATA, *TASKS, n_rows=64)
    sites = table[table["kind"] != "answers"]
    assert sites["follows"].max() < 0.3
    assert sites["control"].max() < 0.3
    assert carried_across(control(SMALL, DATA), DATA, *TASKS, generator(0), 64).max() < 0.3


# ---------------------------------------------------------------------------- statistics


def scores_of(generator, n_rows, effects, noise=1.0):
    """Rows whose gap is 4 nats a place and whose edges are worth `effects` of it, with noise."""
    edges = all_edges(ModelConfig(d_model=16))
    effect = torch.zeros(len(edges), dtype=torch.float64)
    effect[: len(effects)] = torch.tensor(effects, dtype=torch.float64)
    n_scored = torch.randint(2, 6, (n_rows,), generator=generator)
    rise = 4 * effect[:, None] + noise * torch.randn(len(edges), n_rows, generator=generator, dtype=torch.float64)
    return RowScores(tuple(edges), rise * n_scored, 4 * n_scored.double(), n_scored)


def test_shares_are_of_the_rise_that_there_is_to_explain():
    scores = scores_of(generator(0), 400, [0.5, 0.25], noise=0.0)
    assert scores.share[:3].tolist() == pytest.approx([0.5, 0.25, 0])
    doubled = replace(scores, gap=2 * scores.gap)
    assert doubled.share[0] == pytest.approx(0.25)
    nothing = replace(scores, gap=0 * scores.gap)
    assert torch.isfinite(nothing.share).all()


def false_alarms(seeds):
    n = 0
    for seed in seeds:
        rng = generator(seed)
        effects = [0.8, 0.4, 0.2, 0.1]
        one, other = (scores_of(rng, 48, effects) for _ in range(2))
        n += bool((permutation_test(one, other, rng, 199)["p"] <= 0.05).any())
    return n


def test_tasks_without_a_difference_rarely_differ_in_any_of_their_edges():
    assert false_alarms(range(20)) <= 3  # one expected; four or more in 1.6%


@pytest.mark.slow
def test_tasks_without_a_difference_differ_as_often_as_the_level_says():
    assert 4 <= false_alarms(range(300)) <= 26  # 15 expected


def test_planted_differences_are_found_and_no_others():
    found = []
    for seed in range(10):
        rng = generator(seed)
        one, other = scores_of(rng, 48, [0.8, 0.4, 0.2]), scores_of(rng, 48, [0.8, 0.1, 0.5])
        table = permutation_test(one, other, rng, 199)
        found.append(table.index[table["p"] <= 0.05].tolist())
    assert sum({1, 2} <= set(edges) for edges in found) >= 9
    assert sum(len(set(edges) - {1, 2}) > 0 for edges in found) <= 2


def test_a_difference_of_size_alone_is_none():
    """One task costs four times the nats on every edge: its circuit is the same."""
    rng = generator(0)
    one, other = (scores_of(rng, 48, [0.8, 0.4], noise=0.3) for _ in range(2))
    louder = replace(other, rise=4 * other.rise, gap=4 * other.gap)
    assert (permutation_test(one, louder, rng, 199)["p"] > 0.05).all()


def test_halves_of_one_task_do_not_differ():
    model = built(False)
    one = shared_by(apart=False).tasks[0]
    found = compare(model, DATA, one, evidence(model, DATA, TASKS[0], SHIFTS, seed=1, n_pairs=16))
    assert found.task_token is None
    assert "must differ in the answer" in found.unasked
    assert (found.edges["p"] > 0.05).all()
    assert set(found.edges["standing"]) == {"shared", "neither"}
    assert "cannot be asked" in sharing_sentences(found)[-1]
    assert "No edge differs" in sharing_sentences(found)[1]
    assert "task_token" not in found.tables()


def test_overlap_of_permuted_circuits():
    edges = all_edges(ModelConfig(d_model=16))
    shares = torch.arange(len(edges)).double()
    rng = generator(0)
    first = frozenset(edges[:12])
    anywhere, ranks = permuted_overlap((first, first), (shares, shares), edges, rng)
    assert anywhere.value == 1
    assert ranks.value == pytest.approx(1)
    assert anywhere.p == ranks.p == pytest.approx(1 / 1000)
    expected = 12 * 12 / len(edges)
    assert anywhere.permuted.mean == pytest.approx(expected / (24 - expected), rel=0.1)
    kind, _ = permuted_overlap((first, first), (shares, shares), edges, rng, same_kind=True)
    assert kind.permuted.mean > anywhere.permuted.mean
    apart, against = permuted_overlap((first, frozenset(edges[12:24])), (shares, -shares), edges, rng)
    assert apart.value == 0
    assert apart.p == 1
    assert against.value == pytest.approx(-1)
    whole, _ = permuted_overlap((frozenset(edges), frozenset(edges)), (shares, shares), edges, rng, 99)
    assert whole.p == 1  # nothing can be told of circuits that hold every edge
    with pytest.raises(ValueError, match="must lie among the edges that are permuted"):
        permuted_overlap((first, first), (shares[:5], shares[:5]), edges[:5], rng)


def test_circuits_at_random_overlap_by_chance():
    edges, small = all_edges(ModelConfig(d_model=16)), 0
    for seed in range(20):
        rng = generator(seed)
        draws = [torch.randperm(len(edges), generator=rng)[:12].tolist() for _ in range(2)]
        circuits = tuple(frozenset(edges[i] for i in draw) for draw in draws)
        shares = tuple(torch.randn(len(edges), generator=rng).double() for _ in range(2))
        small += permuted_overlap(circuits, shares, edges, rng, 199)[0].p <= 0.05
    assert small <= 3


def test_permutations_keep_to_their_kind():
    """Queries against queries alone: a circuit of all queries cannot be permuted to anywhere else."""
    edges = all_edges(ModelConfig(d_model=16))
    queries = frozenset(edge for edge in edges if edge.reader.kind == "q")
    shares = torch.zeros(len(edges)).double()
    found, ranks = permuted_overlap((queries, queries), (shares, shares), edges, generator(0), 99, same_kind=True)
    assert found.permuted == (1, 1, 1)
    assert ranks.value == 0


def test_ranks_are_spearmans():
    one, other = torch.tensor([1.0, 5, 2, 2, -3]), torch.tensor([0.1, 0.2, 0.5, 0.3, 0.0])
    expected = pd.Series(one).rank().corr(pd.Series(other).rank())
    assert float(standard_ranks(one) @ standard_ranks(other)) == pytest.approx(expected)
    assert not standard_ranks(torch.ones(4)).any()


def test_what_is_said_of_an_edge():
    edge, none = Edge(HEAD, Reader("mlp", 1)), frozenset()
    mine = frozenset({edge})
    cases = {
        ((mine, mine), 0.5, 0.1): "shared",
        ((mine, mine), 0.01, 0.1): "shared",
        ((mine, none), 0.01, 0.1): "first",
        ((none, mine), 0.01, -0.1): "second",
        ((none, mine), 0.01, 0.1): "undecided",
        ((mine, none), 0.5, 0.1): "undecided",
        ((none, none), 0.01, 0.1): "neither",
    }
    for arguments, expected in cases.items():
        assert standing(edge, *arguments) == expected


def test_where_a_set_of_prompts_shows_no_circuit_all_are_of_one_size():
    tasks = list(shared_by(apart=False).tasks)
    refused = replace(tasks[1].found[1], verdict="no circuit")
    tasks[1] = replace(tasks[1], found=(tasks[1].found[0], refused))
    chosen, how = circuits_of(tasks)
    assert how.startswith("the 10 edges of highest score")
    assert {len(circuit) for task in chosen for circuit in task} == {10}
    none = [replace(t, found=tuple(replace(d, verdict="no circuit") for d in t.found)) for t in tasks]
    chosen, how = circuits_of(none)
    n = round(tasks[0].found[0].n_edges / 3)
    assert chosen[0][0] == frozenset(score_order(tasks[0].found[0].scores)[:n])


# ------------------------------------------------------------------------- task interchange


def test_rows_differ_in_the_task_token_alone():
    pairs = task_pairs(DATA, *TASKS, 64, generator(0))
    differ = pairs.clean_tokens != pairs.corrupt_tokens
    assert differ[:, 0].all()
    assert not differ[:, 1:].any()
    assert int(pairs.lengths.min()) >= 2
    row, place, length = pairs.row, pairs.position, pairs.lengths[pairs.row]
    t = place - length
    assert int(t.min()) >= 2
    assert bool((t <= length).all())
    s, x = pairs.clean_tokens[row, place], pairs.clean_tokens[row, t]
    assert set(s.tolist()) | set(x.tolist()) == {0, 1}
    assert pairs.target.tolist() == [int(TASKS[0].step(a, b)) for a, b in zip(s, x, strict=True)]
    assert pairs.foil.tolist() == [int(TASKS[1].step(a, b)) for a, b in zip(s, x, strict=True)]
    assert bool((pairs.target != pairs.foil).all())
    assert bool(pairs.foil_is_answer.all())
    other = task_pairs(DATA, *TASKS, 64, generator(0), inputs=True)
    x = other.corrupt_tokens[other.row, other.position - other.lengths[other.row]]
    s = other.clean_tokens[other.row, other.position]
    assert all(int(TASKS[1].step(a, b)) != foil for a, b, foil in zip(s, x, other.foil, strict=True))
    assert other.foil.tolist() == [int(TASKS[0].step(a, b)) for a, b in zip(s, x, strict=True)]
    assert not other.foil_is_answer.any()


def test_every_other_pair_of_tasks_that_share_values():
    for tasks in ((Copy(), Parity()), (Parity(), Polynomial(modulus=7)), (Counter(modulus=3), Counter(modulus=4))):
        pairs = task_pairs(DataConfig(tasks=tasks, max_length=4), *tasks, 32, generator(0))
        assert len(pairs.row) > 0
    with pytest.raises(
        ValueError, match="must differ in the answer"
    ):  # of bits, x' and the other task explain the same
        task_pairs(DataConfig(tasks=(Copy(), Parity())), Copy(), Parity(), 32, torch.Generator(), inputs=True)


@pytest.mark.parametrize(
    ("settings", "tasks", "complaint"),
    [
        ({"task_token": False}, TASKS, "task_token = False: must be True"),
        ({"chain_of_thought": False}, TASKS, "chain_of_thought = False: must be True"),
        ({"max_length": 1}, TASKS, "max_length = 1: must be at least 2"),
        ({}, (Polynomial(modulus=2), Counter(modulus=2)), "must differ in the answer to values that they share"),
        ({}, (Polynomial(modulus=2, coefficients=(0, 1, 1, 0)), Parity()), "must differ in the answer"),
    ],
)
def test_what_cannot_be_asked(settings, tasks, complaint):
    data = DataConfig(**{"tasks": tasks, "max_length": 4} | settings)
    with pytest.raises(ValueError, match=complaint) as error:
        task_pairs(data, *tasks, 8, generator(0))
    assert "\n" not in str(error.value)


def test_a_site_is_as_its_patched_edges():
    """All that the last MLP reads, by edges and by its site; a network that needs no patch has none that turns."""
    model = built(False)
    pairs = task_pairs(DATA, *TASKS, 32, generator(0))
    patching = TaskTokenPatching(model, pairs, generator(0))
    assert patching.site(Site("mlp_out", 1))["follows"] == 1
    assert patching.site(Site("k", 1, 0), Span("inputs"))["follows"] == 0
    assert patching.answers() == {"own": 1, "other": 1}
    idle = replace(pairs, corrupt_tokens=pairs.clean_tokens)
    assert patch_task_token(model, idle, generator(0))["follows"].max() == 0
    already = replace(pairs, foil=pairs.target)
    assert patch_task_token(model, already, generator(0))["n"].max() == 0


# ----------------------------------------------------------------------------- on the page


def test_the_section_says_it_all():
    found = shared_by(apart=False)
    section = sharing_section([found, found], 7)
    assert "<h2>What the tasks share, step 7</h2>" in section
    assert "<h3>parity and polynomial</h3>" in section
    for sentence in sharing_sentences(found):
        assert subscripts(sentence) in section
    assert "parity becomes polynomial" in task_token_rows(found).columns
    assert set(found.tables()) == {"edges", "overlap", "heads", "task_token"}
    names = {trace.name for trace in edges_figure(found).data}
    assert {"parity", "polynomial"} <= names


def of_figures(one=(0.1, 0.9), other=(0.1, 0.9), **more):
    """What two tasks share, with these fractions of x_t that the heads of one layer carry."""
    found = shared_by(apart=False)
    first, second = (
        replace(task, x=torch.tensor([list(share)]), end=None)
        for task, share in zip(found.tasks, (one, other), strict=True)
    )
    return replace(found, tasks=(first, second), across=None, **more)


def token_sentence(*rows):
    """What is said where these were patched: kind, name, what follows in both directions, placebo, control."""
    table = pd.DataFrame(
        {"kind": kind, "reader": None, "writer": None, "site": None, "span": None}
        | {{"site": "site", "reader": "reader"}.get(kind, "writer"): name}
        | ({"reader": "mlp1"} if kind == "edge" else {})
        | {"base": base, "follows": share, "placebo": placebo, "control": untrained}
        for kind, name, both, placebo, untrained in rows
        for base, share in zip(("parity", "polynomial"), both, strict=True)
    )
    return _task_token_sentence(of_figures(task_token=table))


@pytest.mark.parametrize(
    ("both", "placebo", "untrained", "said"),
    [
        ((0.5, 0.9), 0.496, 0.496, "mlp1 depends on the task token: where it alone reads the other task's stream, "),
        ((0.496, 0.97), 0.0, 0.0, "No component "), ((0.5, 0.9), 0.5, 0.0, "No component "),
        ((0.5, 0.9), 0.0, 0.5, "No component "), ((0.9, 0.9), 0.95, 0.97, "No component "),
        ((0.5, 0.9), float("nan"), 0.0, "No component "),
    ],
)  # fmt: skip
def test_a_component_depends_on_the_task_token_where_no_control_does(both, placebo, untrained, said):
    sentence = token_sentence(("reader", "mlp1", both, placebo, untrained))
    assert sentence.startswith(said)
    assert f"{both[0]:.1%} and {both[1]:.1%}" in sentence
    assert f"placebo at most {placebo:.1%}, randomly initialised control {untrained:.1%}" in sentence
    assert sentence.endswith("but a control reaches it as well.") == (said == "No component " and both[0] >= 0.5)


@pytest.mark.parametrize(
    ("both", "placebo", "said"),
    [
        ((0.0996, 0.05), 0.0, "L0H1, which carries x_t, does not matter for that: patching its output moves 9.96%."),
        ((0.1, 0.05), 0.0996, "also carries the task in one direction only: patching its output moves 10.0% and 5.0%."),
        ((0.1, 0.3), 0.05, "also carries the task: patching its output moves 10.0% and 30.0%."),
        ((0.5, 0.6), 0.49, "also carries the task: patching its output moves 50.0% and 60.0%."),
        ((0.4, 0.3), 0.1, "also carries the task cannot be told: patching its output moves 40.0% and 30.0%, and a "),
    ],
)
def test_a_head_or_an_edge_carries_the_task_where_no_control_does(both, placebo, said):
    reader = ("reader", "mlp1", (0.9, 0.9), 0.0, 0.0)
    sentence = token_sentence(reader, ("site", "L0H1.z", both, placebo, 0.0), ("edge", "L0H0", both, placebo, 0.0))
    assert said in sentence
    assert ("it reads it from L0H0 (" in sentence) == ("also carries the task: " in said)


def test_shares_are_said_on_their_side_of_what_is_needed():
    assert _heads_sentence(of_figures((0.1, 0.496), (0.1, 0.97))) == (
        "No head carries x_t for both tasks (50% needed): L0H1 most for parity (49.6%), L0H1 most for polynomial "
        "(97.0%)."
    )
    assert _heads_sentence(of_figures((0.1, 0.5), (0.1, 0.97))).startswith("L0H1 carries x_t for both tasks (50.0% and")
    with pytest.raises(NotFinite, match="fraction of x_t that heads carry for parity = nan"):
        _heads_sentence(of_figures((0.1, float("nan"))))
    with pytest.raises(NotFinite, match="fraction of answers that become the other task's = nan"):
        token_sentence(("reader", "mlp1", (0.9, float("nan")), 0.0, 0.0))


def test_every_edge_that_differs_is_counted():
    def ended(**edges):
        return _circuits_sentence(of_figures(edges=pd.DataFrame(edges)))

    said = ended(standing=["shared", "neither", "undecided", "undecided"], differs=[False, True, False, True])
    assert said.endswith(
        "Edges: 1 in one circuit, but of more effect for the other task, 1 in one circuit with no difference shown, "
        "1 in neither, but of other strength."
    )
    assert ended(standing=["shared", "neither"], differs=[False, False]).endswith("No edge differs.")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [[], ["--data.no-task-token"], ["--data.no-chain-of-thought"], ["--data.min-length", "4"]],
    ids=["plain", "untold", "no chain of thought", "one length"],
)
def test_a_mixed_run_gets_the_section(settings, tmp_path):
    argv = ["--runs-dir", str(tmp_path), "--name", "one", "--data.max-length", "4", "--model.d-model", "16",
            "--train.n-steps", "2", "--n-test-strings", "8", "--data.tasks", "parity", "copy",
            "--data.task-weights", "1", "1", "--data.curriculum", *settings]  # fmt: skip
    main.main(recipes.parity(), argv)
    run = Run.open(tmp_path / "one")
    dissect_command((run.path,))
    titles = [section.splitlines()[0] for section in run.sections.values()]
    assert [title[:19] for title in titles] == ["<h2>Taken apart: co", "<h2>Taken apart: pa", "<h2>What the tasks "]
    folder = run.path / "analysis" / "sharing-000002"
    assert (folder / "edges.csv").exists()
    asked = settings not in (["--data.no-task-token"], ["--data.no-chain-of-thought"])
    assert (folder / "task_token.csv").exists() == asked
    assert ("where the task token matters cannot be asked" in (folder / "findings.txt").read_text().lower()) != asked
