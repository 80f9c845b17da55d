from dataclasses import replace

import pytest
import torch
from helpers import SEEDS, generator, random_model

from compo_mech.causal import variables
from compo_mech.causal.interchange import (
    HOLDS,
    balanced_accuracy,
    balanced_interval,
    interchange,
    interchange_map,
    interchange_traces,
    row_sites,
)
from compo_mech.causal.row_patching import continued, swapped, trace_rows
from compo_mech.causal.rows import draw_rows
from compo_mech.causal.variables import cell_pairs, expected, has_pairs, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.row_traces import OF_ROWS
from compo_mech.interventions.traces import trace
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.sites import Site

TASKS = [Parity(), Copy(), Polynomial(modulus=5), Symmetric(n=3)]
TRUE_SITES = {
    "t": Site("mlp_out", 0),
    "x": Site("attn_out", 1),
    "s": Site("resid_pre", 0),
    "answer": Site("mlp_out", 1),
}
OF_HEADS = Site("q", 1, 0), Site("z", 1, 0)


def small_model(data, seed=0, **settings):
    return random_model(ModelConfig(**{"d_model": 32, "n_heads": 2, "biases": True, **settings}), data, seed)


# ----------------------------------------------------------------------------- the causal model


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_variables_are_those_of_the_algorithm(task):
    data = DataConfig(tasks=(task,), min_length=2, max_length=6)
    rows = draw_rows(data, task, 200, generator())
    words = data.vocabulary
    for n in range(200):
        length, t, place = int(rows.length[n]), int(rows.t[n]), int(rows.position[n])
        tokens = rows.tokens[n].tolist()
        assert tokens[length + 1] == words.end_of_input_id
        assert int(rows.end[n]) == length + 1
        assert place == length + t
        assert tokens[t] == rows.x[n]
        before = task.n_states if t == 1 else tokens[place]
        assert before == rows.s[n]
        assert task.table[before, tokens[t]] == rows.answer[n]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_what_is_expected_by_hand(task):
    data = DataConfig(tasks=(task,), max_length=6)
    for variable in ("t", "x", "s", "answer"):
        if not uses(task, variable):
            assert task == Copy()
            continue
        for context in ("matched", "independent"):
            pairs = make_interchanges(data, variable, context, 100, generator())
            base, source = pairs.base, pairs.source
            for n in range(100):
                s = source.s[n] if variable == "s" else base.s[n]
                x = {"t": base.inputs[n, source.t[n] - 1], "x": source.x[n]}.get(variable, base.x[n])
                answer = source.answer[n] if variable == "answer" else task.table[s, x]
                assert answer == pairs.answers[n]
            if context == "matched" and variable != "t":
                assert (base.position == source.position).all()
                assert (base.length == source.length).all()
            if context == "matched" and variable != "answer":
                kept = {"t": ("s",), "x": ("t", "s"), "s": ("t", "x")}[variable]
                for name in kept:
                    assert (getattr(base, name) == getattr(source, name)).all()
            if (variable, context) == ("t", "matched"):
                assert (base.position == source.position).all()
                assert (base.t != source.t).all()
            assert (source.t <= base.length).all() or variable != "t"
            assert pairs.changes.any()
            assert not pairs.changes.all()


def test_the_last_state_of_a_chain_of_interchanges_is_the_source():
    """Giving t and x and s of one row to another gives its answer."""
    task, data = Polynomial(modulus=5), DataConfig(tasks=(Polynomial(modulus=5),), max_length=5)
    base, source = draw_rows(data, task, 100, generator(0)), draw_rows(data, task, 100, generator(1))
    both = replace(base, x=source.x, s=source.s)
    assert torch.equal(expected(task, "x", both, source), source.answer)
    assert torch.equal(expected(task, "s", both, source), source.answer)


def test_which_variables_a_task_uses():
    assert not uses(Copy(), "s")
    assert uses(Parity(), "s")
    constant = Automaton(transitions=((0, 0), (0, 0)))
    assert not uses(constant, "x")


# ------------------------------------------------------------------------------- interventions


@pytest.mark.parametrize("settings", [{}, {"n_layers": 3}, {"normalization": "none", "n_heads": 1}], ids=str)
def test_a_row_continued_equals_the_whole_network_with_hooks(settings):
    data = DataConfig(tasks=(Parity(),), max_length=5)
    model = small_model(data, **settings)
    rows = draw_rows(data, Parity(), 12, generator())
    found = trace_rows(model, rows)
    hooked = to_hooked(model)
    index = torch.arange(12)
    for site in row_sites(model.config):
        value = found.at(site)
        value = value + torch.randn(value.shape, generator=generator(1))

        def put(activation, hook, site=site, value=value):
            activation = activation.clone()
            if site.kind == "q" and site.head is None:
                activation[index, rows.position] = value.unflatten(1, (-1, model.config.head_width))
            elif site.head is None:
                activation[index, rows.position] = value
            else:
                activation[index, rows.position, site.head] = value
            return activation

        with torch.no_grad():
            logits = hooked.run_with_hooks(rows.tokens, fwd_hooks=[(site.hook_name, put)])[index, rows.position]
        torch.testing.assert_close(continued(model, found, site, value), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"n_layers": 3}, {"n_layers": 1, "n_heads": 1}], ids=str)
def test_a_trace_of_rows_is_the_whole_trace_at_them(settings):
    """However they are cut into groups, more or fewer rows than groups; and so is a part of it."""
    data = DataConfig(tasks=(Parity(),), max_length=6)
    model = small_model(data, **settings)
    for n in (1, 3, 30, 300):
        rows = draw_rows(data, Parity(), n, generator(n))
        found, whole = trace_rows(model, rows), trace(model, rows.tokens, rows.position_ids)
        index = torch.arange(n)
        seen = torch.arange(rows.tokens.shape[1]) <= rows.position[:, None]
        for layer in range(model.config.n_layers):
            for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"):
                of_row = getattr(whole, name)[layer][index, rows.position]
                torch.testing.assert_close(getattr(found, name)[layer], of_row, atol=1e-5, rtol=1e-4)
            for name in ("q", "z"):
                of_row = getattr(whole, name)[layer][index, :, rows.position]
                torch.testing.assert_close(getattr(found, name)[layer], of_row, atol=1e-5, rtol=1e-4)
            for name in ("k", "v"):
                one, other = (getattr(run, name)[layer].transpose(1, 2)[seen] for run in (found, whole))
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.logits, whole.logits[index, rows.position], atol=1e-5, rtol=1e-4)
        some = slice(n // 3, n // 3 + 1 + n // 2)
        part, again = found[some], trace_rows(model, rows[some])
        assert torch.equal(part.position, again.position)
        assert len(part.k) == len(part.v) == model.config.n_layers
        for layer in range(model.config.n_layers):
            for name in (*OF_ROWS, "k", "v"):
                one, other = getattr(part, name)[layer], getattr(again, name)[layer]
                if name in ("k", "v"):
                    one, other = (x.transpose(1, 2)[seen[some]] for x in (one, other))
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
            assert torch.equal(part.k[layer], found.k[layer][some])
        torch.testing.assert_close(part.logits, again.logits, atol=1e-5, rtol=1e-4)


def test_a_trace_from_a_row_on_leaves_out_what_is_before_it_in_the_last_layer():
    data = DataConfig(tasks=(Parity(),), max_length=6)
    model = small_model(data, n_layers=3)
    rows = draw_rows(data, Parity(), 5, generator())
    whole, some = (trace(model, rows.tokens, rows.position_ids, first) for first in (0, 4))
    kinds = ["resid_mid", "resid_post", "attn_out", "mlp_out", "q", "z", "pattern"]
    for name in ["resid_pre", "k", "v", *kinds]:
        for layer, (value, left) in enumerate(zip(getattr(whole, name), getattr(some, name), strict=True)):
            asked = value.clone()
            if layer == 2 and name in kinds:
                asked[..., :4, :] = 0
            torch.testing.assert_close(left, asked, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(some.logits[:, 4:], whole.logits[:, 4:], atol=1e-5, rtol=1e-4)
    assert not some.logits[:, :4].any()


def test_a_row_that_keeps_its_value_keeps_its_answer():
    data = DataConfig(tasks=(Parity(),), max_length=5)
    model = small_model(data)
    rows = draw_rows(data, Parity(), 20, generator())
    found = trace_rows(model, rows)
    _, logits = run_graph(model, embeddings(model, rows.tokens, rows.position_ids))
    for site in row_sites(ModelConfig(n_heads=2)):
        same = continued(model, found, site, found.at(site))
        torch.testing.assert_close(same, logits[torch.arange(20), rows.position], atol=1e-5, rtol=1e-5)


def test_swaps_of_subspaces():
    base, source = torch.randn(2, 7, 6, generator=generator()).unbind(0)
    q = torch.linalg.qr(torch.randn(6, 6, generator=generator(1))).Q
    torch.testing.assert_close(swapped(base, source, q), source)
    torch.testing.assert_close(swapped(base, source, None), source)
    part = swapped(base, source, q[:, :2])
    torch.testing.assert_close(part @ q[:, :2], source @ q[:, :2])
    torch.testing.assert_close(part @ q[:, 2:], base @ q[:, 2:])


def test_balanced_accuracy_by_hand():
    answers, base = torch.tensor([1, 1, 0, 0, 0, 0]), torch.tensor([0, 0, 0, 0, 0, 0])
    given = torch.tensor([1, 0, 0, 0, 0, 1]), answers, answers != base
    score, follows, keeps = balanced_interval(*given)
    assert balanced_accuracy(*given) == 0.625
    assert (follows, keeps) == (0.5, 0.75)
    assert score.mean == 0.625
    assert score.low < 0.625 < score.high
    score, follows, keeps = balanced_interval(answers, answers, torch.ones(6, dtype=torch.bool))
    assert (score.mean, follows, keeps) == (1, 1, None)
    assert balanced_accuracy(answers, answers, torch.ones(6, dtype=torch.bool)) == 1
    assert score.low < 1


# -------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("rungs", [BuildOptions(), BuildOptions(rotated=True)], ids=["pristine", "rotated"])
def test_true_sites_hold_their_variable_and_no_other(task, rungs):
    built = build(task, max_length=6, rungs=rungs)
    table = interchange_map(built.model, built.data, generator(), 80, sites=(*TRUE_SITES.values(), *OF_HEADS))
    table = table.set_index(["variable", "context", "site"])["iia"]
    for variable, site in TRUE_SITES.items():
        if not uses(task, variable):
            assert variable not in table.index
            continue
        assert table[variable, "matched", str(site)] == 1
        if variable != "s":  # in the embedding s_{t-1} sits beside the row's position
            assert table[variable, "independent", str(site)] == 1
        for other in set(TRUE_SITES) - {variable}:
            if variable == "answer" and other == "x" and task == Copy():
                continue  # copy's answer is x_t
            if uses(task, other) and (variable, other) != ("x", "answer"):
                assert table[variable, "independent", str(TRUE_SITES[other])] < 0.7
    assert table["t", "independent", "L1H0.q"] == 1
    assert table["x", "independent", "L1H0.z"] == 1


@pytest.mark.parametrize(
    "rungs",
    [
        BuildOptions(layer_norm=True),
        BuildOptions(sharpness=8),
        BuildOptions(noise=0.01),
        BuildOptions(distractors=True),
        BuildOptions(sharpness=150, rotated=True, distractors=True),
        BuildOptions(layer_norm=True, rotated=True, distractors=True),
        BuildOptions(backup=True),
        BuildOptions(split=True),
    ],
    ids=["LayerNorm", "soft", "noise", "distractors", "saturated", "LayerNorm, distractors", "backup", "split"],
)
@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
def test_harder_builds_hold_them_too(task, rungs):
    built = build(task, max_length=6, rungs=rungs)
    for variable, site in TRUE_SITES.items():
        for context in ("matched", "independent")[: 1 if variable == "s" else 2]:
            pairs = make_interchanges(built.data, variable, context, 80, generator())
            score = interchange(built.model, pairs, site, generator())
            assert score.accuracy.mean >= 0.99
            assert score.holds
            assert score.placebo < HOLDS
            assert score.permuted < HOLDS


def test_known_subspaces_hold_them_in_the_residual_stream():
    for task in (Parity(), Counter(modulus=4)):
        built = build(task, rungs=BuildOptions(rotated=True))
        places = {"t": ("pointer", Site("resid_post", 0)), "x": ("value", Site("resid_mid", 1))}
        places |= {"s": ("state", Site("resid_mid", 1)), "answer": ("answer", Site("resid_post", 1))}
        for variable, (name, site) in places.items():
            pairs = make_interchanges(built.data, variable, "independent", 80, generator())
            score = interchange(built.model, pairs, site, generator(), built.subspaces[name])
            assert score.accuracy.mean == 1
            other = built.subspaces["value" if name == "pointer" else "pointer"]
            assert not interchange(built.model, pairs, site, generator(), other).holds


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("broken", "variables"), [("subtraction", ["t"]), ("update", ["answer", "s", "x"])])
@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
def test_decoys_get_a_no(task, broken, variables, seed):
    built = build(task, max_length=6, rungs=BuildOptions(broken=broken, seed=seed))
    for variable in variables:
        for context in ("matched", "independent"):
            pairs = make_interchanges(built.data, variable, context, 80, generator())
            traces = interchange_traces(built.model, pairs)
            for site in row_sites(ModelConfig(n_heads=2)):
                assert not interchange(built.model, pairs, site, generator(), traces=traces).holds


def test_fresh_networks_hold_nothing():
    data = DataConfig(tasks=(Parity(),), max_length=6)
    for seed in range(2):
        table = interchange_map(small_model(data, seed), data, generator(), 80)
        assert table["iia"].max() < HOLDS


def test_where_no_two_rows_differ_so_nothing_is_asked():
    data = DataConfig(min_length=4, max_length=4)
    table = interchange_map(small_model(data), data, generator(), 40)
    asked = set(zip(table["variable"], table["context"], strict=True))
    assert ("t", "matched") not in asked
    assert {("t", "independent"), ("x", "matched"), ("s", "matched"), ("answer", "independent")} <= asked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DataConfig(chain_of_thought=False)}, "chain_of_thought = False"),
        ({"task": Copy()}, "task = copy: must be one of parity"),
        ({"n": 0}, "n = 0: must be at least 1"),
        ({"data": DataConfig(tasks=(Copy(),)), "variable": "s"}, "variable = s: must be one that copy uses"),
        (
            {"data": DataConfig(min_length=1, max_length=1), "context": "matched", "variable": "t"},
            "lengths = 1 .. 1: must have two rows that differ in t",
        ),
    ],
)
def test_bad_input_gets_one_line(change, message):
    given = {"data": DataConfig(), "variable": "x", "context": "independent", "n": 10}
    given |= {"generator": generator()} | change
    with pytest.raises(ValueError, match=message) as error:
        make_interchanges(**given)
    assert "\n" not in str(error.value)


def test_sites_that_are_not_a_rows_own_are_refused():
    data = DataConfig(max_length=4)
    model, rows = small_model(data), draw_rows(data, Parity(), 4, generator())
    found = trace_rows(model, rows)
    with pytest.raises(ValueError, match=r"site.kind = 'pattern': must be one of resid_pre"):
        continued(model, found, Site("pattern", 0, 0), torch.zeros(4, 32))


@pytest.mark.parametrize(("variable", "context"), [("t", "matched"), ("t", "independent"), ("s", "matched")])
@pytest.mark.parametrize("listed", [True, False])
def test_pairs_are_as_likely_drawn_one_by_one_as_from_a_list(monkeypatch, variable, context, listed):
    data, n = DataConfig(max_length=4), 3000
    if not listed:  # as with lengths beyond 90, whose pairs are too many
        monkeypatch.setattr(variables, "MAX_PAIRS", 0)
    base, source = cell_pairs(data, variable, context)
    drawn = make_interchanges(data, variable, context, n, generator())
    found = torch.cat([torch.stack([rows.length, rows.t], 1) for rows in (drawn.base, drawn.source)], 1)
    assert {*map(tuple, found.tolist())} == {*map(tuple, torch.cat([base, source], 1).tolist())}
    cells, counts = found[:, :2].unique(dim=0, return_counts=True)
    assert (counts / n - 1 / len(cells)).abs().max() < 4 * (1 / len(cells) / n) ** 0.5  # four standard errors
    assert has_pairs(data, variable, context)
    one = DataConfig(min_length=4, max_length=4)
    assert not has_pairs(one, "t", "matched")
    with pytest.raises(ValueError, match=r"lengths = 4 .. 4: must have two rows that differ in t and nothing else"):
        make_interchanges(one, "t", "matched", n, generator())


def test_strings_of_more_than_ninety_inputs_have_interchanges():
    pairs = make_interchanges(DataConfig(max_length=95), "t", "independent", 50, generator())
    assert (pairs.source.t <= pairs.base.length).all()
    assert pairs.base.length.max() > 90
