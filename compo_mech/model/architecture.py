"""Refusals of networks that an analysis has nothing to ask of."""

from compo_mech.model.config import ModelConfig


def check_has_mlps(config: ModelConfig) -> None:
    """Refuse a network without MLPs.

    Raises:
        ValueError: it has none.

    >>> check_has_mlps(ModelConfig(attn_only=True))
    Traceback (most recent call last):
    ValueError: attn_only = True: must be False, since this is about an MLP
    """
    if config.attn_only:
        raise ValueError("attn_only = True: must be False, since this is about an MLP")


def check_embeds_positions(config: ModelConfig) -> None:
    """Refuse a network whose stream is not told positions.

    Raises:
        ValueError: they have no embedding.

    >>> check_embeds_positions(ModelConfig(positional_embedding="rotary"))
    Traceback (most recent call last):
    ValueError: positional_embedding = rotary: must be standard, since this is about embeddings of positions
    """
    if config.positional_embedding != "standard":
        kind = config.positional_embedding
        raise ValueError(
            f"positional_embedding = {kind}: must be standard, since this is about embeddings of positions"
        )
