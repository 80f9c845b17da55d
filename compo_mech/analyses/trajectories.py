"""What is followed over training: cleanliness of attention, interchange scores and route scores.

Each of these measures one network and returns long rows; `watch` asks every checkpoint of a run. How clean attention
is, as the iteration and the lookup score of each head, is defined in `evaluation.attention`. All are plain functions of
a module, so that several processes can share the work.
"""

import functools
import math
from typing import get_args

import torch

from compo_mech.causal.interchange import interchange
from compo_mech.causal.rows import Variable
from compo_mech.causal.variables import Interchanges, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation import accuracy
from compo_mech.evaluation.attention import MIN_LENGTH
from compo_mech.evaluation.head_scores import layer_measures
from compo_mech.evaluation.sets import EvalSet, drawn_sets
from compo_mech.interventions.attention_patterns import (
    PatternAblation,
    PatternAblationCounts,
    PatternTest,
    Work,
    trace_set,
)
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, kinds_of
from compo_mech.routes.route_map import route_shares
from compo_mech.routes.summary import RouteName
from compo_mech.routes.swaps import RouteStrings, route_strings
from compo_mech.runs.trajectory import Measured, Quantity
from compo_mech.stats.intervals import wilson

N_STRINGS = 64
"""Test strings of each length: accuracy within 0.02 over all lengths, in a time that hundreds of checkpoints allow."""
N_SWAPS, N_ROUTE_STRINGS = 128, 16
CARRIED = (RouteName.TEXTBOOK, RouteName.OFFSET, RouteName.STATE)


def test_sets(data: DataConfig, task: Task, n_strings: int) -> tuple[EvalSet, ...]:
    """Return test strings of drawn lengths from `MIN_LENGTH` on, or of all drawn ones where none is that long."""
    return _test_sets(data.model_dump_json(), task, n_strings, "cpu")


@functools.lru_cache(maxsize=8)
def _test_sets(spelled: str, task: Task, n_strings: int, device: str) -> tuple[EvalSet, ...]:
    data = DataConfig.model_validate_json(spelled)
    sets = drawn_sets(data, task, n_strings, device)
    return tuple([test for test in sets if test.length >= MIN_LENGTH] or sets)


@functools.lru_cache(maxsize=8)
def _pattern_tests(spelled: str, task: Task, n_strings: int, device: str) -> tuple[PatternTest, ...]:
    works = get_args(Work) if DataConfig.model_validate_json(spelled).chain_of_thought else ()
    return tuple(PatternTest(test, works) for test in _test_sets(spelled, task, n_strings, device))


@torch.no_grad()
def attention_metrics(data: DataConfig, task: Task, n_strings: int, model: Model) -> list[Measured]:
    """Measure accuracy, loss, the norm of the weights, and the attention of each head and of each layer's heads.

    With chain of thought their patterns are ablated as well: the fraction of states that are right with uniform and
    with idealised attention, the cost of the one and the gain of the other (see `ablate_patterns`). All are means over
    lengths from 4 on (`sparsity` and the like over those lengths that have it), teacher-forced.
    """
    sums: dict[Quantity, list[float]] = {}
    n_right, n, n_states_right, n_states = 0, 0, 0, 0
    counts = PatternAblationCounts(model, get_args(Work))
    for asked in _pattern_tests(data.model_dump_json(), task, n_strings, str(model.device)):
        test = asked.test
        run, scored = trace_set(model, test), list(test.layout.scored(test.length))
        logits = run.logits[:, scored]
        correct = likeliest(logits) == test.targets
        n_right, n = n_right + int(correct.all(-1).sum()), n + len(correct)
        states = correct[:, :-1]
        n_states_right, n_states = n_states_right + int(states.sum()), n_states + states.numel()
        sums.setdefault(Quantity("loss"), []).append(float(accuracy.mean_loss(logits, test.targets)))
        patterns = [pattern[:, :, scored] for pattern in run.pattern]
        for layer, head, name, value in layer_measures(patterns, test.layout, test.length, lean=True):
            sums.setdefault(Quantity(name, layer=layer, head=head), []).append(value)
        counts.add(asked, run)
    norm = math.sqrt(sum(float(param.square().sum()) for param in model.params.values()))
    rows = [
        Measured(Quantity("strings right"), *wilson(n_right, n)),
        Measured(Quantity("states right"), *wilson(n_states_right, n_states)),
        Measured(Quantity("weight norm"), norm),
        *(Measured(quantity, sum(values) / len(values)) for quantity, values in sums.items()),
    ]
    return rows + [row for ablation in counts.ablations() for row in _pattern_ablation(ablation)]


def _pattern_ablation(found: PatternAblation) -> list[Measured]:
    """Lay out what became of the states that are right: of one head, or of a layer's heads together."""
    layer, head = found.heads[0]
    place = {"layer": layer, "head": head if len(found.heads) == 1 else None}
    measure = f"{found.work} pattern ablation"
    return [
        Measured(Quantity(measure, "uniform", **place), *found.uniform),
        Measured(Quantity(measure, "idealised", **place), *found.idealised),
        Measured(Quantity(measure, "cost", **place), found.cost),
        Measured(Quantity(measure, "gain", **place), found.gain),
    ]


@torch.no_grad()
def interchange_scores(data: DataConfig, task: Task, layer: int, seed: int, model: Model) -> list[Measured]:
    """Score interchanges of the circuit's variables where it should hold them: t in the layer's queries, x_t in the
    output of its attention, s_t in the output of its MLP.

    Beside each IIA stand its placebo, a random change of the same size, and the difference: a network that guesses a
    state, and so is right now and then, gets the same from both.
    """
    generator = torch.Generator().manual_seed(seed)
    rows: list[Measured] = []
    for site, pairs in _swaps(data.model_dump_json(), task, layer, seed, str(model.device)):
        if site.kind not in kinds_of(model.config):
            continue
        score = interchange(model, pairs, site, generator)
        quantity = Quantity("IIA", "value", pairs.variable, pairs.context, site.kind, layer)
        rows += [
            Measured(quantity, *score.accuracy),
            Measured(quantity._replace(statistic="placebo"), score.placebo),
            Measured(quantity._replace(statistic="above placebo"), score.accuracy.mean - score.placebo),
        ]
    return rows


def swaps_of(data: DataConfig, task: Task, layer: int, seed: int) -> tuple[tuple[Site, Interchanges], ...]:
    """Return which pairs `interchange_scores` asks at which site, the same for every network."""
    return _swaps(data.model_dump_json(), task, layer, seed, "cpu")


@functools.lru_cache(maxsize=8)
def _swaps(spelled: str, task: Task, layer: int, seed: int, device: str) -> tuple[tuple[Site, Interchanges], ...]:
    data, generator = DataConfig.model_validate_json(spelled), torch.Generator().manual_seed(seed)
    plans: list[tuple[Variable, Site]] = [
        ("t", Site("q", layer)),
        ("x", Site("attn_out", layer)),
        ("answer", Site("mlp_out", layer)),
    ]
    return tuple(
        (site, make_interchanges(data, variable, "independent", N_SWAPS, generator, task).to(device))
        for variable, site in plans
        if uses(task, variable) and (layer > 0 or variable != "t")  # layer 0 has no pointer to read
    )


def route_lengths(data: DataConfig) -> list[int]:
    """Return the lengths at which routes are asked: the longest drawn one, and one of about half of it."""
    longest = max(data.drawn_lengths)
    return sorted({longest, data.drawn_length_near((longest + 1) // 2)})


def route_strings_of(data: DataConfig, task: Task, seed: int) -> tuple[RouteStrings, ...]:
    """Return which strings `route_scores` asks of, the same for every network."""
    return _route_strings(data.model_dump_json(), task, seed, N_ROUTE_STRINGS, "cpu")


@functools.lru_cache(maxsize=8)
def _route_strings(spelled: str, task: Task, seed: int, n_strings: int, device: str) -> tuple[RouteStrings, ...]:
    data, generator = DataConfig.model_validate_json(spelled), torch.Generator().manual_seed(seed)
    return tuple(route_strings(data, task, route_lengths(data), n_strings, generator, device))


def route_scores(data: DataConfig, task: Task, seed: int, model: Model) -> list[Measured]:
    """Measure the routes of x_t, as shares of its effect at the longest drawn length and at about half of it."""
    strings = _route_strings(data.model_dump_json(), task, seed, N_ROUTE_STRINGS, str(model.device))
    shares = route_shares(model, data.layout, strings)
    return [Measured(Quantity("route share", str(route)), shares.get(route, 0.0)) for route in CARRIED]
