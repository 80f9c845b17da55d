"""What is found in one network: what its heads do, its edges and circuit, its routes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.analyses.beyond_training import accuracy_table
from compo_mech.analyses.circuit_checks import CircuitChecks, check_circuit
from compo_mech.circuits.completeness import CircuitVerdict, judge
from compo_mech.circuits.discovery import Discovery, discover
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.edge_sets import EdgeSets
from compo_mech.circuits.faithfulness import Behaviour, Curve, RandomCurves, curve, random_curves
from compo_mech.circuits.gradient_scorers import eap_ig
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import score_order
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import Ablations, Cost
from compo_mech.interventions.head_roles import Heads, name_heads
from compo_mech.interventions.metrics import cross_entropy
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.interventions.patching import sweep
from compo_mech.interventions.traces import Trace, both_traces
from compo_mech.model.params import Model
from compo_mech.model.sites import Kind
from compo_mech.routes.route_map import route_map
from compo_mech.routes.summary import RouteMap

if TYPE_CHECKING:
    import pandas as pd

MAX_SUBSETS = 256
"""All sets of heads are ablated where there are no more of them than this."""

SHOWN_LENGTH = 8
"""Patching maps are of strings of this length, or of the nearest that there is."""


@dataclass(frozen=True)
class Patching:
    """How much cross-entropy rises when one position carries the corrupt run's value, on strings of one length.

    The strings have length `SHOWN_LENGTH`, or the nearest to it that is drawn.

    Attributes:
        length: of the strings.
        stages: effect by stage (embeddings, then heads and MLP of each layer, then logits) and position.
        heads: effect of each head's z by position.
        spans: effect of each head's z by span of the row (see `WHOLE_SPANS`), on the pairs that edges are scored with.
    """

    length: int
    stages: Float[Tensor, "stage pos"]
    heads: Float[Tensor, "layer head pos"]
    spans: Float[Tensor, "layer head span"]


def stages(n_layers: int) -> list[tuple[str, int | None]]:
    """The stages of a patching map: component and layer."""
    return [("embed", None), *((c, layer) for layer in range(n_layers) for c in ("heads", "mlp")), ("logits", None)]


def stage_name(component: str, layer: int | None) -> str:
    """Return what a stage is called in a figure: the site that is patched, such as `mlp_out0` or `embed`."""
    return component if layer is None else f"{STAGE_SITES.get(component, component)}{layer}"


STAGE_SITES = {"heads": "attn_out", "mlp": "mlp_out"}
"""The kind of site where a stage of a layer is patched."""


@dataclass(frozen=True)
class NetworkFindings:
    """All that the battery says of one network.

    Attributes:
        heads: roles, by causal effect alone.
        ablations: of each head and MLP by itself, by zero, mean and resampling.
        subsets: of every set of heads, by the mean; empty where there are too many.
        greedy: of one head more each time, in the order in which they cost least, by the mean.
        patching: maps.
        discovery: what circuit there is, with the exact scores.
        attribution: of EAP-IG with 20 steps on the same pairs.
        gap: cross-entropy of the clean answers, on the corrupt and on the clean input: what there is to explain.
        curve, random: faithfulness by size, in score order and in random order.
        verdict: on the discovered circuit; None without one.
        checks: whether that circuit is the only one, and the same over other prompts; None without one.
        routes: where x_t travels; None for other than two layers.
        patterns: mean attention on strings of the patching maps' length, a tensor a layer.
        accuracy: of `accuracy_table`.
    """

    heads: Heads
    ablations: list[Cost]
    subsets: list[Cost]
    greedy: list[Cost]
    patching: Patching
    discovery: Discovery
    attribution: EdgeScores
    gap: tuple[float, float]
    curve: Curve
    random: RandomCurves | None
    verdict: CircuitVerdict | None
    checks: CircuitChecks | None
    routes: RouteMap | None
    patterns: list[Float[Tensor, "head pos pos"]]
    accuracy: "pd.DataFrame"


STAGES = {
    "heads": 2,
    "ablations": 5,
    "patching": 1,
    "edges and circuit": 3,
    "faithfulness": 4,
    "other circuits": 4,
    "routes": 4,
}
"""What is asked of a network in turn, and how long each takes beside the others."""


def network_findings(
    model: Model,
    data: DataConfig,
    task: Task,
    shifts: Shifts,
    seed: int,
    n_pairs: int,
    n_strings: int,
    tell: Callable[[str], None],
) -> NetworkFindings:
    """The whole battery on one network. Arguments as `dissect`."""
    generator = torch.Generator().manual_seed(seed)
    config, device = model.config, model.device
    sets = drawn_sets(data, task, n_strings, device)
    tell("heads")
    means = Ablations(model, sets, "mean", generator)
    heads = name_heads(means, data, generator, task=task)
    tell("ablations")
    single, subsets, greedy = _ablated(means, generator)
    tell("patching")
    same_length = _same_length_pairs(model, data, task, n_pairs, generator)
    circuit_pairs(model, data, n_pairs, generator, task, shifts)  # edges are scored with a seed's second draw
    pairs = circuit_pairs(model, data, n_pairs, generator, task, shifts)
    patching, patterns = _patching(model, same_length, pairs)
    tell("edges and circuit")
    sets = EdgeSets(model, pairs)
    discovery = discover(model, pairs, generator, patches=EdgePatches.run(model, pairs), sets=sets)
    attribution = eap_ig(model, pairs, discovery.scores.edges, n_steps=20)
    tell("faithfulness")
    behaviour = Behaviour(model, pairs)
    n_edges = len(behaviour.edges)
    sizes = sorted({round(n_edges * k / 40) for k in range(41)})
    found = curve(behaviour, score_order(discovery.scores), sizes)
    random = random_curves(behaviour, 10, generator, sizes)
    verdict = judge(behaviour, discovery.kept, generator, n_halves=2, n_random=2) if discovery.kept else None
    tell("other circuits")
    checks = check_circuit(sets, discovery, seed)
    tell("routes")
    routes = route_map(model, data, generator, task=task) if config.n_layers == 2 else None
    return NetworkFindings(
        heads=heads,
        ablations=single,
        subsets=subsets,
        greedy=greedy,
        patching=patching,
        discovery=discovery,
        attribution=attribution,
        gap=(behaviour.none, behaviour.all),
        curve=found,
        random=random,
        verdict=verdict,
        checks=checks,
        routes=routes,
        patterns=patterns,
        accuracy=accuracy_table(model, data, task, shifts, n_strings),
    )


def _ablated(means: Ablations, generator: torch.Generator) -> tuple[list[Cost], list[Cost], list[Cost]]:
    """Each head and MLP by itself, every set of heads, and heads in the order in which they cost least; by one draw of
    the mean, that of `means`, so that what a head costs is the same wherever it is said."""
    config = means.model.config
    heads = [Writer("head", layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    mlps = [] if config.attn_only else [Writer("mlp", layer) for layer in range(config.n_layers)]
    zero = means.with_baseline("zero", generator)
    list(means.other_strings(generator))  # of a mean of their own, once: what follows is drawn as it was
    resampled = means.with_baseline("resample", generator)
    list(means.other_strings(generator))
    single = [of.cost(component) for of in (zero, means, resampled) for component in (*heads, *mlps)]
    subsets = list(means.subsets(heads)) if 2 ** len(heads) <= MAX_SUBSETS else []
    return single, subsets, list(means.greedy(heads))


def _same_length_pairs(model: Model, data: DataConfig, task: Task, n_pairs: int, generator: torch.Generator) -> Pairs:
    """Pairs of other strings, all of the length that patching maps show."""
    length = data.drawn_length_near(SHOWN_LENGTH)
    one = DataConfig(
        tasks=data.tasks,
        min_length=length,
        max_length=length,
        chain_of_thought=data.chain_of_thought,
        task_token=data.task_token,
    )
    return make_pairs(one, Switch.TOKEN, n_pairs, generator, task=task).to(model.device)


def _patching(model: Model, same_length: Pairs, varied: Pairs) -> tuple[Patching, list[Float[Tensor, "head pos pos"]]]:
    """Maps by position on pairs of one length and by span on those of the edges, and mean attention on the former."""
    traces = both_traces(model, same_length)
    base = _clean_loss(same_length, traces[0])

    def effect(kind: Kind) -> Float[Tensor, "layer head pos"]:
        return sweep(model, same_length, kind, cross_entropy, traces) - base

    whole, attn, last = (effect(kind)[:, 0] for kind in ("resid_pre", "attn_out", "resid_post"))
    mlp = torch.zeros_like(attn) if model.config.attn_only else effect("mlp_out")[:, 0]
    stages = [whole[0], *(of[layer] for layer in range(model.config.n_layers) for of in (attn, mlp)), last[-1]]
    of_edges = both_traces(model, varied)
    spans = sweep(model, varied, "z", cross_entropy, of_edges, WHOLE_SPANS) - _clean_loss(varied, of_edges[0])
    patterns = [pattern.mean(0) for pattern in traces[0].pattern]
    return Patching(int(same_length.lengths[0]), torch.stack(stages), effect("z"), spans), patterns


def _clean_loss(pairs: Pairs, clean: Trace) -> Float[Tensor, ""]:
    """Cross-entropy of the unpatched network."""
    logits = clean.logits[pairs.row, pairs.position]
    return cross_entropy(logits, logits, pairs)
