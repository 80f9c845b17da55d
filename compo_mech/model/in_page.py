"""Networks for a page: their weights in half precision, and the forward pass in JavaScript that reads them.

The forward pass is `network.js`: what `blocks` computes, for every configuration that attends causally, and equal to
it, tested in a browser.
"""

from collections.abc import Iterable
from importlib.resources import files

from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Params

MAX_HALF = 65504.0
"""The largest number that half precision has."""

DERIVED = ("head_width", "mlp_width", "n_kv_heads", "score_scale", "rotated_width")
"""What the forward pass reads of a configuration besides its settings."""


def network_script() -> str:
    """Return the functions of `network.js`, to be placed in a script."""
    return (files("compo_mech.model") / "network.js").read_text(encoding="utf-8")


def described(config: ModelConfig, params: Params) -> dict[str, object]:
    """Describe a network as `readNetwork` takes it: its settings, and its parameters' shapes in order.

    Raises:
        ValueError: attention goes both ways, which a row by row forward pass cannot follow.

    Example:
        >>> import torch
        >>> from compo_mech.model import ModelConfig, init_params
        >>> from compo_mech.model.in_page import described
        >>> config = ModelConfig(d_model=8)
        >>> params = init_params(config, 6, 9, torch.Generator().manual_seed(0))
        >>> described(config, params)["shapes"][0]
        ['embed.W_E', [6, 8]]
    """
    if config.attention_dir != "causal":
        raise ValueError(f"attention_dir = {config.attention_dir}: must be causal to be run in a page")
    settings = config.model_dump(mode="json") | {name: getattr(config, name) for name in DERIVED}
    return {"config": settings, "shapes": [[name, list(param.shape)] for name, param in params.items()]}


def halved(params: Params) -> Params:
    """Round parameters to half precision, and return them in the precision that they had.

    Raises:
        ValueError: one of them is not finite, or larger than half precision can hold.

    Example:
        >>> import torch
        >>> from compo_mech.model.in_page import halved
        >>> halved({"embed.W_E": torch.tensor([[0.1, 1.0]])})["embed.W_E"].tolist()
        [[0.0999755859375, 1.0]]
    """
    for name, param in params.items():
        check_finite(f"weight {name}", param)
        if (largest := float(param.abs().max())) > MAX_HALF:
            raise ValueError(f"weight {name} = {largest:.3g}: must be at most {MAX_HALF:.0f} to be put into a page")
    return {name: param.half().to(param.dtype) for name, param in params.items()}


def packed(networks: Iterable[Params]) -> bytes:
    """Write the parameters of networks of one shape, one network after the other, as `readNetwork` reads them.

    Example:
        >>> import torch
        >>> from compo_mech.model.in_page import packed
        >>> packed([{"embed.W_E": torch.tensor([[1.0, -2.0]])}]).hex()
        '003c00c0'
    """
    arrays = [param.detach().cpu().half().numpy() for params in networks for param in params.values()]
    return b"".join(array.astype("<f2").tobytes() for array in arrays)
