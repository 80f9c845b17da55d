"""A network as a TransformerBridge of TransformerLens 3.9 or 4.x, and back; and where edits of one reach.

Weights are read and written under HookedTransformer's names and shapes, in which every bridge shows its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compo_mech.model import blocks
from compo_mech.model.bridge_config import bridge_config, check_options
from compo_mech.model.bridge_modules import empty_bridge
from compo_mech.model.config import ModelConfig, fits, parameter_shapes
from compo_mech.model.kinds import is_bridge, is_hooked
from compo_mech.model.params import Model, Params, check_dense, check_dtype
from compo_mech.model.same_logits import check_logits
from compo_mech.model.sites import Site

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformer_lens.model_bridge import TransformerBridge


def to_bridge(model: Model) -> "TransformerBridge":
    """Build a TransformerBridge with these parameters, on their device and in their dtype.

    It is one around a module of transformers (GPT-2 or Llama) where one has this architecture, which has every hook
    point, and otherwise TransformerLens' own. Biases that are off are 0.

    Raises:
        ValueError: no bridge has this architecture.
    """
    bridge = empty_bridge(model)
    params = model.params | {"unembed.W_U": blocks.unembedding(model)}
    with torch.no_grad():
        for name, own in _parameters(bridge).items():
            own.copy_(params[name]) if name in params else own.zero_()
    written = _parameters(bridge)
    for name, param in params.items():
        # after the product, and not to its linear factor
        added_later = model.config.gated_mlp and name.endswith("mlp.b_in")
        if param.any() and (added_later or not torch.equal(written[name], param)):
            kind = bridge.cfg.architecture
            raise ValueError(
                f"params.{name} = not 0: must be 0 in a bridge of this architecture, {kind}, which has none"
            )
    check_logits(bridge, model)
    return bridge


def from_bridge(bridge: "TransformerBridge", config: ModelConfig | None = None) -> Model:
    """Copy a TransformerBridge: any whose forward pass is ours, as `check_logits` compares them.

    Args:
        bridge: TransformerLens' own, or around a module of transformers, with its weights processed or not.
        config: that of the network that it was made from; None: what the bridge tells.

    Raises:
        ValueError: it has an option, a hook, a dtype or a forward pass that our own cannot follow.
    """
    check_options(bridge)
    _check_plain(bridge)
    found = {name: param.detach() for name, param in _parameters(bridge).items()}
    if config is None:
        config = bridge_config(bridge, found)
    params: Params = {}
    for name, shape in parameter_shapes(config, len(found["embed.W_E"]), bridge.cfg.n_ctx).items():
        own = found.get(name, found.get(name.replace("ln2", "ln1")))  # parallel blocks may share one norm
        if own is None or not fits(name, tuple(own.shape), shape):
            raise ValueError(
                f"model parameters = without {name} of shape {shape}: must be those of a plain transformer"
            )
        params[name] = own.clone(memory_format=torch.contiguous_format)
    model = Model(params, config, bridge.tokenizer)
    with _evaluating(bridge):
        check_logits(bridge, model)
    return model


def hook_to_edit(network: "HookedTransformer | TransformerBridge", site: Site) -> str:
    """Return the name of the hook point where an edit of a site reaches all that reads it.

    Raises:
        ValueError: there is no such hook point, or what is edited there does not reach the logits as it should.
    """
    if not is_hooked(network) and not is_bridge(network):
        kind = type(network).__name__
        raise ValueError(f"network = a {kind}: must be a HookedTransformer or a TransformerBridge")
    if is_bridge(network) and site.kind == "resid_mid":
        raise ValueError(
            f"site = {site}: must not be edited in a TransformerBridge, whose hook_resid_mid is an alias of "
            "ln2.hook_in, which the MLP reads and the stream does not; edit resid_pre or attn_out"
        )
    name = site.hook_name
    if name not in network.hook_dict:
        raise ValueError(f"site = {site}: must be one of the network's, which has no {name}")
    if site.kind == "result" and not network.cfg.use_attn_result:
        raise ValueError(f"site = {site}: must be computed first, by network.set_use_attn_result(True)")
    if is_bridge(network) and not _reaches_logits(network, name):
        raise ValueError(
            f"site = {site}: must reach the logits when it is edited, which {name} of this bridge does not"
        )
    return name


@torch.no_grad()
def _reaches_logits(bridge: "TransformerBridge", name: str) -> bool:
    """Whether the logits change at all when nothing at a hook point is a number any more."""
    tokens = torch.zeros((1, min(2, bridge.cfg.n_ctx)), dtype=torch.long, device=bridge.W_E.device)
    with _evaluating(bridge):
        spoilt = bridge.run_with_hooks(tokens, fwd_hooks=[(name, lambda value, hook: value * torch.nan)])
        return not torch.equal(torch.as_tensor(spoilt), torch.as_tensor(bridge(tokens)))


def _parameters(bridge: "TransformerBridge") -> Params:
    """Views of all parameters by TransformerLens' names, keys and values by their own heads."""
    found: Params = dict(bridge.tl_parameters())
    for layer, block in enumerate(bridge.blocks):
        attention, prefix = block.attn, f"blocks.{layer}.attn"
        for which in "KV":  # `tl_parameters` repeats those that heads share
            weight, bias = getattr(attention, f"W_{which}"), getattr(attention, f"b_{which}", None)
            found[f"{prefix}.W_{which}"] = weight
            own = bias if isinstance(bias, Tensor) else found[f"{prefix}.b_{which}"][: len(weight)]
            found[f"{prefix}.b_{which}"] = own
        for norm in ("q_norm", "k_norm"):
            gain = getattr(getattr(attention, norm, None), "weight", None)
            if isinstance(gain, Tensor):
                found[f"{prefix}.{norm}.w"] = gain
    return found


def _check_plain(bridge: "TransformerBridge") -> None:
    """
    Raises:
        ValueError: it has hooks, which no analysis would run, or parameters of a dtype that is not served.
    """
    check_dtype("model", bridge.parameters())
    check_dense("model", dict(bridge.named_parameters()))
    hooked = sorted(name for name, point in bridge.hook_dict.items() if point.fwd_hooks or point.bwd_hooks)
    points = set(map(id, bridge.hook_dict.values()))
    of_torch = [
        name
        for name, module in _modules(bridge)
        if id(module) not in points
        and not all(map(_is_of_lens, (*module._forward_hooks.values(), *module._forward_pre_hooks.values())))
    ]
    if of_torch and not hooked:
        raise ValueError(f"model hooks = {' '.join(of_torch)}: must be none, since no analysis would run them")
    if hooked:
        raise ValueError(
            f"model hooks = {' '.join(hooked)}: must be none, since no analysis would run them; "
            "model.reset_hooks(including_permanent=True) removes them"
        )


def _is_of_lens(hook: object) -> bool:
    """Whether a hook is one by which a bridge sees what its module does."""
    return str(getattr(getattr(hook, "func", hook), "__module__", "")).startswith("transformer_lens.")


def _modules(bridge: "TransformerBridge") -> list[tuple[str, torch.nn.Module]]:
    """All modules, each once: those of the module inside that no part of the bridge stands for are its own alone."""
    found: dict[int, tuple[str, torch.nn.Module]] = {}
    inside: object = bridge.__dict__.get("original_model")
    for root in (bridge, *([inside] if isinstance(inside, torch.nn.Module) else [])):
        for name, module in root.named_modules():
            found.setdefault(id(module), (name, module))
    return list(found.values())


@contextmanager
def _evaluating(bridge: "TransformerBridge") -> Iterator[None]:
    """Run a bridge without dropout, and leave each module as it was."""
    was_training = [module for _, module in _modules(bridge) if module.training]
    for module in was_training:
        module.training = False
    try:
        yield
    finally:
        for module in was_training:
            module.training = True
