"""How does a transformer learn to compose, and which circuit does it build to do so?

What is needed most, each name loaded when it is first asked for, so that importing the package costs nothing:

    settings      RunConfig, DataConfig, ModelConfig, TrainConfig, OptimConfig, recipes
    tasks         Task, Parity, Copy, Polynomial, Automaton
    training      train, init_params, TrainingStream
    runs          Run, RunError
    evaluation    eval_sets, measure
    a network     Model, Site, Writer, Reader, Edge, all_edges
    prompts       Pairs (Pairs.of: your own), Switch, make_pairs, patch (edges as text)
    edges         exact, eap, eap_ig
    circuits      score_order, grade, discover, stability, curve, judge
    heads         name_heads, carried_share, Ablations
    routes        route_map
    variables     make_interchanges, interchange, interchange_map, align
    weights       qk_circuit, ov_circuit
    known truth   build, BuildOptions
    everything    dissect
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from compo_mech import interrupts

if interrupts.is_script():
    interrupts.watch_imports()

_HOME = {
    # settings
    "RunConfig": "runs.config",
    "DataConfig": "data.config",
    "ModelConfig": "model.config",
    "TrainConfig": "training.loop",
    "OptimConfig": "training.optim",
    "recipes": "runs.recipes",
    # tasks
    "Task": "data.tasks",
    "Parity": "data.tasks",
    "Copy": "data.tasks",
    "Polynomial": "data.tasks",
    "Automaton": "data.tasks",
    # training
    "train": "launch.run",
    "init_params": "model.params",
    "TrainingStream": "data.stream",
    # runs
    "Run": "runs.run",
    "RunError": "runs.checkpoints",
    # evaluation
    "eval_sets": "evaluation.sets",
    "measure": "evaluation.measure",
    # a network
    "Model": "model.params",
    "Site": "model.sites",
    "Writer": "interventions.edges",
    "Reader": "interventions.edges",
    "Edge": "interventions.edges",
    "all_edges": "interventions.edges",
    # prompts
    "Pairs": "interventions.pairs",
    "Switch": "interventions.pairs",
    "make_pairs": "interventions.pairs",
    "patch": "interventions.patch_by_text",
    # edges
    "exact": "circuits.exact",
    "eap": "circuits.gradient_scorers",
    "eap_ig": "circuits.gradient_scorers",
    # circuits
    "score_order": "circuits.selection",
    "grade": "circuits.grade",
    "discover": "circuits.discovery",
    "stability": "circuits.stability",
    "curve": "circuits.faithfulness",
    "judge": "circuits.completeness",
    # heads
    "name_heads": "interventions.head_roles",
    "carried_share": "interventions.head_roles",
    "Ablations": "interventions.head_ablation",
    # routes
    "route_map": "routes.route_map",
    # variables
    "make_interchanges": "causal.variables",
    "interchange": "causal.interchange",
    "interchange_map": "causal.interchange",
    "align": "causal.das",
    # weights
    "qk_circuit": "weights.qk_ov",
    "ov_circuit": "weights.qk_ov",
    # known truth
    "build": "ground_truth.build",
    "BuildOptions": "ground_truth.options",
    # everything
    "dissect": "analyses.dissection",
}
"""The module of each public name."""

_MODULES = ("recipes",)
"""Public names that are modules themselves."""

if TYPE_CHECKING:
    from compo_mech.analyses.dissection import dissect as dissect
    from compo_mech.causal.das import align as align
    from compo_mech.causal.interchange import interchange as interchange
    from compo_mech.causal.interchange import interchange_map as interchange_map
    from compo_mech.causal.variables import make_interchanges as make_interchanges
    from compo_mech.circuits.completeness import judge as judge
    from compo_mech.circuits.discovery import discover as discover
    from compo_mech.circuits.exact import exact as exact
    from compo_mech.circuits.faithfulness import curve as curve
    from compo_mech.circuits.grade import grade as grade
    from compo_mech.circuits.gradient_scorers import eap as eap
    from compo_mech.circuits.gradient_scorers import eap_ig as eap_ig
    from compo_mech.circuits.selection import score_order as score_order
    from compo_mech.circuits.stability import stability as stability
    from compo_mech.data.config import DataConfig as DataConfig
    from compo_mech.data.stream import TrainingStream as TrainingStream
    from compo_mech.data.tasks import Automaton as Automaton
    from compo_mech.data.tasks import Copy as Copy
    from compo_mech.data.tasks import Parity as Parity
    from compo_mech.data.tasks import Polynomial as Polynomial
    from compo_mech.data.tasks import Task as Task
    from compo_mech.evaluation.measure import measure as measure
    from compo_mech.evaluation.sets import eval_sets as eval_sets
    from compo_mech.ground_truth.build import build as build
    from compo_mech.ground_truth.options import BuildOptions as BuildOptions
    from compo_mech.interventions.edges import Edge as Edge
    from compo_mech.interventions.edges import Reader as Reader
    from compo_mech.interventions.edges import Writer as Writer
    from compo_mech.interventions.edges import all_edges as all_edges
    from compo_mech.interventions.head_ablation import Ablations as Ablations
    from compo_mech.interventions.head_roles import carried_share as carried_share
    from compo_mech.interventions.head_roles import name_heads as name_heads
    from compo_mech.interventions.pairs import Pairs as Pairs
    from compo_mech.interventions.pairs import Switch as Switch
    from compo_mech.interventions.pairs import make_pairs as make_pairs
    from compo_mech.interventions.patch_by_text import patch as patch
    from compo_mech.launch.run import train as train
    from compo_mech.model.config import ModelConfig as ModelConfig
    from compo_mech.model.params import Model as Model
    from compo_mech.model.params import init_params as init_params
    from compo_mech.model.sites import Site as Site
    from compo_mech.routes.route_map import route_map as route_map
    from compo_mech.runs import recipes as recipes
    from compo_mech.runs.checkpoints import RunError as RunError
    from compo_mech.runs.config import RunConfig as RunConfig
    from compo_mech.runs.run import Run as Run
    from compo_mech.training.loop import TrainConfig as TrainConfig
    from compo_mech.training.optim import OptimConfig as OptimConfig
    from compo_mech.weights.qk_ov import ov_circuit as ov_circuit
    from compo_mech.weights.qk_ov import qk_circuit as qk_circuit

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package whose names are loaded when they are first asked for.

    Args:
        package: its name.
        homes: the module of each name, under the package; a name that is that module itself is among `_MODULES`.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{homes[name]}")
        found = module if name in _MODULES else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return load


__getattr__ = lazily(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
