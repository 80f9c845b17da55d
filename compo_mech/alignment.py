"""Distributed alignment search: the subspace of a site that holds a variable, found by gradient descent.

A rotation of the site's space is trained so that interchanges in its first coordinates make the answer
what the causal model says (Geiger et al. 2023, arXiv 2303.02536). Several variables share one rotation,
each with coordinates of its own. What was found is scored on strings that it was not trained on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils import parametrizations

from compo_mech.causal import (
    HEAD_ROW_KINDS,
    Interchanges,
    Score,
    Variable,
    continued,
    interchange,
    interchange_traces,
    swapped,
    value_at,
)
from compo_mech.graph import Model
from compo_mech.hooks import Site, check_site
from compo_mech.traces import Trace

LEARNING_RATE = 0.03
N_STEPS = 300

SOFT_LEAD = 6.0
"""Nats by which one key may lead during a search."""


@dataclass(frozen=True)
class Alignment:
    """What a search found at one site.

    Attributes:
        site: where.
        subspaces: an orthonormal basis for each variable, orthogonal to the others'.
        losses: cross-entropy (nats) of the answers asked for, by step.
        scores: on the held-out strings.
        random: the same for random subspaces of the same sizes.
    """

    site: Site
    subspaces: Mapping[Variable, Float[Tensor, "d_model dim"]]
    losses: Float[Tensor, "step"]
    scores: Mapping[Variable, Score]
    random: Mapping[Variable, Score]


def align(
    model: Model,
    site: Site,
    dims: Mapping[Variable, int],
    train: Mapping[Variable, Interchanges],
    test: Mapping[Variable, Interchanges],
    generator: torch.Generator,
    n_steps: int = N_STEPS,
    arbitrary: bool = False,
) -> Alignment:
    """Search one rotation for one or several variables, from a random start.

    Where attention is saturated a small turn changes nothing. So the search runs with the row's attention
    scores divided until no key leads by more than `SOFT_LEAD`; what is reported is of the network as it is.

    Args:
        model: the network.
        site: of a row (see `causal.ROW_KINDS`).
        dims: size of each variable's subspace.
        train, test: interchanges of each variable, of different strings.
        generator: draws the start and the placebos.
        n_steps: of gradient descent.
        arbitrary: the control: answers are asked for, in training and in the test, that go with the
            value of another source.

    Raises:
        ValueError: the site has no room for the subspaces, or there is no such site.
    """
    check_site(site, model.config)
    width = model.config.head_width if site.kind in HEAD_ROW_KINDS else model.config.d_model
    n_dims = sum(dims.values())
    if not dims or min(dims.values()) < 1 or n_dims > width:
        raise ValueError(f"dims = {dict(dims)}: must be at least 1 each and at most {width} together")
    device = model.params["embed.W_E"].device
    rotation = torch.nn.Linear(width, n_dims, bias=False, device=device)
    parametrizations.orthogonal(rotation, orthogonal_map="householder")
    rotation.weight = _random_basis(width, n_dims, generator).to(device).mT
    known = {}
    for variable in dims:
        pairs = train[variable]
        found, other = interchange_traces(model, pairs)
        answers = pairs.arbitrary if arbitrary else pairs.answers
        changes = answers != pairs.base.answer
        weight = torch.where(changes, 0.5 / changes.sum().clamp(min=1), 0.5 / (~changes).sum().clamp(min=1))
        values = value_at(found, site, pairs.base.place), value_at(other, site, pairs.source.place)
        known[variable] = pairs.base.place, found, values, answers, weight / weight.sum()
    adam = torch.optim.Adam(rotation.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    losses, heat = [], max(1.0, max(_lead(model, found, place) for place, found, *_ in known.values()) / SOFT_LEAD)
    for step in range(n_steps):
        for group in adam.param_groups:
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / n_steps)) / 2
        parts = split(rotation.weight.mT, dims)
        loss = torch.zeros((), device=device)
        for variable, (place, found, (base, source), answers, weight) in known.items():
            logits = continued(model, found, place, site, swapped(base, source, parts[variable]), heat)
            loss = loss + (F.cross_entropy(logits, answers, reduction="none") * weight).sum() / len(known)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.detach())
    subspaces: dict[Variable, Tensor] = {v: basis.detach() for v, basis in split(rotation.weight.mT, dims).items()}
    drawn = _random_basis(width, n_dims, generator).to(device)

    def scored(bases: Mapping[Variable, Tensor]) -> dict[Variable, Score]:
        return {
            v: interchange(model, test[v].with_arbitrary() if arbitrary else test[v], site, generator, bases[v])
            for v in dims
        }

    return Alignment(site, subspaces, torch.stack(losses), scored(subspaces), scored(split(drawn, dims)))


def _random_basis(width: int, n_dims: int, generator: torch.Generator) -> Float[Tensor, "width n_dims"]:
    return torch.linalg.qr(torch.randn(width, n_dims, generator=generator)).Q


def _lead(model: Model, found: Trace, place: Int[Tensor, "row"]) -> float:
    """Nats by which the strongest key leads the average one, of the sharpest head after layer 0, at the median row."""
    index, leads = torch.arange(len(place), device=place.device), [0.0]
    for q, k in zip(found.q[1:], found.k[1:], strict=True):
        scores = (k @ q[index, :, place][..., None])[..., 0] / math.sqrt(model.config.head_width)
        seen = torch.arange(k.shape[2], device=place.device) <= place[:, None]
        mean = (scores * seen[:, None]).sum(-1) / seen.sum(-1)[:, None]
        lead = scores.masked_fill(~seen[:, None], -torch.inf).amax(-1) - mean
        leads.append(float(lead.median(0).values.max()))
    return max(leads)


def split(basis: Float[Tensor, "d_model dims"], dims: Mapping[Variable, int]) -> dict[Variable, Tensor]:
    """Each variable's columns of a basis."""
    return dict(zip(dims, basis.split(list(dims.values()), 1), strict=True))


def overlap(found: Float[Tensor, "d_model k"], truth: Float[Tensor, "d_model k2"]) -> float:
    """Mean squared cosine of the principal angles between two subspaces given by orthonormal bases.

    1 if one lies within the other; for random ones of k and k2 >= k dimensions k2 / d_model.
    """
    cosines = found.double().mT @ truth.double()
    return float(cosines.square().sum() / min(found.shape[1], truth.shape[1]))


def centred(basis: Float[Tensor, "d_model dim"]) -> Float[Tensor, "d_model less"]:
    """An orthonormal basis of the differences within a one-hot code, given the codes of the values in use."""
    differences = (basis - basis.mean(1, keepdim=True)).double()
    u, s, _ = torch.linalg.svd(differences, full_matrices=False)
    return u[:, s > 1e-6 * s.max()].to(basis.dtype)
