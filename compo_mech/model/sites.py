"""Addresses of activations, and TransformerLens' names for them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from compo_mech.model.config import ModelConfig

Kind = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "q", "k", "v", "z", "pattern", "result"]
HEAD_KINDS = ("q", "k", "v", "z", "pattern", "result")


class Site(NamedTuple):
    """One activation: `Site("z", layer=1, head=0)`, `Site("resid_pre", layer=0)`.

    The head of `k` and `v` is one of keys and values, which heads may share: see `heads_of_kind`.

    Example:
        >>> from compo_mech.model import Site
        >>> site = Site("z", layer=1, head=0)
        >>> str(site), site.hook_name
        ('L1H0.z', 'blocks.1.attn.hook_z')
    """

    kind: Kind
    layer: int
    head: int | None = None

    @property
    def hook_name(self) -> str:
        """The hook point of a HookedTransformer where it is read and written."""
        part = "attn." if self.kind in HEAD_KINDS else ""
        return f"blocks.{self.layer}.{part}hook_{self.kind}"

    def __str__(self) -> str:
        return f"{self.kind}{self.layer}" if self.head is None else f"L{self.layer}H{self.head}.{self.kind}"


def kinds_of(config: ModelConfig) -> tuple[Kind, ...]:
    """Return the kinds of sites that a network has.

    Example:
        >>> from compo_mech.model import ModelConfig, kinds_of
        >>> set(kinds_of(ModelConfig())) - set(kinds_of(ModelConfig(parallel_attn_mlp=True)))
        {'resid_mid'}
    """
    missing = _missing(config)
    return tuple(kind for kind in get_args(Kind) if kind not in missing)


def _missing(config: ModelConfig) -> tuple[Kind, ...]:
    if config.attn_only:
        return "resid_mid", "mlp_out"
    return ("resid_mid",) if config.parallel_attn_mlp else ()


def mlp_input_site(config: ModelConfig, layer: int) -> Site:
    """Return where a layer's MLP reads: before attention, where both are parallel, or after it.

    Example:
        >>> from compo_mech.model import ModelConfig, mlp_input_site
        >>> str(mlp_input_site(ModelConfig(), 1)), str(mlp_input_site(ModelConfig(parallel_attn_mlp=True), 1))
        ('resid_mid1', 'resid_pre1')
    """
    return Site("resid_pre" if config.parallel_attn_mlp else "resid_mid", layer)


def heads_of_kind(kind: Kind, config: ModelConfig) -> Sequence[int | None]:
    """Return the heads that sites of this kind have: none is written None.

    Example:
        >>> from compo_mech.model import ModelConfig, heads_of_kind
        >>> config = ModelConfig(n_heads=4, n_key_value_heads=2)
        >>> [len(heads_of_kind(kind, config)) for kind in ("q", "k", "mlp_out")]
        [4, 2, 1]
    """
    if kind not in HEAD_KINDS:
        return [None]
    return range(config.n_kv_heads if kind in ("k", "v") else config.n_heads)


def check_site(site: Site, config: ModelConfig) -> None:
    """Refuse an address that the network does not have.

    Raises:
        ValueError: one line that says what is wrong with the address, and what is allowed.

    Example:
        >>> from compo_mech.model import ModelConfig, Site, check_site
        >>> check_site(Site("z", layer=5, head=0), ModelConfig(n_layers=2))
        Traceback (most recent call last):
        ValueError: site.layer = 5: must be 0 .. 1
    """
    if site.kind not in get_args(Kind):
        raise ValueError(f"site.kind = {site.kind!r}: must be one of {', '.join(get_args(Kind))}")
    if not 0 <= site.layer < config.n_layers:
        raise ValueError(f"site.layer = {site.layer}: must be 0 .. {config.n_layers - 1}")
    if site.kind in _missing(config):
        why = "no MLPs" if config.attn_only else "attention and MLP in parallel"
        raise ValueError(f"site.kind = {site.kind!r}: must be one that the network has, which has {why}")
    heads = heads_of_kind(site.kind, config)
    if site.kind in HEAD_KINDS and site.head is None:
        raise ValueError(f"site.head = None: {site.kind} belongs to a head, 0 .. {len(heads) - 1}")
    if site.head is not None and site.kind not in HEAD_KINDS:
        raise ValueError(f"site.head = {site.head}: {site.kind} belongs to no head")
    if site.head not in heads:
        raise ValueError(f"site.head = {site.head}: must be 0 .. {len(heads) - 1}")
