import pytest
import torch
from helpers import generator

from compo_mech.causal.das import align, centred, overlap
from compo_mech.causal.interchange import HOLDS
from compo_mech.causal.variables import make_interchanges
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.sites import Site


def pairs_of(built, variables, seed, n):
    return {v: make_interchanges(built.data, v, "independent", n, generator(seed + i)) for i, v in enumerate(variables)}


def searched(built, site, dims, seed=0, n=512, **settings):
    train, test = pairs_of(built, dims, 10 + seed, n), pairs_of(built, dims, 20 + seed, n)
    return align(built.model, site, dims, train, test, generator(seed), **settings)


def pointer(built):
    """Differences of the pointers in use."""
    return centred(built.subspaces["pointer"][:, 1 : built.data.max_length + 1])


@pytest.mark.slow
@pytest.mark.parametrize("rungs", [BuildOptions(), BuildOptions(rotated=True)], ids=["pristine", "rotated"])
def test_the_pointers_subspace_is_found_from_a_random_start(rungs):
    built = build(Parity(), rungs=rungs)
    truth = pointer(built)
    assert truth.shape[1] == built.data.max_length - 1
    found = searched(built, Site("resid_post", 0), {"t": truth.shape[1]}, n=1024)
    assert found.scores["t"].accuracy.mean >= 0.99
    assert found.random["t"].accuracy.mean < 0.7
    assert found.losses[-1] < 0.05 < found.losses[0]
    chance = truth.shape[1] / len(truth)
    assert overlap(found.subspaces["t"], truth) > 3 * chance


def test_two_variables_share_one_rotation():
    built = build(Polynomial(modulus=3), rungs=BuildOptions(rotated=True))
    dims = {"x": 3, "s": 3}
    found = searched(built, Site("resid_mid", 1), dims, n_steps=200)
    both = torch.cat([found.subspaces["x"], found.subspaces["s"]], 1)
    torch.testing.assert_close(both.mT @ both, torch.eye(6), atol=1e-5, rtol=0)
    for variable in dims:
        assert found.scores[variable].accuracy.mean >= 0.99
        assert not found.random[variable].holds


def test_what_goes_with_another_source_cannot_be_learnt():
    built = build(Parity())
    found = searched(built, Site("resid_post", 0), {"t": 7}, n_steps=60, permuted=True)
    assert found.scores["t"].accuracy.mean < 0.7


def test_a_broken_subtraction_gets_a_no():
    built = build(Parity(), rungs=BuildOptions(broken="subtraction"))
    found = searched(built, Site("resid_post", 0), {"t": 7}, n_steps=60)
    assert found.scores["t"].accuracy.mean < HOLDS
    assert not found.scores["t"].holds


def test_the_search_repeats_itself():
    built = build(Parity())
    first, second = (searched(built, Site("resid_post", 0), {"t": 3}, n=128, n_steps=5) for _ in range(2))
    assert torch.equal(first.subspaces["t"], second.subspaces["t"])


def test_overlap_by_hand():
    eye = torch.eye(4)
    assert overlap(eye[:, :2], eye[:, :2]) == pytest.approx(1)
    assert overlap(eye[:, :2], eye[:, 2:]) == 0
    assert overlap(eye[:, :1], eye[:, :3]) == 1
    diagonal = torch.tensor([[0.6], [0.8], [0.0], [0.0]])
    assert overlap(diagonal, eye[:, :1]) == pytest.approx(0.36)


def test_differences_of_a_code():
    basis = centred(torch.eye(5)[:, :3])
    assert basis.shape == (5, 2)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor([1.0, 1, 1, 0, 0]) @ basis, torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dims", [{}, {"t": 0}, {"t": 1000}])
def test_subspaces_that_have_no_room_are_refused(dims):
    built = build(Parity())
    with pytest.raises(ValueError, match=r"dims = .*: must be at least 1 each and at most \d+ together"):
        searched(built, Site("resid_post", 0), dims, n_steps=1)


def test_bases_that_are_no_numbers_are_refused():
    eye, wrong = torch.eye(4)[:, :2], torch.full((4, 2), torch.nan)
    for ask, name in (
        (lambda: overlap(wrong, eye), "found"),
        (lambda: overlap(eye, wrong), "truth"),
        (lambda: centred(wrong), "basis"),
    ):
        with pytest.raises(ValueError, match=f"^{name} = nan: must be finite, 8 of 8 are not$"):
            ask()
