"""Networks of every kind that can be followed, as a `Model`."""

from typing import Any, Protocol, TypeGuard

from jaxtyping import Float
from torch import Tensor

from compo_mech.data.tokenizer import SymbolTokenizer
from compo_mech.model.bridge import from_bridge
from compo_mech.model.config import ModelConfig, fits, parameter_shapes
from compo_mech.model.hooked import from_hooked
from compo_mech.model.kinds import is_bridge, is_hooked
from compo_mech.model.params import Model, Params, check_dense, check_dtype, door

KINDS = "a HookedTransformer, a TransformerBridge, a Run, (params, config) or a Model"


class _Trained(Protocol):
    """What keeps a network's parameters and settings, those of the network among others: a `Run`."""

    config: Any

    def params(self) -> Params:
        """Read the last ones."""
        ...


@door
def model_of(source: object) -> Model:
    """Return any network that can be followed as a `Model`: see `Model.of`.

    Raises:
        ValueError: it is of no known kind, or does what our forward pass cannot follow.
    """
    if isinstance(source, Model):
        return source
    if is_hooked(source):
        return from_hooked(source)
    if is_bridge(source):
        return from_bridge(source)
    if _is_trained(source):
        return Model(source.params(), source.config.model, SymbolTokenizer(source.config.data.vocabulary))
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], ModelConfig):
        return _of_parameters(*source)
    raise ValueError(f"model = a {type(source).__name__}: must be {KINDS}{_hint(source)}")


def _is_trained(source: Any) -> TypeGuard[_Trained]:
    config = getattr(source, "config", None)
    return callable(getattr(source, "params", None)) and isinstance(getattr(config, "model", None), ModelConfig)


def _hint(source: object) -> str:
    """What to do with things that are nearly one of them."""
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return "; Run.open reads the folder of a run"
    if type(source).__module__.startswith("transformers."):
        return "; TransformerLens' build_bridge_from_module makes a TransformerBridge of a module"
    return ""


def _of_parameters(given: object, config: ModelConfig) -> Model:
    """
    Raises:
        ValueError: the parameters are not those of the configuration.
    """
    if not isinstance(given, dict) or not all(isinstance(param, Tensor) for param in given.values()):
        raise ValueError(
            f"params = a {type(given).__name__}: must be a dictionary of tensors by HookedTransformer's names"
        )
    params: dict[str, Float[Tensor, "..."]] = given
    if "embed.W_E" not in params:
        raise ValueError("params = without embed.W_E: must have every parameter of the configuration")
    check_dense("params", params)
    positions = params.get("pos_embed.W_pos")
    for name in ("embed.W_E", "pos_embed.W_pos"):  # which say how many tokens and positions there are
        if name in params and not params[name].ndim:
            raise ValueError(f"params.{name} = of shape (): must have a row for each token or position")
    n_ctx = (config.n_ctx or 1) if positions is None else len(positions)
    shapes = parameter_shapes(config, len(params["embed.W_E"]), n_ctx)
    for name, shape in shapes.items():
        if name not in params:
            raise ValueError(f"params = without {name}: must have every parameter of the configuration")
        found = tuple(params[name].shape)
        if not fits(name, found, shape):
            raise ValueError(f"params.{name} = of shape {found}: must be {shape}, as the configuration has it")
    if more := [name for name in params if name not in shapes]:
        raise ValueError(f"params = with {more[0]}: must be the parameters of the configuration, which has none")
    check_dtype("params", params.values())
    return Model(params, config)
