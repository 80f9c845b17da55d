"""Kinds of networks of TransformerLens, told without importing it, which takes seconds."""

from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformer_lens.model_bridge import TransformerBridge


def is_hooked(network: Any) -> TypeGuard["HookedTransformer"]:
    """Whether it is a HookedTransformer."""
    return _is_a(network, "HookedTransformer")


def is_bridge(network: Any) -> TypeGuard["TransformerBridge"]:
    """Whether it is a TransformerBridge, of TransformerLens 3.9 or 4.x."""
    return _is_a(network, "TransformerBridge")


def _is_a(network: object, name: str) -> bool:
    lineage = type(network).__mro__
    return any(kind.__name__ == name and kind.__module__.split(".")[0] == "transformer_lens" for kind in lineage)
