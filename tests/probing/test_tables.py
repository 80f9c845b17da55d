import pytest
import torch
from helpers import generator

from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import draw_rows
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Counter, Parity, Symmetric
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params
from compo_mech.model.sites import Site
from compo_mech.probing import grid as grids
from compo_mech.probing.additivity import made_additive, share_right
from compo_mech.probing.grid import state_grid
from compo_mech.probing.neurons import hidden, without_neurons
from compo_mech.probing.variance import additive_rest, group_means

GROUPS = [(Parity(), 2), (Counter(modulus=3), 3), (Symmetric(n=3), 6)]
"""Tasks whose table has every state once in each row and column, and how many states that are."""


def asked(built):
    """The grid of (s, x), and the trace of its rows."""
    grid = state_grid(built.data, built.data.tasks[0], generator())
    return grid, trace_rows(built.model, grid.rows)


def additive_at(built, site):
    grid, found = asked(built)
    return made_additive(built.model, grid.rows, found, site, grid.split.groups, (grid.s, grid.x), generator())


def update_rest(built, grid, found):
    """What neurons of MLP 1 have beyond sums over s and x."""
    means = group_means(hidden(built.model, found, 1), grid.split.groups).means
    return additive_rest(means, grid.s, grid.x)


# ---------------------------------------------------------------------------------- answers


def test_answers_are_counted_by_hand():
    built = build(Parity())
    rows = draw_rows(built.data, Parity(), 300, generator())
    found = trace_rows(built.model, rows)
    assert share_right(built.model, rows, found).mean == 1
    site = Site("resid_post", 1)
    whole = found.at(site)
    assert share_right(built.model, rows, found, site, torch.zeros_like(whole)).mean == 1
    zero = 100 * built.subspaces["answer"][:, 0].expand(300, -1)  # says 0, whatever else there is
    says = share_right(built.model, rows, found, site, zero)
    assert says.mean == pytest.approx(float((rows.answer == 0).double().mean()))
    assert says.low < says.mean < says.high
    assert share_right(built.model, rows, found, site, zero, only=rows.answer == 0).mean == 1
    assert share_right(built.model, rows, found, site, zero, only=rows.answer == 1).mean == 0


def test_of_equal_logits_one_is_drawn():
    built = build(Parity())
    rows = draw_rows(built.data, Parity(), 300, generator())
    found = trace_rows(built.model, rows)
    site = Site("resid_post", 1)
    whole = found.at(site)
    nothing = share_right(built.model, rows, found, site, -whole)
    assert nothing.mean == pytest.approx(1 / len(built.data.vocabulary), abs=1 / 300)
    assert share_right(built.model, rows, found, site, -(1 - 1e-6) * whole).mean == nothing.mean
    assert share_right(built.model, rows, found, site, -0.99 * whole).mean == 1


# --------------------------------------------------------------------- what is beyond sums


@pytest.mark.parametrize("rungs", [BuildOptions(), BuildOptions(rotated=True)], ids=["pristine", "rotated"])
@pytest.mark.parametrize(("task", "n_states"), GROUPS, ids=str)
def test_without_its_rest_the_table_of_a_group_says_nothing(task, n_states, rungs):
    found = additive_at(build(task, rungs=rungs), Site("mlp_out", 1))
    assert found.whole.mean == found.placebo.mean == 1
    assert found.additive.mean == pytest.approx(1 / n_states, abs=2e-3)


def test_what_is_a_sum_already_stays():
    for rungs in (BuildOptions(), BuildOptions(rotated=True)):
        built = build(Parity(), rungs=rungs)
        grid, found = asked(built)
        site = Site("attn_out", 1)  # x_t alone
        means = group_means(found.at(site), grid.split.groups).means
        assert additive_rest(means, grid.s, grid.x).abs().max() < 1e-5
        assert additive_at(built, site).additive.mean == 1
        assert additive_at(built, Site("resid_mid", 1)).additive.mean == 1  # s beside x
        copies = additive_at(build(Copy(), rungs=rungs), Site("mlp_out", 1))
        assert copies == (copies.whole,) * 3


def test_a_pair_counts_once_however_many_rows_it_has():
    built = build(Parity())
    grid, _ = asked(built)
    kept = torch.cat([(grid.split.groups == g).nonzero()[: 8 * (g + 1), 0] for g in range(4)])
    rows, groups = grid.rows[kept], grid.split.groups[kept]
    found = trace_rows(built.model, rows)
    keys = grid.s, grid.x
    cut = made_additive(built.model, rows, found, Site("mlp_out", 1), groups, keys, generator())
    assert cut.additive.mean == pytest.approx(0.5)  # of equal weights, not of 8, 16, 24 and 32 rows


# --------------------------------------------------------------------------------- neurons


@pytest.mark.parametrize(
    "settings",
    [{}, {"act_fn": "relu", "normalization": "none"}, {"biases": True, "n_heads": 2, "act_fn": "silu"}],
    ids=str,
)
def test_activations_are_those_of_transformer_lens(settings):
    data = DataConfig(max_length=5)
    config = ModelConfig(d_model=32, **settings)
    params = init_params(config, len(data.vocabulary), data.layout.n_tokens(5), generator())
    noise = generator(1)
    params = {name: p + 0.1 * torch.randn(p.shape, generator=noise) for name, p in params.items()}
    rows = draw_rows(data, Parity(), 20, generator())
    found = trace_rows(Model(params, config), rows)
    _, cache = to_hooked(Model(params, config)).run_with_cache(rows.tokens)
    for layer in range(2):
        slow = cache[f"blocks.{layer}.mlp.hook_post"][torch.arange(20), rows.position]
        torch.testing.assert_close(hidden(Model(params, config), found, layer), slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", [Parity(), Symmetric(n=3)], ids=str)
def test_no_neurons_are_the_whole_and_all_are_the_mlp(task):
    built = build(task, rungs=BuildOptions(rotated=True))
    grid, found = asked(built)
    rest = update_rest(built, grid, found)
    n = rest.shape[1]
    order = torch.randperm(n, generator=generator()).tolist()
    curve = without_neurons(built.model, grid.rows, found, 1, rest, grid.split.groups, order, generator())
    counts = curve["n_neurons"].tolist()
    assert counts[0] == 0
    assert counts[-1] == n
    assert counts[1:-1] == [2**k for k in range(len(counts) - 2)]
    assert n <= 2 ** (len(counts) - 2)
    whole, additive, _ = additive_at(built, Site("mlp_out", 1))
    for column in ("chosen", "random"):
        assert curve[column].iloc[0] == whole.mean
        assert curve[column].iloc[-1] == pytest.approx(additive.mean, abs=2e-3)


def test_four_neurons_make_the_exclusive_or():
    built = build(Parity())
    grid, found = asked(built)
    rest = update_rest(built, grid, found)
    making = rest.abs().sum(0).nonzero()[:, 0].tolist()
    assert len(making) == 4
    others = [neuron for neuron in range(rest.shape[1]) if neuron not in making]
    for order, right in ((making + others, [1, 1, 1, 0.5, 0.5]), (others + making, [1] * 5)):
        curve = without_neurons(built.model, grid.rows, found, 1, rest, grid.split.groups, order, generator())
        assert curve["chosen"].iloc[:5].tolist() == pytest.approx(right)  # 0, 1, 2, 4, 8 of them
        assert curve["chosen"].iloc[-1] == pytest.approx(0.5)
    assert curve["chosen"].iloc[-2] == 1


def test_rows_of_many_pairs_are_bounded_and_too_many_pairs_are_refused(monkeypatch):
    """Of 120 states and inputs, as many rows a pair as of smaller tasks took gigabytes to trace."""
    task, data = Counter(modulus=5), DataConfig(tasks=(Counter(modulus=5),), max_length=4)
    monkeypatch.setattr(grids, "N_ROWS", 16)
    for most, n_each in ((10_000, grids.MIN_ROWS), (3 * 25, 3), (25, 1)):
        monkeypatch.setattr(grids, "MAX_ROWS", most)
        found = state_grid(data, task, generator())
        assert found.split.groups.bincount().tolist() == [n_each] * 25
    monkeypatch.setattr(grids, "MAX_ROWS", 24)
    with pytest.raises(ValueError, match=r"task = counter\(modulus=5\): has 25 pairs \(s, x\), must have at most 24"):
        state_grid(data, task, generator())
