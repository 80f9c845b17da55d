"""A run as a page to play with: the networks themselves, run in the browser on whatever string is typed.

The page is one file that asks nothing of the network: circuitsvis' script, what was measured and the weights are in it,
compressed.
"""

import html
import json
from string import Template

from compo_mech.analyses.exploration import N_ROUTE_STRINGS, Exploration, typed_lengths
from compo_mech.data.config import DataConfig
from compo_mech.data.encode import Encoder
from compo_mech.data.tasks import Task
from compo_mech.model.in_page import described, network_script, packed
from compo_mech.plots import circuitsvis
from compo_mech.report.html_parts import asset, compressed
from compo_mech.report.run_page import facts
from compo_mech.routes.summary import SHARE_FLOOR, Cell, RouteMap
from compo_mech.runs.config import RunConfig

MAX_BYTES = 4_000_000
"""Of a page, where no number of checkpoints is asked for."""
MIN_CHECKPOINTS, MAX_CHECKPOINTS = 4, 12
"""On a page, where no number is asked for; fewer show no course of training, whatever they weigh."""
BYTES_A_PARAM = 2 * 4 / 3 * 0.95
"""Half precision in base64, which compression makes a little smaller."""
BYTES_OF_THE_REST = 600_000
"""circuitsvis' script, compressed, what was measured, and our own script."""
MAX_PARAMS = 2**22
"""Of one network: more are too slow in a page."""
MAX_RULE = 2**16
"""Entries of a rule that the page holds."""

N_SHOWN_ROUTES = 10
"""Of a cell, the strongest."""

SCRIPTS = ("dom.js", "world.js", "answers.js", "attention.js", "routes.js", "ablation.js", "main.js")
"""In the order in which they need each other, after the network's own."""


def check_explorable(config: RunConfig) -> None:
    """Refuse a run that is too large for a page.

    Raises:
        ValueError: its network or the rule of one of its tasks is.
    """
    if config.n_params > MAX_PARAMS:
        raise ValueError(f"model = {config.n_params} parameters: must be at most {MAX_PARAMS} to be run in a page")
    for task in config.data.measured_tasks:
        if (n := task.table.numel()) > MAX_RULE:
            raise ValueError(f"task = {task}: its rule has {n} entries, must have at most {MAX_RULE} to be in a page")


def fitting_checkpoints(config: RunConfig) -> int:
    """Return how many checkpoints a page of `MAX_BYTES` holds beside the control, within bounds."""
    n_networks = int((MAX_BYTES - BYTES_OF_THE_REST) / (config.n_params * BYTES_A_PARAM))
    return max(MIN_CHECKPOINTS, min(MAX_CHECKPOINTS, n_networks - 1))


def explorer_page(found: Exploration, command: str) -> str:
    """Return the whole page.

    Args:
        found: the networks, and what was measured of them.
        command: that makes the page again.
    """
    script = "\n".join([network_script(), *map(asset, SCRIPTS)])
    return Template(asset("page.html")).substitute(
        title=html.escape(f"Explore {found.name}"),
        name=html.escape(found.name),
        facts=html.escape(facts(found.config)),
        command=html.escape(command),
        rounding=f"{found.rounding:.1g}",
        style=asset("style.css"),
        script=script,
        circuitsvis=compressed(circuitsvis.bundle().encode()),
        data=compressed(json.dumps(page_data(found), separators=(",", ":")).encode()),
        weights=compressed(packed(found.networks.values())),
    )


def page_data(found: Exploration) -> dict[str, object]:
    """Return what the page knows besides weights, as JSON has it: tasks, positions, and what was measured."""
    config, data = found.config, found.config.data
    words, params = data.vocabulary, next(iter(found.networks.values()))
    lengths = typed_lengths(config)
    return {
        "networks": [str(name) for name in found.networks],
        "nSteps": config.train.n_steps,
        "description": described(config.model, params),
        "symbols": words.symbols,
        "endOfInput": words.end_of_input_id,
        "endOfStates": words.end_of_states_id,
        "trained": data.drawn_lengths,
        "layouts": {length: _layout(data, length) for length in lengths},
        "tasks": [_task(found, task) for task in data.measured_tasks],
        "nRouteStrings": N_ROUTE_STRINGS,
    }


def _layout(data: DataConfig, length: int) -> dict[str, object]:
    """Where everything is in strings of this length."""
    layout = data.layout
    scored = layout.scored(length)
    return {
        "labels": layout.labels(length),
        "inputs": list(layout.inputs(length)),
        "end": layout.end_of_input(length),
        "states": list(layout.states(length)),
        "scored": list(scored),
        "predicted": [layout.predicted(position, length) for position in scored],
    }


def _task(found: Exploration, task: Task) -> dict[str, object]:
    """A task's rule, the strings that means are over, and what was measured on it."""
    data, name = found.config.data, str(task)
    first = Encoder(data).first_ids[data.tasks.index(task)]
    of_task = found.accuracy[found.accuracy["task"] == name]
    accuracy: dict[str, dict[str, float]] = {}
    columns = (of_task[column].tolist() for column in ("network", "length", "ablation", "layer", "head", "value"))
    for network, length, ablation, layer, head, value in zip(*columns, strict=True):
        of_head = "" if ablation == "none" else f" {layer}.{head}"
        accuracy.setdefault(f"{network} {length}", {})[f"{ablation}{of_head}"] = round(value, 4)
    return {
        "name": name,
        "first": int(first),
        "firstInput": task.first_input,
        "nInputs": task.n_inputs,
        "rule": task.table.tolist(),
        "references": {length: strings for (of, length), strings in found.references.items() if of == name},
        "accuracy": accuracy,
        "nTest": {length: n for (of, length), n in found.n_test.items() if of == name},
        "guess": {length: round(value, 4) for (of, length), value in found.guess.items() if of == name},
        "routes": {str(network): _cells(routes) for (of, network), routes in found.routes.items() if of == name},
    }


def _cells(routes: RouteMap) -> dict[str, dict[str, object]]:
    """Cells by length, t and variable, each with its strongest routes."""
    return {f"{cell.length} {cell.t} {cell.variable}": _cell(cell) for cell in routes.cells}


def _cell(cell: Cell) -> dict[str, object]:
    shares = cell.share.tolist()
    order = sorted(range(len(shares)), key=lambda i: -abs(shares[i]))[:N_SHOWN_ROUTES]
    strongest = [(cell.routes[i], round(shares[i], 3)) for i in order if abs(shares[i]) >= SHARE_FLOOR]
    return {
        "name": str(cell.name),
        "n": cell.n_strings,
        "effect": round(cell.effect, 3),
        "follows": round(cell.follows, 3),
        "routes": [[route.first, route.carrier, route.second, route.head, share] for route, share in strongest],
    }
