"""Refusals of what is no number: nothing is ranked, dated or summarised that holds a NaN or an infinity."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model.params import Model


class NotFinite(ValueError):
    """A value is a NaN or infinite; the message, one line, says where."""


def check_finite(name: str, values: Tensor | float) -> None:
    """Refuse values that are not all finite.

    Args:
        name: what they are, as in the message.
        values: any number of them.

    Raises:
        NotFinite: one is a NaN or infinite.

    Example:
        >>> import torch
        >>> from compo_mech.model.finite import check_finite
        >>> check_finite("logits", torch.tensor([1.0, float("inf")]))
        Traceback (most recent call last):
        compo_mech.model.finite.NotFinite: logits = inf: must be finite, 1 of 2 are not
    """
    values = torch.as_tensor(values)
    if values.sum().isfinite():  # so is each of them; where a sum overflows they are looked at one by one
        return
    bad = ~values.isfinite()
    if bad.any():
        n_bad, n = int(bad.sum()), bad.numel()
        raise NotFinite(f"{name} = {float(values[bad][0])}: must be finite, {n_bad} of {n} are not")


def check_weights(model: Model) -> None:
    """Refuse a network with a weight that is not finite.

    Raises:
        NotFinite: there is one; the message names its tensor.

    Example:
        >>> import torch
        >>> from compo_mech.model import Model, ModelConfig, init_params
        >>> from compo_mech.model.finite import check_weights
        >>> config = ModelConfig(d_model=8)
        >>> params = init_params(config, 6, 9, torch.Generator().manual_seed(0))
        >>> params["ln_final.w"][3] = float("nan")
        >>> check_weights(Model(params, config))
        Traceback (most recent call last):
        compo_mech.model.finite.NotFinite: weight ln_final.w = nan: must be finite, 1 of 8 are not
    """
    if torch.stack([weight.sum() for weight in model.params.values()]).sum().isfinite():
        return
    for name, weight in model.params.items():
        check_finite(f"weight {name}", weight)


def likeliest(logits: Float[Tensor, "*row d_vocab"]) -> Int[Tensor, "*row"]:
    """Return the token of the highest logit in each row.

    Raises:
        NotFinite: a logit is not finite, so that none is the highest.

    Example:
        >>> import torch
        >>> from compo_mech.model.finite import likeliest
        >>> likeliest(torch.tensor([[0.0, 2.0, 1.0]])).tolist()
        [1]
    """
    check_finite("logits", logits)
    return logits.argmax(-1)
