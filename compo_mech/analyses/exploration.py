"""What people need to explore a run by hand: some of its networks, and what was measured of each.

The networks are those of evenly spaced checkpoints and the randomly initialised control, all rounded to half precision.
Every number here is of the rounded networks; how far rounding moves their predictions is measured too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import EvalSet, drawn_sets
from compo_mech.evaluation.table import CONTROL
from compo_mech.interventions.ablation import Baseline
from compo_mech.interventions.attention_patterns import ablate_patterns
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import Ablations, best_guess
from compo_mech.model.forward import forward
from compo_mech.model.in_page import halved
from compo_mech.model.params import Model, Params
from compo_mech.routes.route_map import route_map
from compo_mech.routes.summary import RouteMap
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

N_TEST, N_REFERENCE, N_ROUTE_STRINGS = 64, 64, 16
"""Test strings of each length, strings that a mean is taken over, strings that routes are patched on."""

MIN_REFERENCE, MAX_PRODUCTS = 16, 2 * 10**8
"""Where a page takes that mean, of as many strings as so many products allow: a large network on long strings is slow
there."""

MAX_ROUTE_LENGTH = 12
"""Routes of longer strings are not mapped: there are too many of them."""

BASELINES: tuple[Baseline, ...] = ("zero", "mean")


Advance = Callable[[str, int], None]
"""Is told what has been done, and of how many parts that is one."""


@dataclass(frozen=True)
class Exploration:
    """A run's networks and what was measured of them.

    Attributes:
        name, config: of the run.
        networks: rounded parameters by step, the control's last.
        accuracy: columns network (a step, or control), task, length, ablation (none, zero, mean, uniform), layer, head,
            value: the fraction of states that are right.
        n_test: by task and length, how many test strings there are.
        guess: by task and length, the accuracy of the best guess that does not know x_t.
        references: by task and length, strings that the mean of an ablated head is taken over.
        routes: by task and network; nothing where the network has not two layers.
        rounding: the largest change of a right answer's probability by rounding, on test strings of any network.
    """

    name: str
    config: RunConfig
    networks: dict[int | str, Params]
    accuracy: "pd.DataFrame"
    n_test: dict[tuple[str, int], int]
    guess: dict[tuple[str, int], float]
    references: dict[tuple[str, int], list[list[int]]]
    routes: dict[tuple[str, int | str], RouteMap]
    rounding: float


def explore(run: Run, n_checkpoints: int, seed: int, advance: Advance) -> Exploration:
    """Measure evenly spaced checkpoints of a run, the first and the last among them, and its control.

    Raises:
        RunError: no checkpoint can be read.
        ValueError: a weight or a logit is not finite, or too large for half precision.
    """
    found = run.readable(n_checkpoints)
    if not found:
        run.params()  # says what is wrong
    return explored(run.name, run.config, {**found, CONTROL: run.control()}, seed, advance)


def explored(
    name: str, config: RunConfig, exact: Mapping[int | str, Params], seed: int, advance: Advance
) -> Exploration:
    """Measure networks of one configuration, by step, the control's last.

    Raises:
        ValueError: a weight or a logit is not finite, or too large for half precision.
    """
    import pandas as pd

    data = config.data
    networks = {network: halved(params) for network, params in exact.items()}
    sets = {str(task): drawn_sets(data, task, N_TEST) for task in data.measured_tasks}
    generator = torch.Generator().manual_seed(seed)
    rows, routes, rounding = [], {}, 0.0
    for network, params in networks.items():
        model, before = Model(params, config.model), Model(exact[network], config.model)
        for task in data.measured_tasks:
            rounding = max(rounding, *(_rounding(before, model, test) for test in sets[str(task)]))
            rows += [(network, *row) for row in _accuracies(model, sets[str(task)], generator)]
            if config.model.n_layers == 2:
                routes[str(task), network] = _routes(model, data, task, generator)
            advance(f"{task}, {CONTROL if network == CONTROL else f'step {network}'}", len(networks) * len(sets))
    columns = ["network", "task", "length", "ablation", "layer", "head", "value"]
    return Exploration(
        name=name,
        config=config,
        networks=networks,
        accuracy=pd.DataFrame(rows, columns=columns).astype({"layer": "Int64", "head": "Int64"}),
        n_test={(of, test.length): len(test.tokens) for of, some in sets.items() for test in some},
        guess={(of, test.length): best_guess(test.task, [test]) for of, some in sets.items() for test in some},
        references={(str(task), length): _references(config, task, length, generator) for task in data.measured_tasks
                    for length in typed_lengths(config)},
        routes=routes,
        rounding=rounding,
    )  # fmt: skip


def typed_lengths(config: RunConfig) -> range:
    """Return the lengths of strings that the networks have positions for, up to twice the longest in training.

    Example:
        >>> from compo_mech.analyses.exploration import typed_lengths
        >>> from compo_mech.runs.recipes import parity
        >>> typed_lengths(parity())
        range(1, 14)
    """
    layout, longest = config.data.layout, 2 * config.data.max_length
    return range(1, 1 + max(n for n in range(1, longest + 1) if layout.n_read(n) <= config.n_ctx))


def _references(config: RunConfig, task: Task, length: int, generator: torch.Generator) -> list[list[int]]:
    n = MAX_PRODUCTS // (config.n_params * config.data.layout.n_read(length))
    n = max(MIN_REFERENCE, min(N_REFERENCE, n))
    return torch.randint(task.first_input, task.n_inputs, (n, length), generator=generator).tolist()


@torch.no_grad()
def _rounding(before: Model, model: Model, test: EvalSet) -> float:
    """The largest change of a right answer's probability."""
    right = [
        forward(one, test.read, test.packing).softmax(-1).gather(-1, test.targets.reshape(-1, 1))
        for one in (before, model)
    ]
    return float((right[0] - right[1]).abs().max())


def _accuracies(
    model: Model, sets: Sequence[EvalSet], generator: torch.Generator
) -> Iterator[tuple[str, int, str, int | None, int | None, float]]:
    """Task, length, ablation, layer, head, and accuracy: of the whole network, then without each head."""
    heads = [(layer, head) for layer in range(model.config.n_layers) for head in range(model.config.n_heads)]
    for test in sets:
        where, ablations = (str(test.task), test.length), None
        for baseline in BASELINES:
            ablations = (
                Ablations(model, [test], baseline, generator, N_REFERENCE)
                if ablations is None
                else ablations.with_baseline(baseline, generator)
            )
            if baseline == BASELINES[0]:
                yield (*where, "none", None, None, ablations.whole)
            for layer, head in heads:
                yield (*where, baseline, layer, head, ablations.accuracy([Writer("head", layer, head)]))
        if test.layout.chain_of_thought:
            for found in ablate_patterns(model, [test], ["iteration"]):
                if len(found.heads) == 1:
                    yield (*where, "uniform", *found.heads[0], found.uniform.mean)


def _routes(model: Model, data: DataConfig, task: Task, generator: torch.Generator) -> RouteMap:
    lengths = [length for length in data.drawn_lengths if length <= MAX_ROUTE_LENGTH] or [min(data.drawn_lengths)]
    return route_map(model, data, generator, N_ROUTE_STRINGS, lengths, task)
