"""Linear, numeric and small-MLP probes, each tested on groups that it was not fitted on."""

import math
import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from compo_mech.model.finite import check_finite
from compo_mech.probing.split import Split

RIDGE, NUMERIC_RIDGE = 1e-3, 1e-4
"""Ridge, as a fraction of the features' whole variance. A larger one hides a label that holds a 25th of it; a smaller
one lets discriminants of short lengths read t from raw position embeddings, where it is not (0.4 rather than 0.0)."""
N_HIDDEN, N_STEPS, LEARNING_RATE, WEIGHT_DECAY = 32, 200, 0.02, 1.0

ROUNDING = 1e-9
"""A fraction of variance below this counts as 0, and a leverage this close to 1 as 1."""
TINY = 1e-30


def linear_probe(
    features: Float[Tensor, "*sites row dim"], split: Split, ridge: float = RIDGE
) -> Int[Tensor, "*sites row"]:
    """Predict the class of each row by the probe that is trained on the other folds; -1 for rows in no fold.

    Linear discriminant analysis with equal classes (Hastie et al., The Elements of Statistical Learning,
    4.3): each class scores mu' S^-1 x - mu' S^-1 mu / 2, and the highest is predicted, as attention selects a key by
    the highest of scores linear in the query. S is the scatter within classes, with a ridge.

    Raises:
        ValueError: the ridge is not above 0, or a feature is not finite.
    """
    _check_ridge(ridge)
    check_finite("features", features)
    features, classes = features.detach().cpu().double(), one_hot(split.labels, split.n_classes).double()
    predicted = features.new_full(features.shape[:-1], -1, dtype=torch.long)
    for fold, weights in enumerate(split.weights):
        rows = split.fold == fold
        if not rows.any():
            continue
        x = _scaled(features, weights)
        shares = classes.T * weights  # [class, row]
        centres = shares @ x / shares.sum(1, keepdim=True).clamp_min(TINY)
        inside = x - centres[..., split.labels, :]
        scatter = inside.mT @ (weights[:, None] * inside) + ridge * torch.eye(x.shape[-1]).to(x)
        directions = torch.linalg.solve(scatter, centres.mT)
        scores = x[..., rows, :] @ directions - ((centres.mT * directions).sum(-2) / 2)[..., None, :]
        predicted[..., rows] = scores.masked_fill(shares.sum(1) == 0, -torch.inf).argmax(-1)
    return predicted


def numeric_probe(features: Float[Tensor, "*sites row dim"], split: Split) -> Int[Tensor, "*sites row"]:
    """Do the same by least squares on the label as a number, rounded to a class: only a control, as it reads t = i - j
    + 1 from its two summands, before anything has subtracted them.

    Raises:
        NotFinite: a feature is not finite.
    """
    check_finite("features", features)
    numbers = _least_squares(features, split.labels[:, None].double(), split, NUMERIC_RIDGE)[..., 0]
    return numbers.round().long().clamp(0, split.n_classes - 1).where(split.fold >= 0, -1)


def mlp_probe(
    features: Float[Tensor, "*sites row dim"], split: Split, generator: torch.Generator
) -> Int[Tensor, "*sites row"]:
    """Do the same by an MLP with one hidden layer of ReLUs, all sites and folds at once, by AdamW on whole batches.

    Features are centred and scaled by all rows, without their labels. All sites start from the same
    weights, so that the result at one does not depend on the others.

    Raises:
        NotFinite: a feature is not finite.
    """
    check_finite("features", features)
    x = features.detach().cpu().float().reshape(-1, *features.shape[-2:])
    x = x - x.mean(1, keepdim=True)
    x = (x / x.square().mean((1, 2), keepdim=True).clamp_min(TINY).sqrt()).mT.contiguous()  # rows last: twice as fast
    weights = split.weights.float().repeat(len(x), 1)  # [site and fold, row]

    def start(*shape: int) -> Float[Tensor, "site fold out in"]:
        drawn = torch.randn(len(split.weights), *shape, generator=generator) * math.sqrt(2 / shape[1])
        return drawn.to(x).repeat(len(x), 1, 1, 1).requires_grad_()

    w_in, w_out = start(N_HIDDEN, x.shape[1]), start(split.n_classes, N_HIDDEN)
    b_in, b_out = (torch.zeros_like(w[..., :1]).requires_grad_() for w in (w_in, w_out))
    optimizer = torch.optim.AdamW([w_in, w_out, b_in, b_out], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def logits() -> Float[Tensor, "site fold class row"]:
        read = (w_in.flatten(1, 2) @ x).unflatten(1, w_in.shape[1:3])
        return w_out @ (read + b_in).relu() + b_out

    with torch.enable_grad():
        for _ in range(N_STEPS):
            targets = split.labels.expand(len(weights), -1)
            losses = cross_entropy(logits().flatten(0, 1), targets, reduction="none")
            optimizer.zero_grad()
            (losses * weights).sum().backward()
            optimizer.step()
    with torch.no_grad():
        classes = logits().argmax(2)[:, split.fold.clamp_min(0), torch.arange(len(split.fold))]
    return classes.view(features.shape[:-1]).where(split.fold >= 0, -1)


def _least_squares(
    features: Float[Tensor, "*sites row dim"], targets: Float[Tensor, "row out"], split: Split, ridge: float
) -> Float[Tensor, "*sites row out"]:
    """The prediction for each row of the fit to the other folds; 0 for rows in no fold."""
    features = features.detach().cpu().double()
    said = features.new_zeros(*features.shape[:-1], targets.shape[1])
    for fold, weights in enumerate(split.weights):
        rows = split.fold == fold
        said[..., rows, :] = _fit(features, targets, weights, ridge)[..., rows, :]
    return said


def _fit(
    features: Float[Tensor, "*sites row dim"], targets: Float[Tensor, "row out"], weights: Tensor, ridge: float
) -> Float[Tensor, "*sites row out"]:
    """Weighted least squares with intercept, its prediction for every row; weights sum to 1."""
    x, mean = _scaled(features, weights), weights @ targets
    gram = x.mT @ (weights[:, None] * x) + ridge * torch.eye(x.shape[-1]).to(x)
    return x @ torch.linalg.solve(gram, x.mT @ (weights[:, None] * (targets - mean))) + mean


def _scaled(features: Float[Tensor, "*sites row dim"], weights: Tensor) -> Float[Tensor, "*sites row dim"]:
    """Centred, with a whole variance of 1 in the rows that are trained on."""
    x = features - (weights @ features)[..., None, :]
    return x / (weights @ x.square()).sum(-1)[..., None, None].clamp_min(TINY).sqrt()


def _check_ridge(ridge: float) -> None:
    if not ridge > 0:
        raise ValueError(f"ridge = {ridge}: must be above 0")


def separable(features: Float[Tensor, "*sites row dim"], labels: Int[Tensor, "row"]) -> Float[Tensor, "*sites"]:
    """Return the accuracy of a linear classifier on the rows it was fitted to: 1 where the classes are linearly
    separable.

    The better of least squares and, unless that is always right, logistic regression. Below 1 it is
    a lower bound: neither minimises the number of errors.

    Raises:
        NotFinite: a feature is not finite.
    """
    from sklearn.linear_model import LogisticRegression

    check_finite("features", features)
    labels = labels.cpu()
    x, uniform = features.detach().cpu().double(), torch.ones(len(labels)).double() / len(labels)
    best = (_fit(x, one_hot(labels).double(), uniform, ROUNDING).argmax(-1) == labels).double().mean(-1)
    for site, rows in enumerate(x.reshape(-1, *x.shape[-2:]).cpu().numpy()):
        if best.view(-1)[site] < 1:
            rows = (rows - rows.mean(0)) / rows.std(0).clip(min=TINY + ROUNDING * abs(rows).max())
            with warnings.catch_warnings(action="ignore"):
                score = LogisticRegression(C=1e4, max_iter=200).fit(rows, labels).score(rows, labels)
            best.view(-1)[site] = max(float(best.view(-1)[site]), score)
    return best
