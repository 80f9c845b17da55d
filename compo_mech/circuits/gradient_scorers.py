"""Scores of edges from gradients: each is the writer's change times a gradient of what its reader sees.

They differ in where and how the gradient is taken: on the clean input (EAP), averaged over inputs between the two
(EAP-IG over inputs) or over what each writer puts out between the two (EAP-IG over activations), or with rules of
relevance propagation in place of derivatives (RelP). On a linear network and metric all of them equal `exact`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from compo_mech.circuits.attribution import attribution, products, reader_gradients
from compo_mech.circuits.scores import EdgeScores, checked_runs, flagged
from compo_mech.interventions.edges import LOGITS, Edge, Reader, Writer, writers_before
from compo_mech.interventions.graph import Runs
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model


def eap(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """Edge attribution patching: the clean run's gradient times the writer's change. Arguments as `exact`.

    Source: Syed et al. 2023 (arXiv 2310.10348).

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> found = eap(built.model, pairs, [read_edge("tok → L1H1.v")])  # into a spare head
    >>> found.scores.tolist(), found.zero_gradient, found.no_effect
    ([0.0], (True,), (False,))
    """
    return eap_ig(model, pairs, edges, metric, corrupt, n_steps=1)


def eap_ig(
    model: Model,
    pairs: Pairs,
    edges: Sequence[Edge],
    metric: Metric = cross_entropy,
    corrupt: Outputs | None = None,
    n_steps: int = 5,
) -> EdgeScores:
    """EAP with integrated gradients: the gradient is averaged over inputs interpolated from clean to corrupt.

    The points lie at fractions (k + 1/2) / n_steps of the distance; a single step takes the clean input itself.
    Source: Hanna et al. 2024 (arXiv 2403.17806).

    Raises:
        ValueError: as `exact`, or the metric has no gradient, or there is no step.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edges = build(Parity(), max_length=3), [read_edge("tok → L1H0.v")]
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> torch.equal(eap_ig(built.model, pairs, edges, n_steps=1).scores, eap(built.model, pairs, edges).scores)
    True
    """
    fractions = ig_fractions(n_steps)
    runs = checked_runs(model, pairs, edges, corrupt)
    scores = attribution(model, pairs, runs, edges, metric, fractions)
    return flagged(edges, scores, pairs, runs, "zero_gradient")


def ig_fractions(n_steps: int) -> list[float]:
    """Return how far from the clean to the corrupt input `eap_ig` takes gradients.

    Raises:
        ValueError: there is no step.

    >>> ig_fractions(1), ig_fractions(2)
    ([0.0], [0.25, 0.75])
    """
    return [0.0] if n_steps == 1 else _midpoints(n_steps)


def _midpoints(n_steps: int) -> list[float]:
    if n_steps < 1:
        raise ValueError(f"n_steps = {n_steps}: must be at least 1")
    return [(k + 0.5) / n_steps for k in range(n_steps)]


def eap_ig_activations(
    model: Model, pairs: Pairs, edges: Sequence[Edge],
    metric: Metric = cross_entropy, corrupt: Outputs | None = None, n_steps: int = 5,
) -> EdgeScores:  # fmt: skip
    """EAP with integrated gradients over activations: the writer itself goes from its clean to its corrupt output.

    Writers are taken in groups, the embeddings, the heads of a layer, an MLP, while all before them is clean; edges out
    of a group have the gradients of its steps. So with many steps the scores of a group's edges add up to the change of
    the metric when all of them are patched. Source: the code of Hanna et al. 2024 (arXiv 2403.17806) and MIB (Mueller
    et al. 2025, arXiv 2504.13151), where an edge also gets the gradients of other groups' steps, which cut its own
    paths and break that sum.

    Raises:
        ValueError: as `eap_ig`.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edges = [read_edge("mlp1 → logits"), read_edge("tok → L1H1.v")]
    >>> [bool(score) for score in eap_ig_activations(built.model, pairs, edges).scores]  # L1H1 is spare
    [True, False]
    """
    fractions = _midpoints(n_steps)
    runs = checked_runs(model, pairs, edges, corrupt)
    found = {}
    for group in writer_groups(model.config):
        asked = [edge for edge in edges if edge.writer in group]
        if asked:
            points = [_between(model, pairs, runs, group, metric, fraction) for fraction in fractions]
            found |= dict(zip(asked, products(model, pairs, runs, asked, points).tolist(), strict=True))
    scores = torch.tensor([found[edge] for edge in edges], dtype=runs.logits.dtype, device=runs.logits.device)
    return flagged(edges, scores, pairs, runs, "zero_gradient")


def writer_groups(config: ModelConfig) -> list[list[Writer]]:
    """Return the writers that are taken between clean and corrupt together, in order of computation.

    >>> [[str(writer) for writer in group] for group in writer_groups(ModelConfig(n_layers=1, n_heads=2))]
    [['tok', 'pos'], ['L0H0', 'L0H1'], ['mlp0']]
    """
    groups: dict[tuple[bool, int | None], list[Writer]] = {}
    for writer in writers_before(LOGITS, config):
        groups.setdefault((writer.kind == "mlp", writer.layer), []).append(writer)
    return list(groups.values())


def _between(
    model: Model, pairs: Pairs, runs: Runs, group: list[Writer], metric: Metric, fraction: float
) -> Iterator[dict[Reader, Stream]]:
    """Gradients of all that reads a group of writers, which lies this far between its clean and its corrupt output."""
    writers, layer = list(runs.clean), group[0].layer
    moved = {w: runs.clean[w] + fraction * (runs.corrupt[w] - runs.clean[w]) for w in group}
    if layer is None:
        return reader_gradients(model, moved, pairs, metric, runs.logits)
    if group[0].kind == "head":  # the MLP of their layer may read them
        before = {w: runs.clean[w] for w in writers[: writers.index(group[0])]}
        return reader_gradients(model, before, pairs, metric, runs.logits, known=moved, first=layer)
    before = {w: runs.clean[w] for w in writers if w.layer is None or w.layer <= layer}
    return reader_gradients(model, before | moved, pairs, metric, runs.logits, first=layer + 1)


def relp(
    model: Model,
    pairs: Pairs,
    edges: Sequence[Edge],
    metric: Metric = cross_entropy,
    corrupt: Outputs | None = None,
    attention_is_held: bool = False,
) -> EdgeScores:
    """Relevance patching: `eap` with the coefficients of layer-wise relevance propagation in place of gradients.

    What norms divide by is a constant, nonlinearities are the ratio of what comes out to what goes in, and each of two
    factors of a gated MLP gets half (see `model.relevance`). Source: Rezaei Jafari et al. 2025 (arXiv 2508.21258), with
    the rules that their code applies by default.

    Args:
        model, pairs, edges, metric, corrupt: as in `exact`.
        attention_is_held: whether attention patterns are constants too, the rule that makes relevance add up, and
            leaves no score to queries and keys.

    Raises:
        ValueError: as `exact`, or the metric has no gradient.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edges = build(Parity(), max_length=3), [read_edge("tok → L1H0.v"), read_edge("mlp0 → L1H0.q")]
    >>> pairs = make_pairs(built.data, Switch.TOKEN | Switch.LENGTH, 4, torch.Generator().manual_seed(0))
    >>> [bool(score) for score in relp(built.model, pairs, edges, attention_is_held=True).scores]
    [True, False]
    """
    runs = checked_runs(model, pairs, edges, corrupt)
    rules = "relevance, attention held" if attention_is_held else "relevance"
    scores = attribution(replace(model, backward=rules), pairs, runs, edges, metric, [0.0])
    return flagged(edges, scores, pairs, runs, "zero_gradient")
