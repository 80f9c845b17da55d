"""Whether a network has a given circuit: verified by interchange, node by node and edge by edge.

A network is accepted if

1. it is right about every string;
2. when all that a node's component writes is another input's, its answers follow where the graph's change, and keep
   where they do not;
3. when all that the components outside the graph write is another input's, and when all edges outside it carry another
   input's values, it stays right and its logits are nearly as they were;
4. each edge of the graph by itself moves its answer on some input, and no other edge does.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.packing import Packing
from compo_mech.data.splits import all_strings
from compo_mech.evaluation.accuracy import strings_right
from compo_mech.ground_truth.causal_graph import CausalGraph
from compo_mech.ground_truth.interchange import Interchanged, interchanged
from compo_mech.interventions.edges import Edge, Writer, all_edges
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.model.finite import likeliest
from compo_mech.model.forward import forward
from compo_mech.model.params import Model

ACCURACY = 0.99
"""Least fraction of answers that are right, follow or keep."""

NEARLY_UNCHANGED = 0.02
"""Greatest mean change of the probabilities where what is outside the graph is resampled: a total variation distance,
from 0 to 1."""

MOVES, STAYS = 0.5, 0.2
"""Least change of the probabilities, where it is greatest, that an edge of the graph makes, and greatest that any other
makes: total variation distances, like the above."""

SWITCHES = (
    Switch.TOKEN | Switch.LENGTH | Switch.SHIFT,
    Switch.TOKEN | Switch.LENGTH,
    Switch.TOKEN | Switch.SHIFT,
    Switch.TOKEN,
)
"""What may differ between the inputs of a pair; each is drawn equally often."""

MAX_SHIFT = 2
"""Of position ids, from 1 on."""


@dataclass(frozen=True)
class Verification:
    """What was found of a network and a graph.

    Attributes:
        accuracy: fraction of all strings that are right at every scored position.
        follows, keeps: by variable, of the answers that have to change, or stay, when the variable is another input's,
            the fraction that do; tok and pos are variables too.
        outside_accuracy, outside_change: fraction of the answers that stay right when all components outside the graph
            are resampled, or all edges outside it, whichever is worse; and the mean change of the probabilities.
        true_changes, other_changes: by edge of the graph, and by any other, the greatest change of the probabilities
            that it makes by itself.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build, textbook, verify
        >>> built = build(Parity(), max_length=3)
        >>> found = verify(built.model, textbook(built.data), built.data, n_pairs=16)
        >>> found.problems, found.follows["pointer"], min(found.true_changes.values()) > 0.99
        ((), 1.0, True)
    """

    accuracy: float
    follows: dict[str, float]
    keeps: dict[str, float]
    outside_accuracy: float
    outside_change: float
    true_changes: dict[Edge, float]
    other_changes: dict[Edge, float]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the network is not accepted, in a line each; none if it is. What no pair shows (NaN) is not accepted."""
        low = {"accuracy": self.accuracy, "outside_accuracy": self.outside_accuracy}
        low |= {f"follows.{variable}": share for variable, share in self.follows.items()}
        low |= {f"keeps.{variable}": share for variable, share in self.keeps.items()}
        found = [f"{name} = {x:.3f}: must be at least {ACCURACY}" for name, x in low.items() if not x >= ACCURACY]
        if not self.outside_change <= NEARLY_UNCHANGED:
            found.append(f"outside_change = {self.outside_change:.3f}: must be at most {NEARLY_UNCHANGED}")
        found += [
            f"{e} = moves {x:.2f}: must be at least {MOVES}" for e, x in self.true_changes.items() if not x >= MOVES
        ]
        found += [
            f"{e} = moves {x:.2f}: must be at most {STAYS}" for e, x in self.other_changes.items() if not x <= STAYS
        ]
        return tuple(found)


@torch.no_grad()
def verify(model: Model, graph: CausalGraph, data: DataConfig, n_pairs: int = 256, seed: int = 0) -> Verification:
    """Verify that a network has this circuit.

    Args:
        model: the network, of as many positions as `data` needs and MAX_SHIFT more.
        graph: the circuit.
        data: the task, lengths and layout.
        n_pairs: of clean and corrupt inputs, of each of `SWITCHES`.
        seed: of the pairs.

    Example:
        >>> from compo_mech import Parity, build
        >>> from compo_mech.ground_truth import textbook, verify
        >>> built = build(Parity(), max_length=2)
        >>> verify(built.model, textbook(built.data), built.data, n_pairs=4).accuracy
        1.0
    """
    generator, edges = torch.Generator().manual_seed(seed), all_edges(model.config)
    every = [make_pairs(data, switch, n_pairs, generator, MAX_SHIFT) for switch in SWITCHES]

    def found(where: Bool[Tensor, "edge"]) -> list[tuple[Pairs, Interchanged]]:
        return [(pairs, interchanged(model, graph, pairs, where.expand(n_pairs, -1))) for pairs in every]

    follows, keeps = {}, {}
    for variable, writer in graph.writers.items():
        follows[variable], keeps[variable] = _follows_and_keeps(found(_written_by(edges, {writer})))
    is_outside = torch.tensor([edge not in graph.edges for edge in edges])
    idle = {edge.writer for edge in edges} - set(graph.writers.values())
    outside = found(is_outside), found(_written_by(edges, idle))
    clean = found(torch.zeros_like(is_outside))
    changes = torch.stack([_greatest_changes(model, pairs) for pairs in every]).amax(0).tolist()
    by_edge = dict(zip(edges, changes, strict=True))
    return Verification(
        accuracy=fraction_right(model, data),
        follows=follows,
        keeps=keeps,
        outside_accuracy=min(_kept_right(each) for each in outside),
        outside_change=max(_mean_change(each, clean) for each in outside),
        true_changes={edge: change for edge, change in by_edge.items() if edge in graph.edges},
        other_changes={edge: change for edge, change in by_edge.items() if edge not in graph.edges},
    )


def fraction_right(model: Model, data: DataConfig) -> float:
    """Return the fraction of all strings whose every scored position is right, the mean over lengths.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.ground_truth.verification import fraction_right
        >>> built = build(Parity(), max_length=3)
        >>> fraction_right(built.model, built.data)
        1.0
    """
    fractions, task = [], data.tasks[0]
    for length in data.lengths:
        strings = encode(data, task, all_strings(task, length))
        packing = Packing.of_lengths(data.layout, [length] * len(strings.tokens))
        answers = strings.tokens[:, [position + 1 for position in data.layout.scored(length)]]
        predicted = likeliest(forward(model, strings.tokens, packing)).view(answers.shape)
        fractions.append(strings_right(predicted, answers).double().mean())
    return float(torch.stack(fractions).mean())


def _written_by(edges: list[Edge], writers: set[Writer]) -> Bool[Tensor, "edge"]:
    return torch.tensor([edge.writer in writers for edge in edges])


def _follows_and_keeps(found: list[tuple[Pairs, Interchanged]]) -> tuple[float, float]:
    """Of the defined answers that differ from the clean ones, and of the others, the fractions that are right."""
    right = torch.cat([(likeliest(each.logits) == each.answers)[each.defined] for _, each in found]).double()
    changes = torch.cat([(each.answers != pairs.target)[each.defined] for pairs, each in found])
    return float(right[changes].mean()), float(right[~changes].mean())


def _kept_right(found: list[tuple[Pairs, Interchanged]]) -> float:
    return float(torch.cat([likeliest(each.logits) == pairs.target for pairs, each in found]).double().mean())


def _mean_change(found: list[tuple[Pairs, Interchanged]], clean: list[tuple[Pairs, Interchanged]]) -> float:
    changes = [change(each.logits, own.logits) for (_, each), (_, own) in zip(found, clean, strict=True)]
    return float(torch.cat(changes).mean())


def change(logits: Float[Tensor, "*row d_vocab"], clean: Float[Tensor, "*#row d_vocab"]) -> Float[Tensor, "*row"]:
    """Return the total variation distance between the probabilities that two sets of logits give."""
    return (logits.softmax(-1) - clean.softmax(-1)).abs().sum(-1) / 2


def _greatest_changes(model: Model, pairs: Pairs) -> Float[Tensor, "edge"]:
    """By edge, the greatest change of the probabilities at any scored position when it alone is patched."""
    patches = EdgePatches.run(model, pairs)
    return change(patches.logits, patches.runs.logits).amax(1)
