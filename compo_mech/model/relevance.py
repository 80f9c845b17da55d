"""Steps of a network whose backward pass follows rules of layer-wise relevance propagation (LRP).

Forward they give what the steps of `blocks` give. Backward, what the rule names is a constant, so that every step is
linear in what it reads. Rules, as in Rezaei Jafari et al. 2025 (arXiv 2508.21258): for norms the LN rule and for
attention the AH rule of Ali et al. 2022 (ICML), for nonlinearities the identity rule, for gates the half rule.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Backward = Literal["gradient", "relevance", "relevance, attention held"]
"""What flows back: derivatives; or coefficients of relevance, without or with attention patterns as constants."""


def normed(
    x: Float[Tensor, "*row dim"], centres: bool, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Float[Tensor, "*row dim"]:
    """Apply a norm that divides by a constant.

    Args:
        x: what is normed.
        centres: whether the mean is subtracted.
        weight, bias: if it has them.
        eps: added to the mean square.

    Example:
        >>> from compo_mech.model.relevance import normed
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> out = normed(x, centres=False, weight=None, bias=None, eps=0.0)
        >>> (gradient,) = torch.autograd.grad(out.sum(), [x])
        >>> torch.allclose(gradient, torch.full((2,), 12.5**-0.5))
        True
    """
    x = x - x.mean(-1, keepdim=True) if centres else x
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt().detach()
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def activated(
    function: Callable[[Float[Tensor, "*row neuron"]], Float[Tensor, "*row neuron"]], pre: Float[Tensor, "*row neuron"]
) -> Float[Tensor, "*row neuron"]:
    """Apply a nonlinearity that multiplies each neuron by a constant, what it puts out over what goes in; 0 at 0.

    Example:
        >>> from compo_mech.model.relevance import activated
        >>> pre = torch.tensor([-1.0, 0.0, 3.0], requires_grad=True)
        >>> (gradient,) = torch.autograd.grad(activated(torch.square, pre).sum(), [pre])
        >>> gradient.tolist()
        [-1.0, 0.0, 3.0]
    """
    ratio = torch.where(pre == 0, 0.0, function(pre) / torch.where(pre == 0, 1.0, pre)).detach()
    return pre * ratio


def multiplied(one: Float[Tensor, "*row neuron"], other: Float[Tensor, "*row neuron"]) -> Float[Tensor, "*row neuron"]:
    """Multiply two factors, each of which is given half of what flows back.

    Example:
        >>> from compo_mech.model.relevance import multiplied
        >>> one, other = torch.tensor([2.0], requires_grad=True), torch.tensor([3.0])
        >>> torch.autograd.grad(multiplied(one, other), [one])[0].tolist()
        [1.5]
    """
    half = one * other / 2
    return half + half.detach()
