"""Rotary positions: queries and keys are rotated by angles that grow with their position."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model.config import ModelConfig


def rotated(
    config: ModelConfig, x: Float[Tensor, "*row d_head"], positions: Int[Tensor, "*#row"]
) -> Float[Tensor, "*row d_head"]:
    """Rotate queries or keys to their positions: the product of two depends on the difference of positions alone.

    Pair i of the first `rotary_dim` dimensions turns by position / rotary_base^(2 i / rotary_dim); the other dimensions
    stay. Pairs are neighbours (`rotary_adjacent_pairs`), or dimensions i and i + rotary_dim / 2. Source: Su et al.
    2021, RoFormer (arXiv 2104.09864).

    Example:
        >>> from compo_mech.model import ModelConfig
        >>> config = ModelConfig(d_model=2, positional_embedding="rotary")
        >>> q, k = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
        >>> near, far = (rotated(config, q, torch.tensor([i])) @ rotated(config, k, torch.tensor([i - 2])).mT
        ...              for i in (3, 30))
        >>> torch.allclose(near, far, atol=1e-5)
        True
    """
    width = config.rotated_width
    dtype = torch.promote_types(x.dtype, torch.float32)
    pair = torch.arange(width // 2, device=x.device, dtype=dtype)
    angle = positions[..., None] / config.rotary_base ** (pair / (width // 2))  # [*head, row, pair]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    turned, stays = x.split([width, x.shape[-1] - width], -1)
    axis, shape = (-1, (-1, 2)) if config.rotary_adjacent_pairs else (-2, (2, -1))
    one, other = turned.unflatten(-1, shape).unbind(axis)
    turned = torch.stack((one * cos - other * sin, other * cos + one * sin), axis).flatten(-2)
    return torch.cat([turned, stays], -1)
