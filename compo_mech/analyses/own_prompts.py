"""A network taken apart on anybody's prompts: what it answers, where patches move that, by which edges, which circuit.

1. Activation patching: each component at each position carries the corrupt input's value.
2. Edges: EAP-IG over all edges, then the largest patched exactly, one by one.
3. Circuit: the verdict of `discover` by these scores, and faithfulness by size, beside edges drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.analyses.pieces import Keeper, Unkept, tensors_checksum
from compo_mech.circuits.accuracy import PairAccuracy
from compo_mech.circuits.attribution import attribution
from compo_mech.circuits.circuit import Circuit
from compo_mech.circuits.discovery import Discovery, discover, size_grid
from compo_mech.circuits.faithfulness import Behaviour, Curve, areas
from compo_mech.circuits.gradient_scorers import ig_fractions
from compo_mech.circuits.scores import EdgeScores, flagged
from compo_mech.circuits.selection import score_order
from compo_mech.interventions.edges import Edge, all_edges
from compo_mech.interventions.graph import Runs, corrupt_logits, run_both, run_patched
from compo_mech.interventions.metrics import Metric, logit_difference
from compo_mech.interventions.notation import read_edge
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.patch_by_text import MIN_GAP
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.streams import Outputs
from compo_mech.interventions.traces import both_traces
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.stats.intervals import Interval

By = Literal["heads", "layers"]
"""What is patched: each head and MLP by itself, or all heads of a layer together."""

N_ORDERS = 3
"""Random orders of the edges, beside which faithfulness is drawn."""

PLAIN = ("verdict", "reason", "n_edges", "swap", "held_out", "overlap")
"""What of a verdict is a number or a text."""


@dataclass(frozen=True)
class PromptSettings:
    """What is asked of a network on prompts.

    Attributes:
        by: what is patched.
        n_steps: of integrated gradients.
        n_exact: of the edges of largest score that are patched exactly.
        seed: of the halves and of random circuits.
    """

    by: By = "heads"
    n_steps: int = 5
    n_exact: int = 20
    seed: int = 0


@dataclass(frozen=True)
class PromptFindings:
    """A network on prompts.

    Attributes:
        model, pairs, settings: that were asked.
        clean_logits, corrupt_logits: at the scored positions.
        sites: that were patched.
        effects: rise of the logit difference, by site and position.
        scores: of all edges, by EAP-IG.
        exact: of those of largest score.
        discovery: the verdict on a circuit; None for a single pair, which has no halves.
        curve, random: faithfulness by size, in score order and in random ones; None where the two inputs agree.
    """

    model: Model
    pairs: Pairs
    settings: PromptSettings
    clean_logits: Float[Tensor, "scored d_vocab"]
    corrupt_logits: Float[Tensor, "scored d_vocab"]
    sites: tuple[Site, ...]
    effects: Float[Tensor, "site pos"]
    scores: EdgeScores
    exact: EdgeScores
    discovery: Discovery | None
    curve: Curve | None
    random: tuple[Curve, ...]

    @property
    def gap(self) -> float:
        """How far the corrupt input moves the logit difference."""
        clean, corrupt = (
            float(logit_difference(logits, self.clean_logits, self.pairs))
            for logits in (self.clean_logits, self.corrupt_logits)
        )
        return corrupt - clean

    @property
    def fractions(self) -> Float[Tensor, "site pos"] | None:
        """The effects as fractions of that; None where the two inputs agree."""
        return self.effects / self.gap if abs(self.gap) >= MIN_GAP else None

    @property
    def circuit(self) -> Circuit | None:
        """The smallest circuit that does the task, if the verdict is that there is one."""
        if self.discovery is None or not self.discovery.kept:
            return None
        return Circuit.of(self.model.config, self.discovery.kept, self.scores)


def moving_positions(pairs: Pairs) -> range:
    """Return where a patch can move an answer: from the first position that is read differently in any pair to the last
    that is scored."""
    differ = (pairs.clean_tokens != pairs.corrupt_tokens) | (pairs.clean_position_ids != pairs.corrupt_position_ids)
    return range(int((differ & pairs.both_read).any(0).int().argmax()), int(pairs.position.max()) + 1)


def sites_of(model: Model, by: By) -> list[Site]:
    """Return what is patched, in order of computation."""
    config, sites = model.config, list[Site]()
    for layer in range(config.n_layers):
        heads = [Site("z", layer, head) for head in range(config.n_heads)]
        sites += heads if by == "heads" else [Site("attn_out", layer)]
        sites += [] if config.attn_only else [Site("mlp_out", layer)]
    return sites


def on_prompts(
    model: Model, pairs: Pairs, settings: PromptSettings | None = None, keeper: Keeper | None = None
) -> PromptFindings:
    """Take a network apart on pairs of prompts.

    Args:
        model: the network.
        pairs: clean and corrupt prompts, answers and foils.
        settings: what is asked.
        keeper: is told how far it is, and keeps or knows pieces.

    Raises:
        ValueError: the model cannot read the pairs, or no answer differs from its foil.
    """
    settings, keeper = settings or PromptSettings(), keeper or Unkept()
    if not (pairs.foil != pairs.target).any():
        raise ValueError("pairs = none with answers that differ: there must be something to move")
    with torch.no_grad():
        runs = run_both(model, pairs)
        corrupt = corrupt_logits(model, pairs, runs)
    sites = sites_of(model, settings.by)
    effects = _effects(model, pairs, sites, keeper)
    scorer = _KeptScorer(settings.n_steps, keeper)
    edges = all_edges(model.config)
    keeper.part("edges by gradients", settings.n_steps)
    scores = scorer.scores(model, pairs, edges, logit_difference, runs)
    order = score_order(scores)
    largest = order[: settings.n_exact]
    keeper.part("edges patched exactly", len(largest))
    patched = _exact_one_by_one(model, pairs, runs, largest, keeper)
    discovery = None
    if len(pairs.clean_tokens) > 1:
        keeper.part("circuit", 1 + 3 * settings.n_steps)
        discovery = _discovery(model, pairs, settings, scorer, scores, keeper)
    own, random = _curves(model, pairs, order, settings.seed, keeper)
    return PromptFindings(
        model,
        pairs,
        settings,
        runs.logits,
        corrupt,
        tuple(sites),
        effects,
        scores,
        patched,
        discovery,
        own,
        random,
    )


def _effects(model: Model, pairs: Pairs, sites: Sequence[Site], keeper: Keeper) -> Float[Tensor, "site pos"]:
    """The rise of the logit difference when one site is patched at one position."""
    clean, corrupt = both_traces(model, pairs)
    base = clean.logits[pairs.row, pairs.position]
    before = float(logit_difference(base, base, pairs))

    def of_site(site: Site) -> list[float]:
        found = [0.0] * pairs.clean_tokens.shape[1]
        for position in moving_positions(pairs):
            where = torch.zeros_like(pairs.read)
            where[:, position] = True  # no scored row sees its padding
            logits = patched_logits(model, clean, corrupt, site, where, pairs)
            found[position] = float(logit_difference(logits, base, pairs)) - before
        return found

    keeper.part("components patched", len(sites))
    return torch.tensor([keeper.piece(f"effect of {site}", lambda site=site: of_site(site)) for site in sites])


def _exact_one_by_one(model: Model, pairs: Pairs, runs: Runs, edges: Sequence[Edge], keeper: Keeper) -> EdgeScores:
    """`exact` by the logit difference, each edge a piece."""
    base = float(logit_difference(runs.logits, runs.logits, pairs))

    def moved(edge: Edge) -> float:
        with torch.no_grad():
            return float(logit_difference(run_patched(model, pairs, runs, [edge]), runs.logits, pairs)) - base

    found = [keeper.piece(f"exact {edge}", lambda edge=edge: moved(edge)) for edge in edges]
    return flagged(edges, torch.tensor(found), pairs, runs)


class _KeptScorer:
    """`eap_ig`, each of its steps a piece."""

    def __init__(self, n_steps: int, keeper: Keeper) -> None:
        self.n_steps, self.keeper = n_steps, keeper

    def __call__(
        self, model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric, corrupt: Outputs | None
    ) -> EdgeScores:
        with torch.no_grad():
            runs = run_both(model, pairs, corrupt)
        return self.scores(model, pairs, edges, metric, runs)

    def scores(self, model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric, runs: Runs) -> EdgeScores:
        rows, total = tensors_checksum(pairs.tensors)[:16], torch.zeros(len(edges))
        for k, fraction in enumerate(ig_fractions(self.n_steps)):
            total += torch.tensor(
                self.keeper.piece(
                    f"gradient {k} of {self.n_steps} on rows {rows}",
                    lambda fraction=fraction: attribution(model, pairs, runs, edges, metric, [fraction]).tolist(),
                )
            )
        return flagged(edges, total / self.n_steps, pairs, runs, "zero_gradient")


def _discovery(
    model: Model, pairs: Pairs, settings: PromptSettings, scorer: _KeptScorer, scores: EdgeScores, keeper: Keeper
) -> Discovery:
    """The verdict of `discover`, a piece with its edges as text."""

    def found() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(settings.seed)
        verdict = discover(model, pairs, generator, scorer, logit_difference)
        plain = {name: getattr(verdict, name) for name in PLAIN}
        circuit = None if verdict.circuit is None else [str(edge) for edge in verdict.circuit]
        random = None if verdict.random is None else list(verdict.random)
        return plain | {"accuracy": list(verdict.accuracy), "circuit": circuit, "random": random}

    kept = dict(keeper.piece("circuit", found))
    circuit, random = kept.pop("circuit"), kept.pop("random")
    return Discovery(
        accuracy=PairAccuracy(*kept.pop("accuracy")),
        circuit=None if circuit is None else frozenset(map(read_edge, circuit)),
        random=None if random is None else Interval(*random),
        scores=scores,
        **kept,
    )


def _curves(
    model: Model, pairs: Pairs, order: Sequence[Edge], seed: int, keeper: Keeper
) -> tuple[Curve | None, tuple[Curve, ...]]:
    """Faithfulness by size of circuits in score order, and in random orders."""
    generator, total = torch.Generator().manual_seed(seed), len(order)
    shuffled = [[order[i] for i in torch.randperm(total, generator=generator).tolist()] for _ in range(N_ORDERS)]
    grid = size_grid(total)
    sizes = sorted({0, *grid[: len(grid) // 2 + 1], *grid[::4], total})
    keeper.part("faithfulness by size", len(sizes) * (1 + N_ORDERS))
    behaviour: list[Behaviour] = []

    def faithfulness(edges: Sequence[Edge]) -> float | None:
        if not behaviour:  # two runs of the network, which nobody needs where all pieces are known
            behaviour.append(Behaviour(model, pairs, logit_difference))
        return behaviour[0].faithfulness(edges)

    curves = []
    for k, edges in enumerate([order, *shuffled]):
        found = [keeper.piece(f"faithfulness {k}, {n} edges", lambda e=edges, n=n: faithfulness(e[:n])) for n in sizes]
        values = [value for value in found if value is not None]
        if len(values) < len(found):
            return None, ()
        curves.append(Curve(tuple(sizes), torch.tensor(values), *areas([n / total for n in sizes], values)))
    return curves[0], tuple(curves[1:])
