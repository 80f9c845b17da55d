"""The one place where the witness touches the toolkit: settings in, plain dictionaries of floats out.

`test_witness.py` compares what `SECTIONS` give with `witness.json`. Neither changes when modules move, or when columns
and attributes are renamed: then this file alone is mended, so that the keys and the numbers stay. Where a number is
meant to change, `python tests/witness_adapter.py` writes `witness.json` anew, and the difference is there to be read.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd
import torch

from compo_mech.analyses import position_subtraction, state_update
from compo_mech.analyses.dissection import dissect
from compo_mech.analyses.sharing import compare, evidence
from compo_mech.analyses.trajectories import attention_metrics, interchange_scores, route_scores
from compo_mech.causal.das import align
from compo_mech.causal.interchange import interchange_map
from compo_mech.causal.variables import Context, make_interchanges, uses
from compo_mech.circuits.completeness import judge
from compo_mech.circuits.discovery import discover
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour, curve, random_curves
from compo_mech.circuits.grade import grade
from compo_mech.circuits.gradient_scorers import eap, eap_ig
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.circuits.selection import score_order
from compo_mech.circuits.stability import stability
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.data.shifts import Shifts
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Parity, Task
from compo_mech.evaluation.measure import measure, measure_control, measure_train
from compo_mech.evaluation.sets import eval_sets, train_sets
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import Writer, all_edges
from compo_mech.interventions.head_ablation import Ablations
from compo_mech.interventions.head_roles import carried_share, name_heads
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.patching import sweep
from compo_mech.interventions.task_pairs import task_pairs
from compo_mech.interventions.task_token import carried_across, patch_task_token
from compo_mech.interventions.traces import both_traces
from compo_mech.model.params import Model, init_params
from compo_mech.model.sites import Site
from compo_mech.routes.route_map import route_map
from compo_mech.routes.swaps import make_swaps
from compo_mech.runs.config import RunConfig
from compo_mech.runs.trajectory import Quantity
from compo_mech.stats.onset import emergence
from compo_mech.training import ensemble, loop
from compo_mech.weights.positions import effective_dimension, fourier_power, position_spectrum, toeplitz_share
from compo_mech.weights.qk_ov import ov_circuit, qk_circuit
from compo_mech.weights.subtraction import pair_queries, rule_or_table, subtraction_neurons, subtraction_score

FILE = Path(__file__).with_name("witness.json")

Figures = dict[str, float]
Settings = Mapping[str, Any]

SMALL = {"max_length": 6, "batch_size": 32}

RUNS: dict[str, Settings] = {
    "parity": {"data": SMALL, "model": {"d_model": 32}, "train": {"n_steps": 40, "max_position_shift": 2}},
    "mixture": {
        "data": SMALL
        | {
            "tasks": ["copy", "polynomial(modulus=5)", "polynomial(modulus=7)"],
            "task_weights": [1.0, 0.5, 0.3],
            "curriculum": ["stage(n_steps=10, max_length=3)"],
        },
        "model": {"d_model": 32, "n_heads": 2},
        "train": {"n_steps": 24},
        "seed": 1,
    },
    "no chain of thought": {
        "data": SMALL | {"chain_of_thought": False},
        "model": {"d_model": 32},
        "train": {"n_steps": 20},
    },
    "three layers": {
        "data": SMALL | {"task_token": False},
        "model": {"d_model": 32, "n_layers": 3, "n_heads": 2, "biases": True},
        "optim": {"weight_decay": 0.1, "max_grad_norm": 1.0},
        "train": {"n_steps": 16},
    },
    "fixed strings": {
        "data": SMALL | {"n_train_strings": 48, "order": "shortest_first"},
        "model": {"d_model": 32, "freeze": ["pos_embed"], "n_pos_dims": 16},
        "optim": {"optimizer": "adam", "n_warmup_steps": 0},
        "train": {"n_steps": 16, "embed_dropout": 0.1},
    },
    "plain": {
        "data": SMALL | {"tasks": ["automaton(transitions=((1, 0), (2, 0), (2, 1)))"]},
        "model": {"d_model": 32, "normalization": "none", "act_fn": "relu", "init": "transformer_lens"},
        "optim": {"optimizer": "sgd", "lr": 0.1},
        "train": {"n_steps": 16},
    },
}

# ------------------------------------------------------------------------------------------ plain things


class Network(NamedTuple):
    """A network, and the task that it is asked about."""

    model: Model
    data: DataConfig
    task: Task

    @property
    def shifts(self) -> Shifts:
        """As trained or built: the positions that the longest row leaves."""
        return Shifts(self.model.n_ctx - self.data.layout.n_tokens(self.data.max_length), answered=False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(value: Any) -> float:
    """What there is not is not a number."""
    return math.nan if value is None or value is pd.NA else float(value)


def named(prefix: str, values: Mapping[str, Any]) -> Figures:
    return {f"{prefix} {key}": plain(value) for key, value in values.items()}


def of_tensor(prefix: str, values: torch.Tensor) -> Figures:
    """Every entry under its indices."""
    places = itertools.product(*(range(n) for n in values.shape))
    return {
        " ".join([prefix, *map(str, place)]): float(value)
        for place, value in zip(places, values.flatten().tolist(), strict=True)
    }


OLD_CONTEXT = {"matched": "same", "independent": "free"}
"""What the figures call a context."""


def of_table(prefix: str, table: pd.DataFrame, keys: Sequence[str], values: Mapping[str, str]) -> Figures:
    """Every value under the row's keys and a name of its own; a column that is not there has none."""
    found: Figures = {}
    for row in table.to_dict("records"):
        place = " ".join([prefix, *("-" if pd.isna(row[key]) else ascii_of(row[key]) for key in keys)])
        for column, name in values.items():
            if column in row:
                assert f"{place} {name}" not in found, place
                found[f"{place} {name}"] = plain(row[column])
    return found


def same_names(*columns: str) -> dict[str, str]:
    return {column: column for column in columns}


def ascii_of(name: object) -> str:
    """Arrows and the like as plain characters."""
    return re.sub(r"\s+", " ", str(name).replace("→", ">").replace("…", ".."))


def joined(parts: Iterable[Figures]) -> Figures:
    """All figures; no key may be there twice."""
    found: Figures = {}
    for part in parts:
        assert not found.keys() & part.keys(), found.keys() & part.keys()
        found |= part
    return found


def checksum(tokens: torch.Tensor) -> float:
    """A number that any other content or order of whole numbers changes."""
    flat = tokens.flatten().long()
    place = torch.arange(len(flat))
    return float(((flat + 1) * ((place * 7919) % 997 + 1)).sum())


# ---------------------------------------------------------------------------------------------- training


def configured(settings: Settings) -> RunConfig:
    return RunConfig.model_validate(settings)


def start(config: RunConfig, seed: int) -> loop.TrainState:
    generator = seeded(seed)
    params = init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator)
    return loop.start(params, config.model, config.optim, generator)


def train_short(settings: Settings) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """The loss at each step, and the weights at the end."""
    config = configured(settings)
    state, stream = start(config, config.seed), TrainingStream(config.data, config.seed)
    steps = loop.train(state, stream, config.model, config.optim, config.train)
    losses = {step: float(loss) for step, loss in steps}
    return losses, {name: param.detach() for name, param in state.params.items()}


def train_together(settings: Settings, seeds: Sequence[int]) -> tuple[dict[int, list[float]], dict[str, torch.Tensor]]:
    """The same of several seeds at once."""
    config = configured(settings)
    states = [start(config, seed) for seed in seeds]
    every = ensemble.gather(states, config.model, config.optim)
    stream = TrainingStream(config.data, seeds)
    steps = loop.train(every, stream, config.model, config.optim, config.train)
    losses = {step: loss.tolist() for step, loss in steps}
    return losses, {name: param.detach() for name, param in every.params.items()}


def run_network(settings: Settings) -> Network:
    """The network that `train_short` ends with, and its first task."""
    config, (_, params) = configured(settings), train_short(settings)
    return Network(Model(params, config.model), config.data, config.data.measured_tasks[0])


def built_network(max_length: int, rungs: Settings) -> Network:
    """A hand-built network of parity."""
    built = build(Parity(), max_length=max_length, rungs=BuildOptions.model_validate(rungs))
    return Network(built.model, built.data, Parity())


def draw_checksums(settings: Settings) -> Figures:
    """Of what is drawn: training batches, test strings, pairs, swaps, interchanges."""
    config = configured(settings)
    data, found = config.data, {}
    stream, generator = TrainingStream(data, config.seed), seeded(config.seed)
    for step in range(1, 16):
        batch = stream.batch(step, generator)
        if step in (1, 2, 15):
            found |= {f"batch {step} tokens": checksum(batch.tokens), f"batch {step} tasks": checksum(batch.task)}
    found |= {f"noise {name}": float(value.shape[0]) for name, value in noise_of(config).items()}
    if (shift := noise_of(config).get("position_shift")) is not None:
        found["position shifts"] = checksum(shift)
    for test in eval_sets(data, 16):
        found[f"test strings {test.task} {test.length}"] = checksum(test.tokens)
    for test in train_sets(stream):
        found[f"training strings {test.task} {test.length}"] = checksum(test.tokens)
    several = len(data.lengths) > 1
    without = {Switch.STATE: not data.chain_of_thought, Switch.LENGTH: not several}
    for switch in [s for s in Switch if not without.get(s)]:
        pairs = make_pairs(data, switch, 16, seeded())
        for part in ("clean_tokens", "corrupt_tokens", "corrupt_position_ids", "target", "foil"):
            found[f"pairs {switch.name} {part.replace('position_ids', 'positions')}"] = checksum(getattr(pairs, part))
    task, n = data.tasks[0], 8
    inputs = torch.randint(task.first_input, task.n_inputs, (n, 4), generator=seeded())
    words, length = data.vocabulary, torch.full((n,), 4)
    tokens = data.layout.assemble(
        torch.full((n,), 0), inputs, task.states(inputs), length, words.end_of_input_id, words.end_of_states_id
    )
    for swap in make_swaps(task, data.layout, inputs, tokens, seeded()):
        found[f"swap {swap.variable} {swap.t}"] = checksum(swap.tokens) + checksum(swap.foil)
    if data.chain_of_thought:
        for variable, context in itertools.product(("t", "x", "s", "answer"), get_args(Context)):
            if uses(task, variable) and (several or (variable, context) != ("t", "matched")):
                pairs = make_interchanges(data, variable, context, 16, seeded(), task)
                parts = pairs.base.tokens, pairs.source.tokens, pairs.answers, pairs.permuted
                found[f"interchanges {variable} {OLD_CONTEXT[context]}"] = sum(map(checksum, parts))
    return found


def noise_of(config: RunConfig) -> dict[str, torch.Tensor]:
    """The noise of a first step."""
    batch = TrainingStream(config.data, config.seed).batch(1, seeded())
    return loop.draw_noise(batch.packing, config.model.d_model, config.train, seeded())


# -------------------------------------------------------------------------------------------- evaluation

WHOLE_NUMBERS = ("accuracy", "generated_accuracy", "token_accuracy", "grammar", "pointer_agreement",
                 "pointer_sharp_rows", "verdict", "lookup_above_half", "iteration_above_half")  # fmt: skip
"""Measures that count strings or rows: an answer that hangs by a hair may turn them."""


def measure_rows(settings: Settings, params: dict[str, torch.Tensor], n_strings: int) -> dict[str, tuple[str, float]]:
    """The measure and its value, of every row: of the network, on its training strings, and of its control."""
    config = configured(settings)
    sets = eval_sets(config.data, n_strings)
    rows = measure(Model(params, config.model), config.data, sets)
    rows += measure_train(Model(params, config.model), train_sets(TrainingStream(config.data, config.seed)))
    rows += measure_control(config.model, config.n_ctx, config.data, sets[-1:], config.control_seed)
    found: dict[str, tuple[str, float]] = {}
    for row in rows:
        part = "" if row.layer is None else f"L{row.layer}" + ("" if row.head is None else f"H{row.head}")
        length = "mean" if row.length is None else str(row.length)
        key = " ".join(word for word in (row.split, row.task, length, part, row.metric) if word)
        assert key not in found, key
        found[key] = row.metric, row.value
    return found


# ---------------------------------------------------------------------------------------------- circuits


def pairs_of(network: Network, n_pairs: int, seed: int = 0):
    return circuit_pairs(network.model, network.data, n_pairs, seeded(seed), network.task, network.shifts)


def edge_scores(network: Network, n_pairs: int) -> dict[str, Figures]:
    """Every scorer's score of every edge, by scorer and edge."""
    model, pairs, edges = network.model, pairs_of(network, n_pairs), all_edges(network.model.config)
    scored = {
        "exact": exact(model, pairs, edges),
        "exact logit difference": exact(model, pairs, edges, METRICS["logit_difference"]),
        "exact kl": exact(model, pairs, edges, METRICS["kl"]),
        "eap": eap(model, pairs, edges),
        "eap_ig": eap_ig(model, pairs, edges),
    }
    found = {
        scorer: {ascii_of(edge): value for edge, value in zip(scores.edges, scores.scores.tolist(), strict=True)}
        for scorer, scores in scored.items()
    }
    flags = scored["exact"].unidentifiable, scored["exact"].no_effect
    found["flags"] = {"unidentifiable": float(sum(flags[0])), "no effect": float(sum(flags[1]))}
    return found


def circuit_figures(network: Network, n_pairs: int, n_resamples: int = 5) -> Figures:
    """Discovery, faithfulness, stability and the verdict."""
    model, pairs, generator = network.model, pairs_of(network, n_pairs), seeded(1)
    scores = exact(model, pairs, all_edges(model.config))
    order = score_order(scores)
    found = discover(model, pairs, generator)
    figures = {
        "is a circuit": plain(found.verdict == "circuit"),
        "edges of the circuit": plain(None if found.circuit is None else len(found.circuit)),
        "edges in all": plain(found.n_edges),
        "swap": found.swap,
        "held out": plain(found.held_out),
        "overlap": plain(found.overlap),
    }
    if found.random is not None:
        figures |= named("random swap", found.random._asdict())
    behaviour = Behaviour(model, pairs)
    n = len(behaviour.edges)
    sizes = sorted({round(n * k / 8) for k in range(9)})
    figures |= {"none": behaviour.none, "all": behaviour.all}
    own, random = curve(behaviour, order, sizes), random_curves(behaviour, 3, generator, sizes)
    figures |= {"cpr": plain(own.cpr), "cmd": plain(own.cmd)}
    figures |= of_tensor("faithfulness", own.faithfulness)
    if random is not None:
        figures |= of_tensor("random faithfulness", random.mean) | named("random cpr", random.cpr._asdict())
    chosen = frozenset(order[: n // 4])
    verdict = judge(behaviour, chosen, generator, n_halves=1, n_random=2)
    if verdict.measures is not None:
        figures |= named(
            "judged",
            {
                "faithfulness": verdict.measures.faithfulness,
                "incompleteness": verdict.measures.incompleteness,
                "minimality": verdict.measures.minimality,
            },
        )
    for name in ("random_faithfulness", "random_incompleteness", "random_minimality"):
        if (interval := getattr(verdict, name)) is not None:
            figures |= named(f"judged {name}", interval._asdict())
    overlap = stability(model, pairs, lambda s: frozenset(score_order(s)[: n // 4]), generator, n_resamples)
    return figures | named("stability", overlap._asdict())


def grade_figures(max_length: int, rungs: Settings, n_pairs: int) -> Figures:
    """How well scores of edges tell the true edges of a hand-built network."""
    built = build(Parity(), max_length=max_length, rungs=BuildOptions.model_validate(rungs))
    pairs = circuit_pairs(built.model, built.data, n_pairs, seeded(), Parity(), built.shifts)
    edges, found = all_edges(built.model.config), {"true edges": float(len(built.edges))}
    for name, scorer in (("exact", exact), ("eap", eap)):
        graded = grade(scorer(built.model, pairs, edges, cross_entropy, None), built.edges)
        for figure in ("auc", "coverage", "auc_all", "auprc", "auprc_all", "top_is_truth"):
            found[f"{name} {figure}"] = plain(getattr(graded, figure))
    return found


# ------------------------------------------------------------------------------------- interventions


def head_figures(network: Network, n_strings: int, n_pairs: int) -> Figures:
    """Roles, costs of ablation and shares that are carried."""
    model, data, task = network
    generator, config = seeded(2), model.config
    sets = [test for test in eval_sets(data, n_strings) if test.task == task]
    heads = name_heads(Ablations(model, sets, "mean", generator), data, generator, n_pairs, task)
    found = {"accuracy": heads.accuracy, "guess": heads.guess}
    found |= of_tensor("x together", torch.tensor(heads.x_together or ()))
    found |= named("removal", {"parts": len(heads.removal.components) if heads.removal else 0})
    for role in heads.roles:
        found |= named(f"role {role.writer}", {"x": role.x, "end": role.end, "cost": role.cost})
    parts = [Writer("head", layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    parts += [Writer("mlp", layer) for layer in range(config.n_layers)]
    for baseline in ("zero", "mean", "mean_over_positions", "resample", "resample_over_positions"):
        ablations = Ablations(model, sets, baseline, generator, n_reference=64)
        found |= {f"accuracy without {part}, {baseline}": ablations.cost(part).accuracy for part in parts}
    if data.chain_of_thought:
        for variable in ("x", "end"):
            alone, together = carried_share(model, data, variable, seeded(3), n_pairs, task)
            found |= of_tensor(f"carried {variable}", alone) | of_tensor(f"carried {variable} together", together)
    return found


def patching_figures(network: Network, n_pairs: int) -> Figures:
    """Cross-entropy with one place patched: heads by span, whole layers by position."""
    model, pairs = network.model, pairs_of(network, n_pairs, seed=4)
    traces, found = both_traces(model, pairs), {}
    for kind in ("q", "k", "v", "z", "pattern"):
        found |= of_tensor(f"{kind} by span", sweep(model, pairs, kind, cross_entropy, traces, WHOLE_SPANS))
    for kind in ("resid_pre", "attn_out", "mlp_out"):
        found |= of_tensor(f"{kind} by position", sweep(model, pairs, kind, cross_entropy, traces)[:, 0])
    return found


def route_figures(network: Network, n_strings: int, lengths: Sequence[int]) -> Figures:
    """Every cell's effect and shares, and the means over cells."""
    found: Figures = {}
    routes = route_map(network.model, network.data, seeded(5), n_strings, lengths, network.task)
    for cell in routes.cells:
        place = f"{cell.length} {cell.t} {cell.variable}"
        found |= named(place, {name: getattr(cell, name) for name in ("effect", "follows", "agreement")})
        # in logits: a share is a part of an effect that may be small
        for i, (route, share) in enumerate(zip(cell.routes, cell.share.tolist(), strict=True)):
            found[f"{place} route {i} {route.hops[0]} {route.carrier} {route.hops[1]}"] = share * cell.effect
        for way, share in cell.together.items():
            found[f"{place} together {way.name.lower()}"] = share * cell.effect
        if cell.reliance is not None:
            found |= of_tensor(f"{place} reliance", cell.reliance)
    for variable in ("x", "s"):
        summary = routes.summary(variable)
        names = "n_cells", "residual", "non_additive", "effect", "agreement", "stable"
        found |= named(f"mean {variable}", {name: getattr(summary, name) for name in names})
        found |= named(f"mean {variable} share", {way.name.lower(): share for way, share in summary.shares.items()})
        found |= of_tensor(f"mean {variable} head", torch.tensor(summary.heads))
    return found


INTERCHANGE = same_names("low", "high", "follows", "keeps", "placebo") | {"iia": "interchange", "permuted": "arbitrary"}


def interchange_figures(network: Network, n: int, values: Mapping[str, str] = INTERCHANGE) -> Figures:
    """Accuracy of every variable at every site, with its controls."""
    table = interchange_map(network.model, network.data, seeded(6), n, network.task)
    return of_table("map", table.replace({"context": OLD_CONTEXT}), ["variable", "context", "site"], values)


def alignment_figures(network: Network, n: int, n_steps: int) -> Figures:
    """A search for the subspaces of two variables."""
    model, data, task = network
    generator = seeded(7)
    train_pairs = {v: make_interchanges(data, v, "independent", n, generator, task) for v in ("x", "s")}
    test_pairs = {v: make_interchanges(data, v, "independent", n, generator, task) for v in ("x", "s")}
    site = Site("resid_mid", model.config.n_layers - 1)
    found = align(model, site, {"x": 2, "s": 1}, train_pairs, test_pairs, generator, n_steps)
    figures = of_tensor("loss", found.losses)
    for kind, scores in (("found", found.scores), ("random", found.random)):
        for variable, score in scores.items():
            figures |= named(f"{kind} {variable}", {"accuracy": score.accuracy.mean, "placebo": score.placebo})
    return figures


def task_token_figures(network: Network, other: Task, n_rows: int) -> Figures:
    """What tells a row its task."""
    pairs = task_pairs(network.data, network.task, other, n_rows, seeded(8))
    table = patch_task_token(network.model, pairs, seeded(9))
    table["part"] = [
        f"{row.writer} → {row.reader}" if row.kind == "edge" else row.reader if row.kind == "reader" else row.site
        for row in table.itertuples()
    ]
    table["part"] += [f" @ {span}" if isinstance(span, str) else "" for span in table["span"]]
    return of_table("told", table, ["kind", "part"], same_names("follows", "placebo", "n"))


def across_figures(network: Network, other: Task, n_rows: int) -> Figures:
    """What a head brings from a run of the other task."""
    shares = carried_across(network.model, network.data, network.task, other, seeded(10), n_rows)
    return of_tensor("across", shares)


# ------------------------------------------------------------------------------------- probes and weights

PROBED = same_names("linear", "low", "high", "chance_low", "chance_high", "by_chance", "numeric", "mlp",
                    "additive", "label", "within", "beyond", "beyond_low", "beyond_high", "of_rest", "of_rest_low",
                    "of_rest_high", "separable") | {"permuted": "shuffled"}  # fmt: skip
HELD = same_names("low", "high", "placebo", "random", "share") | {
    "iia": "interchange", "permuted": "arbitrary", "n_dims": "dims",
}  # fmt: skip


def without_figures(prefix: str, found: Any) -> Figures:
    return joined(
        named(f"{prefix} {what}", getattr(found, what)._asdict()) for what in ("whole", "additive", "placebo")
    )


def position_figures(network: Network, thorough: bool = False) -> Figures:
    """What the probe of the subtraction of positions finds."""
    model, data, task = network
    found = position_subtraction.examine_subtraction(model, data, task, seed=0, thorough=thorough)
    figures = of_table("probe", found.probes, ["site"], PROBED) | {"guess": found.guess_from_i}
    figures |= named("score", found.score._asdict()) | of_tensor("by weights", torch.tensor(found.score_by_weights))
    figures |= of_table("held", found.interchanges.replace({"context": OLD_CONTEXT}), ["site", "context"], HELD)
    for site, without in found.additive.items():
        figures |= without_figures(f"without {site}", without)
    if found.kind is not None:
        numbers = ("by_difference", "n_pairs", "median_by_difference", "median_n_pairs")
        figures |= named("kind", {name: getattr(found.kind, name) for name in numbers})
    if found.neurons is not None:
        columns = same_names("added", "share beyond i and j", "share by t", "n_pairs")
        figures |= of_table("neuron", found.neurons, ["neuron"], columns)
    if found.curve is not None:
        figures |= of_table("curve", found.curve, ["n_neurons"], same_names("chosen", "random"))
    return figures


def state_figures(network: Network, thorough: bool = False) -> Figures:
    """What the probe of the state's update finds."""
    model, data, task = network
    found = state_update.examine_update(model, data, task, seed=0, layer=model.config.n_layers - 1, thorough=thorough)
    figures = of_table("probe", found.probes, ["site"], PROBED)
    figures |= {"guess from s": found.guess_from_s, "guess from x": found.guess_from_x, "overlap": plain(found.overlap)}
    figures |= of_table(
        "held", found.interchanges.replace({"context": OLD_CONTEXT}), ["variable", "site", "context"], HELD
    )
    figures |= of_table("subspace", found.subspaces, ["variable"], HELD)
    figures |= without_figures("without", found.additive)
    if found.left_out is not None:
        sites = same_names("raw embeddings", "MLP input", "MLP output", "stream after")
        figures |= of_table("left out", found.left_out, ["s", "x"], sites)
    if found.curve is not None:
        figures |= of_table("curve", found.curve, ["n_neurons"], same_names("chosen", "random"))
    neurons = [str(i) for i in range(model.config.mlp_width if thorough else 4)]
    figures |= of_table("activation", found.activations, ["s", "x"], same_names(*neurons))
    added = found.neurons.sort_values("neuron")
    added = added if thorough else added[:8]
    return figures | of_table("neuron", added, ["neuron"], {"added": "added", "share beyond s and x": "beyond"})


def weight_figures(network: Network) -> Figures:
    """Read off the weights alone."""
    model, data, task = network
    positions = range(2, 2 + data.max_length)
    found = {
        "effective dimension": effective_dimension(model.params, positions),
        "toeplitz share": toeplitz_share(model.params, positions),
    }
    found |= of_tensor("fourier power", fourier_power(model.params, positions))
    found |= of_tensor("spectrum", position_spectrum(model.params, positions)[:3])
    for layer, head in itertools.product(range(model.config.n_layers), range(model.config.n_heads)):
        qk, ov = qk_circuit(model, layer, head), ov_circuit(model, layer, head)
        blocks = {"tok tok": qk.tok_tok, "tok pos": qk.tok_pos, "pos tok": qk.pos_tok, "pos pos": qk.pos_pos}
        for name, block in (blocks | {"ov tok": ov.tok, "ov pos": ov.pos}).items():
            found[f"L{layer}H{head} {name} norm"] = float(block.norm())
            found[f"L{layer}H{head} {name} corner"] = float(block[0, 0])
    if model.config.n_layers == 2 and data.chain_of_thought:
        for head in range(model.config.n_heads):
            found[f"subtraction score {head}"] = subtraction_score(*pair_queries(model, data, task, 1, head))
        told_by = rule_or_table(subtraction_neurons(model, data, task))
        found |= named("subtraction", {"by difference": told_by.by_difference, "pairs": told_by.n_pairs})
    return found


def trajectory_figures(network: Network, n_strings: int) -> Figures:
    """What is followed over training: looks, interchanges, ways of x_t."""
    model, data, task = network
    rows = attention_metrics(data, task, n_strings, model)
    if data.chain_of_thought:
        rows += interchange_scores(data, task, model.config.n_layers - 1, 11, model)
        if model.config.n_layers == 2:
            rows += route_scores(data, task, 12, model)
    return joined({ascii_of(old_name(row.quantity, model.config.n_heads)): row.value} for row in rows)


def old_name(quantity: Quantity, n_heads: int) -> str:
    """What the figures call a quantity."""
    measure, statistic, variable, _, site, layer, head = quantity
    if measure == "IIA":
        name = {"t": "t in the query", "x": "x fetched", "answer": "state written"}[str(variable)]
        suffix = {"value": "", "placebo": ", placebo", "above placebo": ", above"}[statistic]
        return f"{name}{suffix} {site}{layer}"
    if measure == "route share":
        return f"by {statistic}"
    if measure.endswith(" pattern ablation"):
        work = measure.removesuffix(" pattern ablation")
        names = {"uniform": "right with even {}", "idealised": "right with ideal {}", "cost": "worth of {}",
                 "gain": "{} lacks"}  # fmt: skip
        heads = range(n_heads) if head is None else [head]
        return f"{names[statistic].format(work)} {'+'.join(f'L{layer}H{h}' for h in heads)}"
    return measure if layer is None else f"{measure} L{layer}" if head is None else f"{measure} L{layer}H{head}"


def emergence_figures() -> Figures:
    """Moments of two made-up curves, a step with noise and noise alone."""
    noise, steps, found = torch.randn(40, generator=seeded(13), dtype=torch.float64) * 0.05, range(0, 400, 10), {}
    ramp = ((torch.arange(40) - 12) / 10).clamp(0, 1)
    for name, values in (("ramp", ramp + noise), ("noise", noise)):
        curve_found = emergence(list(steps), values.tolist(), seeded(14))
        found |= {f"{name} p": curve_found.p_flat, f"{name} rise": curve_found.rise}
        for moment in ("onset", "midpoint", "saturation"):
            found |= named(f"{name} {moment}", getattr(curve_found, moment)._asdict())
    return found


# -------------------------------------------------------------------------------------------- at length


def dissection_figures(network: Network, n_pairs: int, n_strings: int) -> Figures:
    """Every table of a dissection, that of the control as well."""
    model, data, task = network
    tables = dissect(model, data, task, 0, network.shifts, n_pairs=n_pairs, n_strings=n_strings).tables()
    tables["heads"]["head"] = [f"L{r.layer}H{r.head}" for r in tables["heads"].itertuples()]
    tables["edges"]["edge"] = tables["edges"]["writer"] + " → " + tables["edges"]["reader"]
    tables["patching"] = tables["patching"].assign(part=patched_part, place=lambda t: t["token"].fillna(t["span"]))
    columns: dict[str, tuple[list[str], dict[str, str]]] = {
        "heads": (["head"], same_names("x_share", "end_share", "cost")),
        "ablations": (["components", "baseline"], same_names("accuracy", "cost")),
        "subsets": (["components", "baseline"], same_names("accuracy", "cost")),
        "greedy": (["components", "baseline"], same_names("accuracy", "cost")),
        "patching": (["part", "place", "length"], same_names("effect")),
        "edges": (["edge"], same_names("exact", "eap_ig_20", "in_circuit", "unidentifiable", "no_effect")),
        "faithfulness": (["n_edges"], same_names("faithfulness", "random_mean", "random_low", "random_high")),
        "routes": (
            ["length", "t", "variable", "first_hop", "carrier", "second_hop"],
            same_names("share", "effect", "follows", "agreement", "residual"),
        ),
    }
    return joined(
        of_table(name, table, ["network", *columns[name][0]], columns[name][1]) for name, table in tables.items()
    )


def patched_part(table: pd.DataFrame) -> list[str]:
    """`L0H1`, `mlp 0` or `embed` in each row of a patching table."""
    return [
        component if pd.isna(layer) else f"{component} {layer}" if pd.isna(head) else f"L{layer}H{head}"
        for component, layer, head in zip(table["component"], table["layer"], table["head"], strict=True)
    ]


def sharing_figures(network: Network, other: Task, n_pairs: int) -> Figures:
    """What two tasks of one network share."""
    model, data, task = network
    one, two = (evidence(model, data, t, network.shifts, 0, n_pairs) for t in (task, other))
    tables = compare(model, data, one, two).tables()
    edges = tables["edges"].assign(edge=lambda t: t["writer"] + " → " + t["reader"])
    shares = {"first_share": "one", "second_share": "other"}
    figures = of_table("edges", edges, ["edge"], shares | same_names("difference", "p"))
    among = {"any": "any edges", "same_kind": "edges of the same reader kind"}
    for row in tables["overlap"].to_dict("records"):
        both = f"{task} and {other}; dealt among {among.get(row['permuted_among'], '')}"
        circuits = f"{row['task']}, two sets of prompts" if row["compared"] == "prompts" else both
        for column, name in (
            ("value", ""),
            ("permuted_low", "_dealt_low"),
            ("permuted_high", "_dealt_high"),
            ("p", "_p"),
        ):
            figures[f"overlap {circuits} {row['statistic']}{name}"] = plain(row[column])
    for layer, head, name, variable, source, share in tables["heads"].itertuples(index=False):
        carried = "end" if variable == "end" else "x_t" if source == "same_task" else "x_t from the other task"
        figures[f"heads L{layer}H{head} {name}: {carried}"] = plain(share)
    return figures


# -------------------------------------------------------------------------------------------- the witness

SWAPPED = same_names("placebo") | {"iia": "interchange", "permuted": "arbitrary"}
RUNGS = {"distractors": True, "rotated": True, "noise": 0.02}


@functools.cache
def _trained(name: str) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    return train_short(RUNS[name])


@functools.cache
def _network(name: str) -> Network:
    if name == "built":
        return built_network(4, RUNGS)
    config = configured(RUNS[name])
    return Network(Model(_trained(name)[1], config.model), config.data, config.data.tasks[0])


def _of(names: Sequence[str], figures: Callable[[Network], Figures]) -> Callable[[], Figures]:
    """The figures of these networks, each key with its network."""
    return lambda: joined(named(name, figures(_network(name))) for name in names)


def _losses() -> Figures:
    return joined(
        {f"{name} {step}": loss for step, loss in _trained(name)[0].items() if step in (1, 2, 4, 8, 16, 24, 40)}
        for name in RUNS
    )


def _weights() -> Figures:
    return joined(
        {f"{name} {weight}": float(value.norm()) for weight, value in _trained(name)[1].items()} for name in RUNS
    )


def _together() -> Figures:
    losses, params = train_together(RUNS["parity"] | {"train": {"n_steps": 12}}, (0, 1))
    found = joined(of_tensor(f"loss {step}", torch.tensor(losses[step])) for step in (1, 6, 12))
    return found | joined(of_tensor(name, value.flatten(1).norm(dim=1)) for name, value in params.items())


@functools.cache
def _rows(name: str) -> dict[str, tuple[str, float]]:
    return measure_rows(RUNS[name], _trained(name)[1], 24)


def _measured(whole: bool) -> Figures:
    """Accuracy and loss at every length and means over lengths: those that count whole things, or the others."""
    found: Figures = {}
    for name in RUNS:
        for key, (metric, value) in _rows(name).items():
            wanted = key.split()[0] == "mean" or metric in ("loss", "accuracy", "token_accuracy")
            # which offsets hold enough weight to be recorded hangs by a hair
            if wanted and (metric in WHOLE_NUMBERS) == whole and not metric.startswith("offset_"):
                found[f"{name} {key}"] = value
    return found


def _scores() -> Figures:
    return joined(
        named(f"{name} {scorer}", values)
        for name in ("parity", "built")
        for scorer, values in edge_scores(_network(name), 12).items()
    )


def _mixture() -> tuple[Network, Task, Task]:
    """A network of copy, and its other tasks, of which binary copy shares too little to be asked all that they are."""
    network = _network("mixture")
    _, one, other = network.data.tasks
    return network, one, other


def _told() -> Figures:
    network, one, other = _mixture()
    return task_token_figures(network, one, 32) | across_figures(network._replace(task=one), other, 32)


SECTIONS: dict[str, Callable[[], Figures]] = {
    "draws": lambda: joined(named(name, draw_checksums(settings)) for name, settings in RUNS.items()),
    "losses": _losses,
    "weights": _weights,
    "together": _together,
    "measures": lambda: _measured(whole=False),
    "counts": lambda: _measured(whole=True),
    "edges": _scores,
    "circuits": _of(("built",), lambda network: circuit_figures(network, 12)),
    "grades": lambda: grade_figures(4, RUNGS, 12),
    "heads": _of(("built", "no chain of thought"), lambda network: head_figures(network, 16, 32)),
    "patching": _of(("parity",), lambda network: patching_figures(network, 12)),
    "routes": _of(("parity", "built"), lambda network: route_figures(network, 8, (2, 4))),
    "interchanges": _of(("built",), lambda network: interchange_figures(network, 64, SWAPPED)),
    "alignment": _of(("built",), lambda network: alignment_figures(network, 64, 8)),
    "task token": _told,
    "positions": _of(("parity", "built"), position_figures),
    "states": _of(("parity", "built"), state_figures),
    "weights read": _of(("parity", "built", "three layers"), weight_figures),
    "trajectories": _of(("parity", "built", "mixture"), lambda network: trajectory_figures(network, 16)),
    "emergence": emergence_figures,
}


def main() -> None:
    torch.set_num_threads(1)
    found = {name: {key: _written(value) for key, value in section().items()} for name, section in SECTIONS.items()}
    FILE.write_text(json.dumps(found, indent=0) + "\n")


def _written(value: float) -> float | str:
    """With as many digits as single precision has; JSON knows neither infinity nor what is not a number."""
    return (
        float(f"{value:.7g}")
        if math.isfinite(value) and value % 1
        else int(value)
        if math.isfinite(value)
        else str(value)
    )


if __name__ == "__main__":
    main()
