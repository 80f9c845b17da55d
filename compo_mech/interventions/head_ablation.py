"""What is lost without a head, an MLP, or a set of them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from compo_mech.data.encode import Encoded, encode
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import EvalSet
from compo_mech.interventions.ablation import Baseline, ablated_logits, baseline_outputs
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.model.params import Model

COSTS = 0.02
"""An ablation that costs less of the accuracy than this costs nothing."""

MAX_SUBSET_HEADS = 8
"""Of more heads not every set is ablated."""


@dataclass(frozen=True)
class Cost:
    """What the ablation of some parts does.

    Attributes:
        parts: heads and MLPs that put out their stand-ins.
        baseline: what stands in.
        accuracy: share of states that are right, given the true tokens before them.
        cost: by how much less that is than without ablation.
    """

    parts: tuple[Writer, ...]
    baseline: Baseline
    accuracy: float
    cost: float


class Ablations:
    """Per-state accuracy of a network whose parts put out what stands in for them.

    Stand-ins are taken from other strings of the same length: `mean` is their mean at each position,
    so that what depends on position and length alone stays as it is.

    Args:
        model: the network.
        sets: test strings, each set of one length.
        baseline: what stands in.
        generator: draws the other strings.
        n_reference: other strings of each length, at least as many as there are test strings.

    Raises:
        ValueError: there are no test strings.
    """

    def __init__(
        self,
        model: Model,
        sets: Sequence[EvalSet],
        baseline: Baseline,
        generator: torch.Generator,
        n_reference: int = 512,
    ) -> None:
        if not sets:
            raise ValueError("sets = none: accuracy needs test strings")
        self.model, self._sets = model, []
        self.baseline: Baseline = baseline
        for test in sets:
            rows = list(test.layout.scored(test.length))[:-1]
            known, _ = run_graph(model, embeddings(model, test.read, test.position_ids))
            n = len(test.tokens)
            other = _other_strings(test, max(n, n_reference), generator)
            outputs = embeddings(model, other.read, other.position_ids)
            stand_ins = {w: out[:n] for w, out in baseline_outputs(model, outputs, baseline, generator).items()}
            self._sets.append((known, stand_ins, rows, test.targets[:, :-1]))
        self.whole = self.accuracy(())

    def accuracy(self, parts: Sequence[Writer]) -> float:
        """Share of states that are right, over all sets."""
        right = torch.cat(
            [
                (ablated_logits(self.model, known, parts, stand_ins)[:, rows].argmax(-1) == targets).flatten()
                for known, stand_ins, rows, targets in self._sets
            ]
        )
        return float(right.float().mean())

    def cost(self, *parts: Writer) -> Cost:
        accuracy = self.accuracy(parts)
        return Cost(parts, self.baseline, accuracy, self.whole - accuracy)

    def subsets(self, parts: Sequence[Writer]) -> Iterator[Cost]:
        """Every set of these parts but the empty one, small ones first."""
        for n in range(1, len(parts) + 1):
            for chosen in itertools.combinations(parts, n):
                yield self.cost(*chosen)

    def greedy(self, parts: Sequence[Writer]) -> Iterator[Cost]:
        """Ablate one part after the other, always the one that costs least then."""
        gone: tuple[Writer, ...] = ()
        left = list(parts)
        while left:
            best = max((self.cost(*gone, part) for part in left), key=lambda cost: cost.accuracy)
            gone = best.parts
            left.remove(gone[-1])
            yield best


def _other_strings(test: EvalSet, n: int, generator: torch.Generator) -> Encoded:
    """Random strings of the same task and length, whatever their split."""
    task = test.task
    inputs = torch.randint(task.first_input, task.n_inputs, (n, test.length), generator=generator)
    return Encoded(encode(test.data, task, inputs).tokens.to(test.tokens.device))


def smallest_removal(ablations: Ablations, heads: Sequence[Writer], level: float) -> Cost | None:
    """The fewest heads whose ablation brings accuracy to `level` or below; of equals, the most costly.

    None: not even all of them do. Of more than `MAX_SUBSET_HEADS` heads only one, two or all are tried.
    """
    n = len(heads)
    for size in range(1, n + 1) if n <= MAX_SUBSET_HEADS else (1, 2, n):
        costs = [ablations.cost(*chosen) for chosen in itertools.combinations(heads, size)]
        worst = min(costs, key=lambda cost: cost.accuracy)
        if worst.accuracy <= level:
            return worst
    return None


def best_guess(task: Task, sets: Sequence[EvalSet]) -> float:
    """Per-state accuracy of the best guess of s_t that knows s_{t-1} but not x_t.

    Inputs are uniform over those that are drawn. Without chain of thought s_{L-1} is not written, so
    that the best guess is the likeliest last state.
    """
    table = task.table[:, task.first_input :]
    likeliest = torch.stack([torch.bincount(row).max() / table.shape[1] for row in table])
    values = []
    for test in sets:
        states = test.targets[:, :-1].cpu()
        if not test.layout.chain_of_thought:
            values.append((torch.bincount(states.flatten()).max() / states.numel()).expand(states.numel()))
            continue
        before = torch.cat([torch.full_like(states[:, :1], len(table) - 1), states[:, :-1]], 1)
        values.append(likeliest[before].flatten())
    return float(torch.cat(values).mean())
