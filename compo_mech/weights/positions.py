"""The geometry of position embeddings."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model.finite import check_finite
from compo_mech.model.params import Params

NOTHING = 1e-12
"""A variance below this fraction of the mean square counts as 0: that is rounding in single precision."""


def position_gram(params: Params, positions: range) -> Float[Tensor, "position position"]:
    """Inner products of position embeddings, centred over these positions.

    Raises:
        ValueError: there are fewer than two positions, the network does not have or embed them, or an embedding is not
            finite (here and below).
    """
    centred = _centred(params, positions)
    return centred @ centred.T


def position_spectrum(params: Params, positions: range) -> Float[Tensor, "rank"]:
    """Singular values of the centred embeddings, the largest first."""
    return torch.linalg.svdvals(_centred(params, positions))


def effective_dimension(params: Params, positions: range) -> float:
    """Participation ratio (sum l)^2 / sum l^2 of the Gram matrix' eigenvalues; 0 if all embeddings are equal."""
    return float(participation_ratio(position_spectrum(params, positions).square()))


def fourier_power(params: Params, positions: range) -> Float[Tensor, "frequency"]:
    """Fraction of the centred embeddings' power at 0, 1, .. n // 2 periods over these n positions.

    At 0 it is 0. All fractions are 0 if all embeddings are equal.
    """
    n = len(positions)
    power = torch.fft.rfft(_centred(params, positions), dim=0).abs().square().sum(1)
    power[1 : (n + 1) // 2] *= 2  # as much again at the negative frequency
    return power / power.sum().clamp(min=torch.finfo(power.dtype).tiny)


def toeplitz_share(params: Params, positions: range) -> float:
    """Fraction of the variance of the Gram matrix off its diagonal that |i - j| alone explains; 1 if there is none."""
    gram = position_gram(params, positions)
    i, j = torch.triu_indices(len(gram), len(gram), 1, device=gram.device)
    between, total = sums_of_squares(gram[i, j, None], j - i)
    if total <= NOTHING * gram.square().sum():
        return 1.0
    return float(between / total)


def _centred(params: Params, positions: range) -> Float[Tensor, "position d_model"]:
    if "pos_embed.W_pos" not in params:
        raise ValueError("params = without pos_embed.W_pos: must be of a network that embeds positions")
    every = params["pos_embed.W_pos"]
    if len(positions) < 2 or min(positions) < 0 or max(positions) >= len(every):
        raise ValueError(f"positions = {positions}: must be two or more of 0 .. {len(every) - 1}")
    chosen = every[list(positions)].double()
    check_finite("weight pos_embed.W_pos", chosen)
    centred = chosen - chosen.mean(0)
    return centred if centred.square().sum() > NOTHING * chosen.square().sum() else torch.zeros_like(centred)


def explained_share(values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]) -> float:
    """Fraction of the rows' variance about their mean that class means explain; 0 if nothing varies.

    It is the R^2 of a regression on one-hot labels, not adjusted: k classes explain (k - 1) / (n - 1)
    of n rows of noise.

    Raises:
        NotFinite: a value is not finite.
    """
    check_finite("values", values)
    between, total = sums_of_squares(values, labels)
    if total.sum() <= NOTHING * values.double().square().sum():
        return 0.0
    return float(between.sum() / total.sum())


def sums_of_squares(
    values: Float[Tensor, "row dim"], labels: Int[Tensor, "row"]
) -> tuple[Float[Tensor, "dim"], Float[Tensor, "dim"]]:
    """Sums of squares of class means and of all values, about the mean, for each dimension."""
    values = values.double() - values.double().mean(0)
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(counts), values.shape[1]).index_add(0, index, values)
    return (sums.square() / counts[:, None]).sum(0), values.square().sum(0)


def participation_ratio(values: Float[Tensor, "row *dim"]) -> Float[Tensor, "*dim"]:
    """(sum v)^2 / sum v^2 over rows, for values from 0 on; 0 where all are 0.

    Raises:
        NotFinite: a value is not finite.
    """
    check_finite("values", values)
    values = values.double()
    return values.sum(0).square() / values.square().sum(0).clamp(min=torch.finfo(values.dtype).tiny)
