from functools import cache
from importlib import import_module

import pytest
import torch
from helpers import generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.families import SINGLE
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.traces import trace
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model
from compo_mech.routes.anew import run_anew
from compo_mech.routes.paths import Reads, Route, patch_routes, patch_together, patched_reads, routes_of
from compo_mech.routes.route_map import route_map, route_shares
from compo_mech.routes.summary import Cell, RouteName
from compo_mech.routes.swaps import make_swaps, route_strings

route_maps = import_module("compo_mech.routes.route_map")  # the package has its function under this name

CONFIGS = {
    "two heads": ModelConfig(d_model=16, n_heads=2),
    "three heads, biases": ModelConfig(d_model=12, n_heads=3, biases=True),
    "one head, no norm": ModelConfig(d_model=8, normalization="none", act_fn="relu"),
}
TEXTBOOK_RUNGS = {
    name: SINGLE[name]
    for name in ("pristine", "soft", "saturated", "rotated", "distractors", "noise", "split", "LayerNorm")
}
TASKS = (Copy(), Parity(), Polynomial(modulus=5))


def map_of(built, lengths=(4, 5), n_strings=8):
    return route_map(built.model, built.data, generator(), n_strings, lengths)


def strings_of(data, length, n, generator):
    """Inputs and the tokens that are read."""
    task = data.tasks[0]
    inputs = torch.randint(task.first_input, task.n_inputs, (n, length), generator=generator)
    return inputs, encode(data, task, inputs).tokens


def replaced(where, value):
    def hook(activation, hook):
        activation = activation.clone()
        activation[where] = value
        return activation

    return hook


@torch.no_grad()
def slow_margins(hooked, tokens, swap, routes, clean, corrupt):
    """The obvious way, by hooks: what the first hop leaves at the carrier, what layer 1 makes of it, the logits."""
    z, post = "blocks.0.attn.hook_z", "blocks.0.hook_resid_post"

    @cache
    def first_hop(first, carrier):
        """What it leaves at the carrier, and what layer 1 sees then: the same for every second hop."""
        here = (slice(None), carrier)
        carried = corrupt[post][here]
        if first is not None:
            head = (*here, first)
            with hooked.hooks([(z, replaced(head, corrupt[z][head]))]):
                carried = hooked.run_with_cache(tokens, names_filter=post)[1][post][here]
        with hooked.hooks([(post, replaced(here, carried))]):
            return carried, hooked.run_with_cache(tokens, names_filter=lambda name: "1.attn" in name)[1]

    def second_hop(route):
        here = (slice(None), route.carrier)
        carried, seen = first_hop(route.first, route.carrier)
        if route.second == "residual":
            mid = "blocks.1.hook_resid_mid"
            hooks = [(mid, replaced(here, clean[mid][here] + carried - clean[post][here]))]
        else:
            names = [f"blocks.1.attn.hook_{x}" for x in ("kv" if route.second == "key" else "q")]
            head = (*here, route.head)
            hooks = [(name, replaced(head, seen[name][head])) for name in names]
        return margin(hooked.run_with_hooks(tokens, fwd_hooks=hooks)[:, swap.row], swap)

    return torch.stack([second_hop(route) for route in routes])


def margin(logits, swap):
    strings = range(len(logits))
    return (logits[strings, swap.target] - logits[strings, swap.foil]).detach()


def run_by_hand(data, model, length, n, generator):
    """What `route_map` draws first from this generator: clean tokens, swaps and traces."""
    inputs, rows = strings_of(data, length, n, generator)
    tokens = rows[:, :-1]
    positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
    swaps = make_swaps(data.tasks[0], data.layout, inputs, tokens, generator)
    return tokens, swaps, trace(model, tokens, positions), [trace(model, swap.tokens, positions) for swap in swaps]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chain_of_thought", [True, False])
def test_every_route_and_all_that_a_cell_says_against_hooks(name, chain_of_thought):
    data = DataConfig(tasks=(Polynomial(modulus=3),), max_length=3, chain_of_thought=chain_of_thought)
    model = random_model(CONFIGS[name], data)
    hooked = to_hooked(model)
    cells = list(route_map(model, data, generator(1), 6, [3]).cells)
    tokens, swaps, clean, traces = run_by_hand(data, model, 3, 6, generator(1))
    answers = [hooked(swap.tokens).argmax(-1) for swap in swaps]
    for swap, corrupt in zip(swaps, traces, strict=True):
        kept = swap.valid.nonzero()[:, 0].tolist()
        if not kept:
            continue
        cell = cells.pop(0)
        assert (cell.length, cell.t, cell.variable, cell.n_strings) == (3, swap.t, swap.variable, len(kept))
        routes = routes_of(swap, model.config.n_heads)
        fast = patch_routes(model, swap, clean, corrupt)
        caches = [hooked.run_with_cache(given)[1] for given in (tokens, swap.tokens)]
        slow = slow_margins(hooked, tokens, swap, routes, *caches)
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)

        before, after = (hooked(given)[:, swap.row].detach() for given in (tokens, swap.tokens))
        whole = margin(before, swap)
        effect = (whole - margin(after, swap))[kept].mean()
        done = (whole - slow)[:, kept] * effect.sign()
        assert cell.routes == tuple(routes)
        assert cell.effect == pytest.approx(float(effect), abs=1e-4)
        torch.testing.assert_close(cell.share, done.mean(1) / effect.abs(), atol=1e-3, rtol=1e-3)
        followed = [before[i].argmax() == swap.target[i] and after[i].argmax() == swap.foil[i] for i in kept]
        assert cell.follows == pytest.approx(sum(map(bool, followed)) / len(kept))
        most = done[done.mean(1).argmax()]
        assert cell.agreement == pytest.approx(float((most >= done.max(0).values - 0.01 * effect.abs()).float().mean()))
        if swap.variable == "s":
            assert cell.reliance is None
            continue
        assert len(cell.reliance) == (swap.t if chain_of_thought else 3)
        for other, answer, found in zip(swaps, answers, cell.reliance.tolist(), strict=False):
            changed = (answer[:, swap.row] != before.argmax(-1))[other.valid]
            assert found == pytest.approx(float(changed.float().mean()) if len(changed) else 0)
    assert not cells


@pytest.mark.parametrize("name", CONFIGS)
def test_routes_patched_together_against_hooks(name):
    """From these carriers all heads take the corrupt stream; from all of them, the corrupt run itself."""
    data = DataConfig(max_length=3)
    model = random_model(CONFIGS[name], data)
    hooked = to_hooked(model)
    tokens, swaps, clean, traces = run_by_hand(data, model, 3, 5, generator(1))
    for swap, corrupt in zip(swaps, traces, strict=True):
        routes = routes_of(swap, model.config.n_heads)
        everything, nothing = patch_together(model, swap, clean, corrupt, [routes, []])
        torch.testing.assert_close(everything, margin(hooked(swap.tokens)[:, swap.row], swap), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(nothing, margin(hooked(tokens)[:, swap.row], swap), atol=1e-5, rtol=1e-4)
        _, there = hooked.run_with_cache(swap.tokens)
        for second, site in (("key", "attn.hook_k"), ("query", "attn.hook_q"), ("residual", "hook_resid_pre")):
            chosen = [route for route in routes if route.second == second][-2:]  # at the row, or some of its keys
            where = (slice(None), [route.carrier for route in chosen])
            names = [f"blocks.1.{site}"] + ["blocks.1.attn.hook_v"] * (second == "key")
            hooks = [(name, replaced(where, there[name][where])) for name in names]
            if second == "residual":  # heads must not see it
                parts = [f"blocks.1.attn.hook_{x}" for x in "qkv"]
                own = hooked.run_with_cache(tokens)[1]
                hooks += [(part, replaced(slice(None), own[part])) for part in parts]
            slow = margin(hooked.run_with_hooks(tokens, fwd_hooks=hooks)[:, swap.row], swap)
            (fast,) = patch_together(model, swap, clean, corrupt, [chosen])
            torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)


def test_shares_sum_to_one_where_the_network_is_linear_in_the_token():
    config = ModelConfig(d_model=16, n_heads=2, normalization="none")
    for task, chain_of_thought in ((Parity(), True), (Parity(), False), (Polynomial(modulus=3), True)):
        data = DataConfig(tasks=(task,), max_length=4, chain_of_thought=chain_of_thought)
        model = random_model(config, data)
        assert not all(cell.additive for cell in route_map(model, data, generator(), 8).cells)
        still = [name for name in model.params if name.endswith(("W_Q", "W_out"))]
        linear = Model(model.params | {name: torch.zeros_like(model.params[name]) for name in still}, config)
        _, swaps, clean, traces = run_by_hand(data, linear, 4, 8, generator(1))
        for swap, corrupt in zip(swaps, traces, strict=True):
            whole = swap.margin(clean.logits[:, swap.row])
            margins = patch_routes(linear, swap, clean, corrupt)
            total = whole - swap.margin(corrupt.logits[:, swap.row])
            torch.testing.assert_close((whole - margins).sum(0), total, atol=1e-5, rtol=1e-4)
        cells = [cell for cell in route_map(linear, data, generator(), 8).cells if abs(cell.effect) > 0.01]
        assert len(cells) > 5  # in the others a change of sign for half of the strings leaves nothing of the mean
        for cell in cells:
            assert cell.residual == pytest.approx(0, abs=1e-3)
            assert sum(cell.together.values()) == pytest.approx(1, abs=1e-3)
            assert cell.additive


@pytest.mark.parametrize("route", ["diagonal", "neighbour", "state"])
def test_shares_of_ways_alone_are_those_of_the_map(route, monkeypatch):
    """On circuits built by hand with so much noise that some cells have lost their route; however many at once."""
    built = build(Parity(), rungs=BuildOptions(noise=0.06, route=route))
    shares = route_map(built.model, built.data, generator(), 8, [3, 5]).summary().shares
    assert 0.1 < shares[RouteName.NO_ROUTE] < 0.9
    for at_once in (route_maps.MAX_TOKENS, 200, 100):  # in strings of 8: all swaps, one or two, one
        monkeypatch.setattr(route_maps, "MAX_TOKENS", at_once)
        strings = route_strings(built.data, Parity(), [3, 5], 8, generator())
        assert route_shares(built.model, built.data.layout, strings) == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_shares_of_ways_without_chain_of_thought(name):
    data = DataConfig(tasks=(Parity(),), max_length=5, chain_of_thought=False)
    model = random_model(CONFIGS[name], data)
    shares = route_map(model, data, generator(), 8, [3, 5]).summary().shares
    strings = route_strings(data, Parity(), [3, 5], 8, generator())
    assert route_shares(model, data.layout, strings) == pytest.approx(shares, abs=1e-5)


MORE_CONFIGS = CONFIGS | {
    "rotary, shared keys": ModelConfig(
        d_model=16, n_heads=4, n_key_value_heads=2, positional_embedding="rotary", use_qk_norm=True
    ),
    "parallel": ModelConfig(d_model=16, n_heads=2, parallel_attn_mlp=True),
    "no MLP": ModelConfig(d_model=16, n_heads=2, attn_only=True),
}


@pytest.mark.parametrize("name", MORE_CONFIGS)
@pytest.mark.parametrize("chain_of_thought", [True, False])
@pytest.mark.parametrize("n_strings", [3, 40])  # of few, layer 0 embeds each token
def test_runs_anew_from_the_changed_token_are_whole_runs(name, chain_of_thought, n_strings):
    data = DataConfig(tasks=(Polynomial(modulus=3),), max_length=4, chain_of_thought=chain_of_thought)
    model = random_model(MORE_CONFIGS[name], data)
    _, swaps, clean, traces = run_by_hand(data, model, 4, n_strings, generator(1))
    first = data.layout.scored(4)[0]
    anew = run_anew(model, swaps, clean, first)
    for i, (swap, corrupt) in enumerate(zip(swaps, traces, strict=True)):
        whole = clean.logits[:, first:].clone()
        for logits, at in zip(anew.logits[anew.swap == i], anew.position[anew.swap == i].tolist(), strict=True):
            whole[:, at - first] = logits
        torch.testing.assert_close(whole, corrupt.logits[:, first:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(anew.after[i], corrupt.logits[:, swap.row], atol=1e-5, rtol=1e-4)
        reads = Reads.of(corrupt, [swap.row])
        for found, slow in zip(anew.reads, reads, strict=True):
            torch.testing.assert_close(found[i], slow[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MORE_CONFIGS)
def test_swaps_patched_at_once_are_as_each_alone(name):
    data = DataConfig(tasks=(Polynomial(modulus=3),), max_length=4)
    model = random_model(MORE_CONFIGS[name], data)
    _, swaps, clean, traces = run_by_hand(data, model, 4, 6, generator(1))
    rows = [swap.row for swap in swaps]
    each = [Reads.of(run, [row]) for run, row in zip(traces, rows, strict=True)]
    corrupt = Reads(*(torch.cat(values) for values in zip(*each, strict=True)))
    bundles = [[routes_of(swap, model.config.n_heads)[i::3] for i in range(3)] for swap in swaps]
    ways = [[{(way.carrier, way.second) for way in bundle} for bundle in own] for own in bundles]
    logits = patched_reads(model, rows, Reads.of(clean, rows), corrupt, ways)
    for i, (swap, run) in enumerate(zip(swaps, traces, strict=True)):
        alone = patch_together(model, swap, clean, run, bundles[i])
        torch.testing.assert_close(swap.margin(logits[:, i]), alone, atol=1e-5, rtol=1e-4)


def test_attention_that_goes_both_ways_is_refused():
    data = DataConfig(max_length=3)
    model = random_model(ModelConfig(d_model=8, attention_dir="bidirectional"), data)
    with pytest.raises(ValueError, match="attention_dir = bidirectional"):
        route_map(model, data, generator(), 4)


def test_without_any_effect_all_shares_are_zero():
    data = DataConfig(max_length=2)
    model = random_model(CONFIGS["two heads"], data)
    blind = Model(model.params | {"unembed.W_U": torch.zeros_like(model.params["unembed.W_U"])}, model.config)
    for cell in route_map(blind, data, generator(), 4).cells:
        assert cell.effect == 0
        assert not cell.share.any()
        assert set(cell.together.values()) == {0.0}
        assert cell.name == RouteName.NO_ROUTE


# ------------------------------------------------------------------------- hand-built circuits


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("rung", TEXTBOOK_RUNGS)
def test_the_textbook_circuit_is_the_textbook_route(task, rung):
    found = map_of(build(task, 5, TEXTBOOK_RUNGS[rung]))
    x_cells = [cell for cell in found.cells if cell.variable == "x"]
    assert len(x_cells) == 9
    for cell in x_cells:
        alone = sum(
            share for way, share in zip(cell.names, cell.share.tolist(), strict=True) if way == RouteName.TEXTBOOK
        )
        assert alone >= 0.99
        assert cell.name == RouteName.TEXTBOOK
        assert cell.shares[RouteName.TEXTBOOK] >= 0.99
        assert cell.additive
        head = (cell.t + 1) % 2 if rung == "split" else 0
        assert cell.routes[int(cell.share.argmax())] == Route(None, cell.t, "key", head)
    summary = found.summary()
    assert summary.name == RouteName.TEXTBOOK
    assert (summary.stable, summary.non_additive) == (1, 0)
    states = found.summary("s")
    if isinstance(task, Copy):
        assert states.n_cells == 0
        assert "no other value" in str(states)
    else:
        assert states.name == RouteName.STRAIGHT
        assert states.shares[RouteName.STRAIGHT] >= 0.99


@pytest.mark.parametrize(
    ("task", "layer_norm"),
    [(Copy(), True), (Parity(), False), (Parity(), True), (Polynomial(modulus=5), False)],
    ids=str,
)
def test_other_routes_are_named_for_their_carrier(task, layer_norm):
    for route, way in (("neighbour", RouteName.OFFSET), ("state", RouteName.STATE)):
        if route == "state" and layer_norm:  # there is no such build
            continue
        found = map_of(build(task, 5, BuildOptions(route=route, layer_norm=layer_norm)), lengths=[5])
        assert found.summary().name == way
        assert found.summary().shares[way] >= 0.99
        assert found.summary().heads[0] >= 0.99
        for cell in found.cells:
            if cell.variable == "x":
                assert cell.name == way
                best = cell.routes[int(cell.share.argmax())]
                row = list(Layout().scored(5))[cell.t - 1]
                assert best.carrier == (cell.t + 1 if route == "neighbour" else row)
                assert (best.second, best.head) == ("key", 0)
                assert best.first is not None


def test_two_heads_that_add_the_same_have_half_each():
    for cell in map_of(build(Parity(), 5, BuildOptions(backup=True, rotated=True))).cells:
        if cell.variable == "x":
            by_head = [share for share in cell.share.tolist() if share > 0.01]
            assert by_head == pytest.approx([0.5, 0.5], abs=0.01)
            assert cell.agreement == 1  # a tie up to rounding is no disagreement
            assert cell.shares[RouteName.TEXTBOOK] == pytest.approx(1)


def majority_of_three():
    """Three iteration heads of which MLP 1 asks for any two: none of them matters alone."""
    model = build(Parity(), 5).model
    params = dict(model.params)
    for name, param in model.params.items():
        if ".attn." in name and not name.endswith("b_O"):
            copies = [0, 0, 0] if name.startswith("blocks.1") else [0, 1, 1]
            params[name] = param[copies]
    for layer in (0, 1):  # a neuron fires where two heads agree, and its twin takes off what is more
        mlp = f"blocks.{layer}.mlp"
        w_in, b_in, w_out = (model.params[f"{mlp}.{name}"] for name in ("W_in", "b_in", "W_out"))
        off, gain = (torch.tensor([1.5, 1.6]), 10) if layer else (torch.tensor([0.0, 1e6]), 1)
        params[f"{mlp}.W_in"] = torch.cat([w_in, w_in], 1)
        params[f"{mlp}.b_in"] = torch.cat([b_in - off[0], b_in - off[1]])
        params[f"{mlp}.W_out"] = gain * torch.cat([w_out, -w_out])
    return Model(params, model.config.model_copy(update={"n_heads": 3, "d_mlp": 2 * model.config.mlp_width}))


def test_routes_that_stand_in_for_each_other_are_told():
    found = route_map(majority_of_three(), DataConfig(max_length=5), generator(), 8, [4, 5])
    for cell in found.cells:
        if cell.variable == "x":
            assert cell.share.abs().max() < 0.01
            assert cell.residual == pytest.approx(1, abs=0.01)
            assert not cell.additive
            assert cell.shares[RouteName.TEXTBOOK] == pytest.approx(1, abs=0.01)
    summary = found.summary()
    assert (summary.name, summary.non_additive) == (RouteName.TEXTBOOK, 1)
    assert "not additive in 100%" in str(found)
    assert "not additive" not in str(found.summary("s"))


def counting_model(max_length=5):
    """Parity with chain of thought by counting: layer 1 averages x_1 .. x_t and MLP 1 reads the count off it."""
    built = build(Parity(), max_length)
    model, spaces = built.model, built.subspaces
    params = {name: param.clone() for name, param in model.params.items()}
    pointer, value, answer = spaces["pointer"], spaces["value"], spaces["answer"]
    scale = 30 * model.config.head_width**0.5
    position = built.model.params["pos_embed.W_pos"]
    query, key = torch.zeros_like(params["blocks.1.attn.W_Q"][0]), torch.zeros_like(params["blocks.1.attn.W_K"][0])
    for t in range(1, max_length + 1):
        key[:, t] = position[t]
        query[:, : t + 1] += scale * pointer[:, t, None]
    query[:, 0] = 0
    params["blocks.1.attn.W_Q"][0], params["blocks.1.attn.W_K"][0] = query, key
    w_in, b_in, w_out = (torch.zeros_like(params[f"blocks.1.mlp.{name}"]) for name in ("W_in", "b_in", "W_out"))
    index = 0
    for t in range(1, max_length + 1):
        for count in range(t + 1):  # a hat over count / t, where the pointer says t
            for knot, slope in ((-1, 1.0), (0, -2.0), (1, 1.0)):
                w_in[:, index] = t * value[:, 1] + 100 * pointer[:, t]
                b_in[index] = -(count + knot) - 100
                w_out[index] = slope * answer[:, count % 2]
                index += 1
    for name, param in (("W_in", w_in), ("b_in", b_in), ("W_out", w_out)):
        params[f"blocks.1.mlp.{name}"] = param
    return Model(params, model.config)


def test_counting_is_called_accumulated():
    found = route_map(counting_model(), DataConfig(max_length=5), generator(), 16, [4, 5])
    for cell in found.cells:
        if cell.variable == "x":
            torch.testing.assert_close(cell.reliance, torch.ones(cell.t))
            assert cell.name == (RouteName.ACCUMULATED if cell.t > 1 else RouteName.TEXTBOOK)
            assert cell.follows == 1
    assert found.summary().name == RouteName.ACCUMULATED
    assert found.summary("s").name == RouteName.NO_ROUTE  # it never looks at the state before
    without = map_of(build(Parity(), 5, BuildOptions(chain_of_thought=False)))
    assert without.summary().name == RouteName.ACCUMULATED
    assert {cell.variable for cell in without.cells} == {"x"}
    copied = map_of(build(Copy(), 5, BuildOptions(chain_of_thought=False)))
    assert [(cell.length, cell.t, cell.name) for cell in copied.cells] == [
        (4, 4, RouteName.STATE),
        (5, 5, RouteName.STATE),
    ]
    assert [cell.reliance.tolist() for cell in copied.cells] == [[0, 0, 0, 1], [0, 0, 0, 0, 1]]


def test_decoys_and_random_models_have_no_route():
    for broken in ("lookup", "subtraction", "iteration", "update"):
        found = map_of(build(Polynomial(modulus=5), 5, BuildOptions(broken=broken)))
        assert found.summary().shares.get(RouteName.TEXTBOOK, 0) < 0.5, broken
    for n_heads in (1, 2):
        for seed in range(10):
            model = random_model(ModelConfig(d_model=32, n_heads=n_heads), DataConfig(), seed)
            found = route_map(model, DataConfig(), generator(), 8, [4])
            assert found.summary("x").name == found.summary("s").name == RouteName.NO_ROUTE, seed


# ------------------------------------------------------------------------ names, swaps, tables


def cell_of(**changes):
    names = (RouteName.TEXTBOOK, RouteName.OFFSET)
    routes = (Route(None, 2, "key", 0), Route(0, 3, "key", 1))
    given = {"length": 4, "t": 2, "variable": "x", "n_strings": 8, "routes": routes, "names": names}
    given |= {"share": torch.tensor([0.3, 0.65]), "together": {RouteName.TEXTBOOK: 0.3, RouteName.OFFSET: 0.7}}
    return Cell(**given | {"effect": 9.0, "follows": 1.0, "agreement": 1.0} | changes)


def test_a_route_is_named_for_its_carrier():
    data = DataConfig(max_length=3)
    labels = data.layout.labels(3)
    for cell in route_map(random_model(CONFIGS["two heads"], data), data, generator(), 4, [3]).cells:
        row = "EoI" if cell.t == 1 else f"s{cell.t - 1}"
        for route, way in zip(cell.routes, cell.names, strict=True):
            label = labels[route.carrier]
            if cell.variable == "s":
                assert label == row
                assert way == (RouteName.STRAIGHT if route.second == "residual" else RouteName.ATTENTION)
            elif label == f"x{cell.t}":
                assert (way, route.first, route.second) == (RouteName.TEXTBOOK, None, "key")
            else:
                assert way == (RouteName.STATE if label == row or label.startswith("s") else RouteName.OFFSET)
                assert route.first is not None
                assert route.second == "key" or label == row
        assert {labels[route.carrier] for route in cell.routes} >= {row}


def test_names_at_their_borders():
    assert cell_of().name == RouteName.OFFSET
    assert cell_of(together={RouteName.TEXTBOOK: 0.4, RouteName.OFFSET: 0.49}).name == RouteName.MIXED
    assert cell_of(follows=0.5).name == RouteName.OFFSET
    assert cell_of(follows=0.49).name == RouteName.NO_ROUTE
    assert cell_of(reliance=torch.tensor([0.5, 1.0])).name == RouteName.ACCUMULATED
    assert cell_of(reliance=torch.tensor([0.49, 1.0])).name == RouteName.OFFSET
    assert cell_of(reliance=torch.tensor([1.0, 1.0]), follows=0.0).name == RouteName.NO_ROUTE
    assert cell_of(share=torch.tensor([0.3, 0.651])).additive
    assert not cell_of(share=torch.tensor([0.3, 0.649])).additive
    assert not cell_of(share=torch.tensor([0.3, 0.76])).additive


def test_a_swap_changes_one_token_and_with_it_the_answer():
    for task in (*TASKS, Counter(modulus=4), Polynomial(modulus=4, start="zero", zero_inputs=True)):
        data = DataConfig(tasks=(task,), max_length=4)
        inputs, rows = strings_of(data, 4, 40, generator())
        states = task.states(inputs)
        swaps = make_swaps(task, data.layout, inputs, rows[:, :-1], generator(1))
        assert [(swap.variable, swap.t) for swap in swaps] == [
            *(("x", t) for t in (1, 2, 3, 4)),
            ("s", 2),
            ("s", 3),
            ("s", 4),
        ]
        for swap in swaps:
            assert swap.row == data.layout.iteration_edges(4)[0][swap.t - 1]
            torch.testing.assert_close(swap.target, rows[:, swap.row + 1])
            moved = swap.tokens != rows[:, :-1]
            assert not moved[:, [p for p in range(moved.shape[1]) if p != swap.source]].any()
            for i in range(len(rows)):
                x, new = int(inputs[i, swap.t - 1]), int(swap.tokens[i, swap.source])
                before = task.start_state if swap.t == 1 else int(states[i, swap.t - 2])
                if swap.variable == "x":
                    others = [
                        x if before is None else int(task.step(before, x))
                        for x in range(task.first_input, task.n_inputs)
                    ]
                    answer = new if before is None else int(task.step(before, new))
                    assert not swap.valid[i] or new >= task.first_input
                else:
                    others = [int(task.step(s, x)) for s in range(task.n_states)]
                    answer = int(task.step(new, x))
                assert bool(swap.valid[i]) == any(other != swap.target[i] for other in others)
                if swap.valid[i]:
                    assert answer == swap.foil[i] != swap.target[i]


def test_a_swap_without_chain_of_thought_changes_the_last_state():
    task, layout = Polynomial(modulus=5), Layout(chain_of_thought=False)
    inputs, rows = strings_of(DataConfig(tasks=(task,), chain_of_thought=False), 3, 40, generator())
    swaps = make_swaps(task, layout, inputs, rows[:, :-1], generator(1))
    assert [(swap.variable, swap.source, swap.row) for swap in swaps] == [("x", t, 4) for t in (1, 2, 3)]
    for swap in swaps:
        assert swap.valid.any()
        torch.testing.assert_close(swap.foil[swap.valid], task.states(swap.tokens[:, 1:4])[:, -1][swap.valid])
        torch.testing.assert_close(swap.target, task.states(inputs)[:, -1])
        assert (swap.foil != swap.target)[swap.valid].all()


def test_the_table_has_the_routes_that_matter():
    found = map_of(build(Parity(), 5, BuildOptions(route="neighbour")), lengths=[2])
    table = found.frame()
    assert list(table["variable"]) == ["x", "x", "s"]
    columns = ["length", "t", "first_hop", "carrier_label", "second_hop", "route", "cell", "additive"]
    rows = table[columns].values.tolist()
    assert rows[0] == [2, 1, "L0H1", "x2", "L1H0", "offset", "offset", True]
    assert rows[1] == [2, 2, "L0H1", "EoI", "L1H0", "offset", "offset", True]
    assert rows[2] == [2, 2, "stays", "s1", "residual", "straight from its row", "straight from its row", True]
    assert table["key"].tolist()[:2] == [2, 3]
    assert table["key"].isna().tolist() == [False, False, True]
    assert table["share"].min() > 0.99
    random = random_model(CONFIGS["two heads"], DataConfig(max_length=3))
    some = route_map(random, DataConfig(max_length=3), generator(), 8)
    size = torch.cat([cell.share for cell in some.cells]).abs()
    assert len(some.frame()) == (size >= 0.01).sum() < len(size)


def test_summaries_look_at_lengths_from_four_on_and_a_seed_decides():
    built = build(Parity(), 5)
    found = route_map(built.model, built.data, generator(), 8)
    assert found.summary().n_cells == 4 + 5
    assert route_map(built.model, built.data, generator(), 8, [2, 3]).summary().n_cells == 2 + 3
    assert str(found).startswith("parity\n  x_t: textbook diagonal (textbook diagonal 1.00); alone, L1H0 1.00")
    noisy = random_model(CONFIGS["two heads"], built.data)
    one, same, other = (route_map(noisy, built.data, generator(s), 8, [4]).frame() for s in (0, 0, 1))
    assert one.equals(same)
    assert not one.equals(other)


def test_what_cannot_be_measured_is_refused():
    data = DataConfig(max_length=4)
    model = random_model(CONFIGS["two heads"], data, n_ctx=16)
    for n_layers in (1, 3):
        deep = ModelConfig(d_model=16, n_heads=2, n_layers=n_layers)
        with pytest.raises(ValueError, match=f"^n_layers = {n_layers}: routes are defined for two layers$"):
            route_map(random_model(deep, data), data, generator())
    with pytest.raises(ValueError, match=r"^task = copy: must be one of parity$"):
        route_map(model, data, generator(), task=Copy())
    with pytest.raises(ValueError, match=r"^n_strings = 0: "):
        route_map(model, data, generator(), 0)
    for length in (0, 8):
        with pytest.raises(ValueError, match=f"^length = {length}: .* 16 positions$"):
            route_map(model, data, generator(), lengths=[length])
    assert route_map(model, data, generator(), 4, [6]).cells  # 14 tokens are read


def test_a_task_of_a_mixture_by_name():
    data = DataConfig(tasks=(Copy(), Parity()), max_length=4)
    model = random_model(CONFIGS["two heads"], data)
    assert route_map(model, data, generator(), 4, [2]).task == Copy()
    found = route_map(model, data, generator(), 4, [2], Parity())
    assert found.task == Parity()
    assert {cell.variable for cell in found.cells} == {"x", "s"}
