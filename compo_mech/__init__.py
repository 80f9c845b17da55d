"""How does a transformer learn to compose, and which circuit does it build to do so?

What is needed most, each name loaded when it is first asked for, so that importing the package costs nothing:

    settings      RunConfig, DataConfig, ModelConfig, TrainConfig, OptimConfig, recipes
    tasks         Task, Parity, Copy, Polynomial, Automaton
    training      init_params, TrainingStream
    runs          Run, RunError
    evaluation    eval_sets, measure
    a network     Model, Site, Writer, Reader, Edge, all_edges
    prompts       Pairs, Switch, make_pairs
    edges         exact, eap, eap_ig
    circuits      score_order, grade, discover, stability, curve, judge
    heads         name_heads, carried_share, Ablations
    routes        route_map
    variables     make_interchanges, interchange, interchange_map, align
    weights       qk_circuit, ov_circuit
    known truth   build, Rungs
    everything    dissect
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    # settings
    "RunConfig": "config",
    "DataConfig": "data",
    "ModelConfig": "model",
    "TrainConfig": "train",
    "OptimConfig": "optim",
    "recipes": "recipes",
    # tasks
    "Task": "tasks",
    "Parity": "tasks",
    "Copy": "tasks",
    "Polynomial": "tasks",
    "Automaton": "tasks",
    # training
    "init_params": "model",
    "TrainingStream": "data",
    # runs
    "Run": "runs",
    "RunError": "runs",
    # evaluation
    "eval_sets": "evaluate",
    "measure": "evaluate",
    # a network
    "Model": "graph",
    "Site": "hooks",
    "Writer": "graph",
    "Reader": "graph",
    "Edge": "graph",
    "all_edges": "graph",
    # prompts
    "Pairs": "counterfactuals",
    "Switch": "counterfactuals",
    "make_pairs": "counterfactuals",
    # edges
    "exact": "edges",
    "eap": "edges",
    "eap_ig": "edges",
    # circuits
    "score_order": "circuits",
    "grade": "circuits",
    "discover": "discovery",
    "stability": "discovery",
    "curve": "faithfulness",
    "judge": "completeness",
    # heads
    "name_heads": "heads",
    "carried_share": "heads",
    "Ablations": "heads",
    # routes
    "route_map": "routes",
    # variables
    "make_interchanges": "variables",
    "interchange": "causal",
    "interchange_map": "causal",
    "align": "alignment",
    # weights
    "qk_circuit": "weights",
    "ov_circuit": "weights",
    # known truth
    "build": "constructed",
    "Rungs": "sketch",
    # everything
    "dissect": "dissection",
}
"""The module of each public name; a module by its own name is given whole."""

if TYPE_CHECKING:
    from compo_mech import recipes as recipes
    from compo_mech.alignment import align as align
    from compo_mech.causal import interchange as interchange
    from compo_mech.causal import interchange_map as interchange_map
    from compo_mech.circuits import grade as grade
    from compo_mech.circuits import score_order as score_order
    from compo_mech.completeness import judge as judge
    from compo_mech.config import RunConfig as RunConfig
    from compo_mech.constructed import build as build
    from compo_mech.counterfactuals import Pairs as Pairs
    from compo_mech.counterfactuals import Switch as Switch
    from compo_mech.counterfactuals import make_pairs as make_pairs
    from compo_mech.data import DataConfig as DataConfig
    from compo_mech.data import TrainingStream as TrainingStream
    from compo_mech.discovery import discover as discover
    from compo_mech.discovery import stability as stability
    from compo_mech.dissection import dissect as dissect
    from compo_mech.edges import eap as eap
    from compo_mech.edges import eap_ig as eap_ig
    from compo_mech.edges import exact as exact
    from compo_mech.evaluate import eval_sets as eval_sets
    from compo_mech.evaluate import measure as measure
    from compo_mech.faithfulness import curve as curve
    from compo_mech.graph import Edge as Edge
    from compo_mech.graph import Model as Model
    from compo_mech.graph import Reader as Reader
    from compo_mech.graph import Writer as Writer
    from compo_mech.graph import all_edges as all_edges
    from compo_mech.heads import Ablations as Ablations
    from compo_mech.heads import carried_share as carried_share
    from compo_mech.heads import name_heads as name_heads
    from compo_mech.hooks import Site as Site
    from compo_mech.model import ModelConfig as ModelConfig
    from compo_mech.model import init_params as init_params
    from compo_mech.optim import OptimConfig as OptimConfig
    from compo_mech.routes import route_map as route_map
    from compo_mech.runs import Run as Run
    from compo_mech.runs import RunError as RunError
    from compo_mech.sketch import Rungs as Rungs
    from compo_mech.tasks import Automaton as Automaton
    from compo_mech.tasks import Copy as Copy
    from compo_mech.tasks import Parity as Parity
    from compo_mech.tasks import Polynomial as Polynomial
    from compo_mech.tasks import Task as Task
    from compo_mech.train import TrainConfig as TrainConfig
    from compo_mech.variables import make_interchanges as make_interchanges
    from compo_mech.weights import ov_circuit as ov_circuit
    from compo_mech.weights import qk_circuit as qk_circuit

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOME[name]}")
    found = module if name == _HOME[name].rpartition(".")[2] else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
