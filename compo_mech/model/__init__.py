"""The transformer: its configuration, its parameters, and what runs it."""

from compo_mech.model.config import ModelConfig, parameter_shapes, is_frozen
from compo_mech.model.params import Params, Model, init_params, gradient_masks
from compo_mech.model import blocks, doors
from compo_mech.model.forward import forward
from compo_mech.model.generate import generate, read_on, read_at, Past
from compo_mech.model.hooked import to_hooked
from compo_mech.model.bridge import to_bridge, from_bridge, hook_to_edit
from compo_mech.model.sites import Site, Kind, HEAD_KINDS, check_site, kinds_of, heads_of_kind, mlp_input_site

__all__ = [
    "ModelConfig",
    "parameter_shapes",
    "is_frozen",
    "Params",
    "Model",
    "init_params",
    "gradient_masks",
    "blocks",
    "doors",
    "forward",
    "generate",
    "read_on",
    "read_at",
    "Past",
    "to_hooked",
    "to_bridge",
    "from_bridge",
    "hook_to_edit",
    "Site",
    "Kind",
    "HEAD_KINDS",
    "check_site",
    "kinds_of",
    "heads_of_kind",
    "mlp_input_site",
]
