"""A trained network taken apart: what its heads do, its edges and circuit, its routes, with a control.

Everything is measured twice, on the network and on a freshly initialised one of the same
configuration. What one finds in both is no finding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.circuit import Circuit
from compo_mech.circuits.completeness import CircuitVerdict, judge
from compo_mech.circuits.discovery import Discovery, discover
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.faithfulness import Behaviour, Curve, RandomCurves, curve, random_curves
from compo_mech.circuits.prompts import PAIRS, circuit_pairs, circuit_switch
from compo_mech.circuits.scorers import EdgeScores, eap_ig
from compo_mech.circuits.selection import score_order
from compo_mech.circuits.stability import stability
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.data.tasks import Task
from compo_mech.evaluation.attention import TEXTBOOK_SCORE
from compo_mech.evaluation.sets import eval_sets
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import Ablations, Cost
from compo_mech.interventions.head_roles import Heads, name_heads
from compo_mech.interventions.metrics import cross_entropy
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.patching import sweep
from compo_mech.interventions.traces import both_traces
from compo_mech.model.params import Model, init_params
from compo_mech.model.sites import Kind
from compo_mech.routes.route_map import route_map
from compo_mech.routes.summary import RouteMap, RouteName
from compo_mech.stats.intervals import Interval

MAX_SUBSETS = 256
"""All sets of heads are ablated where there are no more of them than this."""

SHOWN_LENGTH = 8
"""Patching maps are of strings of this length, or of the nearest that there is."""


@dataclass(frozen=True)
class Patching:
    """How much cross-entropy rises when one place carries the corrupt run's value, on strings of one length.

    The strings have length `SHOWN_LENGTH`, or the data's nearest to it.

    Attributes:
        length: of the strings.
        parts: effect by stage (embeddings, then heads and MLP of each layer, then logits) and position.
        heads: effect of each head's z by position.
        spans: effect of each head's z by part of the row, on the pairs that edges are scored with.
    """

    length: int
    parts: Float[Tensor, "stage pos"]
    heads: Float[Tensor, "layer head pos"]
    spans: Float[Tensor, "layer head span"]


@dataclass(frozen=True)
class NetworkFindings:
    """All that the battery says of one network.

    Attributes:
        heads: roles, by causal effect alone.
        ablations: part, baseline, accuracy, cost: each head and MLP by itself.
        subsets: parts, accuracy: every set of heads; empty where there are too many.
        greedy: parts, accuracy: heads in the order in which they cost least.
        patching: maps.
        discovery: circuit or no circuit, with the exact scores.
        attribution: of EAP-IG with 20 steps on the same pairs.
        gap: cross-entropy of the clean answers, on the corrupt and on the clean input: what there is to explain.
        curve, random: faithfulness by size, in score order and in random order.
        verdict: on the discovered circuit; None without one.
        stable: Jaccard overlap of circuits of its size from resampled prompts; None without one.
        routes: where x_t travels; None for other than two layers.
        patterns: mean attention on strings of the patching maps' length, a tensor a layer.
    """

    heads: Heads
    ablations: pd.DataFrame
    subsets: pd.DataFrame
    greedy: pd.DataFrame
    patching: Patching
    discovery: Discovery
    attribution: EdgeScores
    gap: tuple[float, float]
    curve: Curve
    random: RandomCurves | None
    verdict: CircuitVerdict | None
    stable: Interval | None
    routes: RouteMap | None
    patterns: list[Float[Tensor, "head pos pos"]]


@dataclass(frozen=True)
class Dissection:
    """One network beside its control.

    Attributes:
        model: the network.
        data: what it was trained on.
        task: that it is asked about.
        step: of the checkpoint.
        counterfactual: of the edges and the circuit, as the method card names such pairs.
        max_shift: of their position ids.
        own, control: findings on the network and on the freshly initialised one.
    """

    model: Model
    data: DataConfig
    task: Task
    step: int
    counterfactual: str
    max_shift: int
    own: NetworkFindings
    control: NetworkFindings

    @property
    def circuit(self) -> Circuit | None:
        """The circuit with its scores, if the verdict is that there is one."""
        found = self.own.discovery
        return Circuit.of(self.model.config, found.kept, found.scores) if found.kept else None

    @property
    def sentences(self) -> list[str]:
        """What was found, for people."""
        own = self.own
        found = [str(own.heads)]
        if own.routes is not None:
            routes = own.routes.summary()
            if routes.shares.get(RouteName.TEXTBOOK, 0.0) < TEXTBOOK_SCORE:
                found.append(f"Its routes are not the textbook's: {routes}.")
            elif own.heads.iteration is None:
                found.append(f"Its routes are the textbook's, through several heads: {routes}.")
        found.append(f"{own.discovery.reason[0].upper()}{own.discovery.reason[1:]}.")
        found.append(f"A freshly initialised network: {self.control.discovery.reason}.")
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every result as a tidy table, by name; rows of the control say so."""
        of_both: dict[str, Callable[[NetworkFindings], pd.DataFrame]] = {
            "heads": _heads_table,
            "ablations": lambda f: f.ablations,
            "subsets": lambda f: f.subsets,
            "greedy": lambda f: f.greedy,
            "patching": lambda f: _patching_table(f.patching, self.data),
            "edges": _edges_table,
            "faithfulness": _curve_table,
            "routes": lambda f: pd.DataFrame() if f.routes is None else f.routes.frame(),
        }
        tables = {}
        for name, table in of_both.items():
            parts = [table(f).assign(network=n) for n, f in (("trained", self.own), ("control", self.control))]
            parts = [part for part in parts if len(part)]
            if parts:
                tables[name] = pd.concat(parts, ignore_index=True)
        return tables


def dissect(
    model: Model,
    data: DataConfig,
    task: Task,
    step: int,
    seed: int = 0,
    n_pairs: int = 48,
    n_strings: int = 128,
    tell: Callable[[str], None] = lambda what: None,
) -> Dissection:
    """The whole battery, on a network and on its control.

    Args:
        model: the network.
        data: what it was trained on.
        task: one of the data's.
        step: of the checkpoint.
        seed: of all that is drawn, and of the control's weights.
        n_pairs: clean and corrupt inputs for edges and circuits.
        n_strings: test strings of each length.
        tell: is told what comes next.

    Raises:
        ValueError: the task is not one that the data measures.
    """
    if task not in data.measured_tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.measured_tasks))}")
    generator = torch.Generator().manual_seed(seed)
    shape = len(data.vocabulary), model.n_ctx
    weights = init_params(model.config, *shape, generator)
    device = model.device
    fresh = Model({name: weight.to(device) for name, weight in weights.items()}, model.config)
    find = partial(_findings, data=data, task=task, seed=seed, n_pairs=n_pairs, n_strings=n_strings)
    own = find(model, tell=lambda what: tell(f"{task}: {what}"))
    control = find(fresh, tell=lambda what: tell(f"{task}, control: {what}"))
    switch, max_shift = circuit_switch(data, shape[1])
    return Dissection(model, data, task, step, PAIRS[switch], max_shift, own, control)


def _findings(
    model: Model, data: DataConfig, task: Task, seed: int, n_pairs: int, n_strings: int, tell: Callable[[str], None]
) -> NetworkFindings:
    generator = torch.Generator().manual_seed(seed)
    config, device = model.config, model.device
    sets = [test for test in eval_sets(data, n_strings, device) if test.task == task]
    tell("heads")
    ablations = Ablations(model, sets, "mean", generator)
    heads = name_heads(ablations, data, generator, task=task)
    writers = [Writer("head", layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    mlps = [Writer("mlp", layer) for layer in range(config.n_layers)]
    tell("ablations")
    rows = []
    for baseline in ("zero", "mean", "resample"):
        ablations = ablations.with_baseline(baseline, generator)
        rows += [ablations.cost(component) for component in (*writers, *mlps)]
    means = ablations.with_baseline("mean", generator)
    subsets = list(means.subsets(writers)) if 2 ** len(writers) <= MAX_SUBSETS else []
    greedy = list(means.greedy(writers))
    tell("patching")
    patching, patterns = _patching(model, data, task, n_pairs, generator)
    tell("edges and circuit")
    pairs = circuit_pairs(model, data, n_pairs, generator, task)
    patches = EdgePatches.run(model, pairs)
    discovery = discover(model, pairs, generator, patches=patches)
    attribution = eap_ig(model, pairs, discovery.scores.edges, n_steps=20)
    tell("faithfulness")
    behaviour = Behaviour(model, pairs)
    n_edges = len(behaviour.edges)
    sizes = sorted({round(n_edges * k / 40) for k in range(41)})
    found = curve(behaviour, score_order(discovery.scores), sizes)
    random = random_curves(behaviour, 10, generator, sizes)
    verdict = stable = None
    if discovery.kept:
        verdict = judge(behaviour, discovery.kept, generator, n_halves=2, n_random=2)
        n_kept = len(discovery.kept)
        stable = stability(model, pairs, lambda s: frozenset(score_order(s)[:n_kept]), generator, 50, patches=patches)
    tell("routes")
    routes = route_map(model, data, generator, task=task) if config.n_layers == 2 else None
    return NetworkFindings(
        heads=heads,
        ablations=pd.DataFrame([_cost_row(cost) for cost in rows]),
        subsets=pd.DataFrame([_cost_row(cost) for cost in subsets]),
        greedy=pd.DataFrame([_cost_row(cost) for cost in greedy]),
        patching=patching,
        discovery=discovery,
        attribution=attribution,
        gap=(behaviour.none, behaviour.all),
        curve=found,
        random=random,
        verdict=verdict,
        stable=stable,
        routes=routes,
        patterns=patterns,
    )


def _cost_row(cost: Cost) -> dict[str, object]:
    return {
        "parts": " ".join(map(str, cost.components)),
        "baseline": cost.baseline,
        "accuracy": cost.accuracy,
        "cost": cost.cost,
    }


def _patching(
    model: Model, data: DataConfig, task: Task, n_pairs: int, generator: torch.Generator
) -> tuple[Patching, list[Tensor]]:
    length = max(data.min_length, min(SHOWN_LENGTH, data.max_length))
    one = DataConfig(
        tasks=data.tasks,
        min_length=length,
        max_length=length,
        chain_of_thought=data.chain_of_thought,
        task_token=data.task_token,
    )
    pairs = make_pairs(one, Switch.TOKEN, n_pairs, generator, task=task).to(model.device)
    traces = both_traces(model, pairs)
    base = cross_entropy(traces[0].logits[pairs.row, pairs.position], traces[0].logits, pairs)

    def effect(kind: Kind) -> Float[Tensor, "layer head pos"]:
        return sweep(model, pairs, kind, cross_entropy, traces) - base

    whole, attn, mlp, last = (effect(kind)[:, 0] for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
    stages = [whole[0], *(part[layer] for layer in range(model.config.n_layers) for part in (attn, mlp)), last[-1]]
    varied = circuit_pairs(model, data, n_pairs, generator, task)
    varied_traces = both_traces(model, varied)
    varied_base = cross_entropy(varied_traces[0].logits[varied.row, varied.position], varied_traces[0].logits, varied)
    spans = sweep(model, varied, "z", cross_entropy, varied_traces, WHOLE_SPANS) - varied_base
    patterns = [pattern.mean(0) for pattern in traces[0].pattern]
    return Patching(length, torch.stack(stages), effect("z"), spans), patterns


def _heads_table(found: NetworkFindings) -> pd.DataFrame:
    rows = [
        {"head": str(r.writer), "role": r.name, "x_share": r.x, "end_share": r.end, "cost": r.cost}
        for r in found.heads.roles
    ]
    return pd.DataFrame(rows)


def stage_names(n_layers: int) -> list[str]:
    """Names of the stages of a patching map."""
    return ["embed", *(f"{part} {layer}" for layer in range(n_layers) for part in ("heads", "mlp")), "logits"]


def _patching_table(found: Patching, data: DataConfig) -> pd.DataFrame:
    labels, rows = data.layout.labels(found.length), []
    for stage, effects in zip(stage_names((len(found.parts) - 2) // 2), found.parts.tolist(), strict=True):
        rows += [
            {"part": stage, "place": place, "length": found.length, "effect": value}
            for place, value in zip(labels, effects, strict=True)
        ]
    spans = list(map(str, WHOLE_SPANS))
    for layer, heads in enumerate(found.heads.tolist()):
        for head, effects in enumerate(heads):
            name = str(Writer("head", layer, head))
            rows += [
                {"part": name, "place": place, "length": found.length, "effect": value}
                for place, value in zip(labels, effects, strict=True)
            ]
            by_span = zip(spans, found.spans[layer, head].tolist(), strict=True)
            rows += [{"part": name, "place": span, "length": None, "effect": value} for span, value in by_span]
    return pd.DataFrame(rows).astype({"length": "Int64"})


def _edges_table(found: NetworkFindings) -> pd.DataFrame:
    scores, kept = found.discovery.scores, found.discovery.kept
    attributed = dict(zip(found.attribution.edges, found.attribution.scores.tolist(), strict=True))
    rows = [
        {
            "edge": str(edge),
            "exact": score,
            "eap_ig_20": attributed[edge],
            "in_circuit": edge in kept,
            "unidentifiable": hidden,
            "no_effect": idle,
        }
        for edge, score, hidden, idle in zip(
            scores.edges, scores.scores.tolist(), scores.unidentifiable, scores.no_effect, strict=True
        )
    ]
    return pd.DataFrame(rows)


def _curve_table(found: NetworkFindings) -> pd.DataFrame:
    table = pd.DataFrame({"n_edges": found.curve.n_edges, "faithfulness": found.curve.faithfulness.tolist()})
    if found.random is not None:
        for name in ("mean", "low", "high"):
            table[f"random_{name}"] = getattr(found.random, name).tolist()
    return table
