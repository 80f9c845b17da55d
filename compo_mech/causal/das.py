"""Distributed alignment search: the subspace of a site that holds a variable, found by gradient descent.

A rotation of the site's space is trained so that interchanges in its first coordinates make the answer
what the causal model says (Geiger et al. 2023, arXiv 2303.02536). Several variables use one rotation,
each with coordinates of its own. What was found is scored on strings that it was not trained on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils import parametrizations

from compo_mech.causal.interchange import InterchangeScore, balanced_accuracy, interchange, interchange_traces
from compo_mech.causal.row_patching import HEAD_ROW_KINDS, check_row_site, continued, swapped
from compo_mech.causal.rows import Variable
from compo_mech.causal.variables import Interchanges
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model import blocks
from compo_mech.model.finite import check_finite, likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site

LEARNING_RATE = 0.03
N_STEPS = 300
N_STARTS = 3
ENOUGH = 0.995

SOFT_LEAD = 6.0
"""Nats by which one key may lead during a search."""


@dataclass(frozen=True)
class Alignment:
    """What a search found at one site.

    Attributes:
        site: where.
        subspaces: an orthonormal basis for each variable, orthogonal to the others'.
        losses: cross-entropy (nats) of the counterfactual answers, by step.
        scores: on the held-out strings.
        random: the same for random subspaces of the same sizes.
    """

    site: Site
    subspaces: Mapping[Variable, Float[Tensor, "d_model dim"]]
    losses: Float[Tensor, "step"]
    scores: Mapping[Variable, InterchangeScore]
    random: Mapping[Variable, InterchangeScore]


def align(
    model: Model,
    site: Site,
    dims: Mapping[Variable, int],
    train: Mapping[Variable, Interchanges],
    test: Mapping[Variable, Interchanges],
    generator: torch.Generator,
    n_steps: int = N_STEPS,
    permuted: bool = False,
) -> Alignment:
    """Search one rotation for one or several variables, from random starts: the first that is right about
    `ENOUGH` of the training pairs, or the best of `N_STARTS`.

    Where attention is saturated a small rotation changes nothing. So the search runs with the row's attention
    scores divided until no key leads by more than `SOFT_LEAD`; what is reported is of the network as it is.

    Args:
        model: the network.
        site: of a row (see `causal.ROW_KINDS`).
        dims: size of each variable's subspace.
        train, test: interchanges of each variable, of different strings.
        generator: draws the starts and the placebos.
        n_steps: of gradient descent.
        permuted: the control: the labels that the search and the test ask for are permuted.

    Raises:
        ValueError: the site has no room for the subspaces, or there is no such site.
    """
    check_row_site(site, model.config)
    train = {v: pairs.to(model.device) for v, pairs in train.items()}
    width = model.config.d_model
    if site.kind in HEAD_ROW_KINDS:
        width = model.config.head_width * (model.config.n_heads if site.head is None else 1)
    n_dims = sum(dims.values())
    if not dims or min(dims.values()) < 1 or n_dims > width:
        raise ValueError(f"dims = {dict(dims)}: must be at least 1 each and at most {width} together")
    known: list[tuple[Variable, _Asked]] = [
        (v, _Asked.of(model, site, pairs.with_permuted() if permuted else pairs)) for v, pairs in train.items()
    ]
    best, losses = 0.0, torch.zeros(0)
    subspaces: dict[Variable, Tensor] = {}
    for _ in range(N_STARTS):
        found, found_losses = _descend(model, site, dims, known, _random_basis(width, n_dims, generator), n_steps)
        right = min(asked.accuracy(model, site, found[v]) for v, asked in known)
        if right > best or not subspaces:
            best, subspaces, losses = right, found, found_losses
        if best >= ENOUGH:
            break
    drawn = _random_basis(width, n_dims, generator).to(losses)

    def scored(bases: Mapping[Variable, Tensor]) -> dict[Variable, InterchangeScore]:
        return {
            v: interchange(model, test[v].with_permuted() if permuted else test[v], site, generator, bases[v])
            for v in dims
        }

    return Alignment(site, subspaces, losses, scored(subspaces), scored(split(drawn, dims)))


@dataclass(frozen=True)
class _Asked:
    """Interchanges of one variable, ready for the search: values at the site, and the counterfactual answers."""

    found: RowTrace
    base: Float[Tensor, "row dim"]
    source: Float[Tensor, "row dim"]
    answers: Int[Tensor, "row"]
    changes: Bool[Tensor, "row"]

    @classmethod
    def of(cls, model: Model, site: Site, pairs: Interchanges) -> "_Asked":
        found, other = interchange_traces(model, pairs)
        base, source = found.at(site), other.at(site)
        return cls(found, base, source, pairs.answers, pairs.changes)

    def logits(self, model: Model, site: Site, subspace: Tensor, heat: float) -> Float[Tensor, "row d_vocab"]:
        return continued(model, self.found, site, swapped(self.base, self.source, subspace.to(self.base)), heat)

    @property
    def weight(self) -> Float[Tensor, "row"]:
        """Answers that have to change and those that have to stay weigh as much."""
        change, stay = 1 / self.changes.sum().clamp(min=1), 1 / (~self.changes).sum().clamp(min=1)
        weight = torch.where(self.changes, change, stay)
        return weight / weight.sum()

    @torch.no_grad()
    def accuracy(self, model: Model, site: Site, subspace: Tensor) -> float:
        answered = likeliest(self.logits(model, site, subspace, 1.0))
        return balanced_accuracy(answered, self.answers, self.changes)


def _descend(
    model: Model,
    site: Site,
    dims: Mapping[Variable, int],
    known: Sequence[tuple[Variable, _Asked]],
    start: Float[Tensor, "width n_dims"],
    n_steps: int,
) -> tuple[dict[Variable, Tensor], Float[Tensor, "step"]]:
    """Subspaces from one initialisation, and the loss by step."""
    width, n_dims = start.shape
    device = model.device
    dtype = torch.promote_types(model.params["embed.W_E"].dtype, torch.float32)  # no rotation is made in less
    rotation = torch.nn.utils.skip_init(torch.nn.Linear, width, n_dims, bias=False, device=device, dtype=dtype)
    # a trivialisation would complete the basis by draws of the global generator
    parametrizations.orthogonal(rotation, orthogonal_map="householder", use_trivialization=False)
    rotation.weight = start.to(device, dtype).mT
    adam = torch.optim.Adam(rotation.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    heat = max(1.0, max(_lead(model, asked.found) for _, asked in known) / SOFT_LEAD)
    weights, losses = [asked.weight for _, asked in known], []
    for step in range(n_steps):
        for group in adam.param_groups:
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / n_steps)) / 2
        parts = split(rotation.weight.mT, dims)
        loss = torch.zeros((), device=device, dtype=dtype)
        for (variable, asked), weight in zip(known, weights, strict=True):
            logits = asked.logits(model, site, parts[variable], heat)
            loss = loss + (F.cross_entropy(logits, asked.answers, reduction="none") * weight).sum() / len(known)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.detach())
    return {v: basis.detach() for v, basis in split(rotation.weight.mT, dims).items()}, torch.stack(losses)


def _random_basis(width: int, n_dims: int, generator: torch.Generator) -> Float[Tensor, "width n_dims"]:
    return torch.linalg.qr(torch.randn(width, n_dims, generator=generator)).Q


def _lead(model: Model, found: RowTrace) -> float:
    """Nats by which the strongest key leads the average one, of the sharpest head after layer 0, at the median row."""
    leads = [0.0]
    for layer in range(1, model.config.n_layers):
        q, k = found.q[layer], blocks.by_query_head(model, found.k[layer])
        scores = blocks.row_scores(model, layer, q, k, found.position[:, None])
        seen = blocks.causal(found.position, k.shape[2])
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

    Raises:
        NotFinite: a basis is not finite.
    """
    check_finite("found", found)
    check_finite("truth", truth)
    cosines = found.double().mT @ truth.double()
    return float(cosines.square().sum() / min(found.shape[1], truth.shape[1]))


def centred(basis: Float[Tensor, "d_model dim"]) -> Float[Tensor, "d_model less"]:
    """An orthonormal basis of the differences within a one-hot code, given the codes of the values in use.

    Raises:
        NotFinite: a code is not finite.
    """
    check_finite("basis", basis)
    differences = (basis - basis.mean(1, keepdim=True)).double()
    u, s, _ = torch.linalg.svd(differences, full_matrices=False)
    return u[:, s > 1e-6 * s.max()].to(basis.dtype)
