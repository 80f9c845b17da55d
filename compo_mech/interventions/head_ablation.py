"""What is lost without a head, an MLP, or a set of them."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.encode import Encoded, encode
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import EvalSet
from compo_mech.interventions.ablation import Baseline, ablated_logits, ablation_values
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import Rows, embeddings, run_graph, run_writers
from compo_mech.interventions.streams import Outputs
from compo_mech.model.finite import check_weights, likeliest
from compo_mech.model.params import Model

COSTS = 0.02
"""An ablation that costs less of the accuracy than this costs nothing."""

MAX_SUBSET_HEADS = 8
"""Of more heads not every set is ablated."""


@dataclass(frozen=True)
class Cost:
    """What the ablation of some components does.

    Attributes:
        components: heads and MLPs that put out their ablation values.
        baseline: what these values are.
        accuracy: fraction of states that are right, given the true tokens before them.
        cost: by how much less that is than without ablation.

    >>> Cost((Writer("head", 1, 0),), "mean", accuracy=0.5, cost=0.5).cost
    0.5
    """

    components: tuple[Writer, ...]
    baseline: Baseline
    accuracy: float
    cost: float


class Ablations:
    """Per-state accuracy of a network some of whose components put out their ablation values.

    These are taken from other strings of the same length: `mean` is their mean at each position, so that what depends
    on position and length alone stays as it is.

    Args:
        model: the network.
        sets: test strings, each set of one length.
        baseline: what the ablation values are.
        generator: draws the other strings.
        n_reference: other strings of each length, at least as many as there are test strings.

    Attributes:
        outputs: what every writer puts out on the strings of each set; the last MLP only where a state is predicted.
        values: what it puts out there when it is ablated.
        whole: accuracy without ablation.

    Raises:
        ValueError: there are no test strings, or a weight or a logit is not finite.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built = build(Parity(), max_length=3)
    >>> ablations = Ablations(built.model, eval_sets(built.data, 8), "mean", torch.Generator().manual_seed(0), 16)
    >>> ablations.whole, ablations.cost(Writer("head", 1, 0)).cost  # without x_t parity is a coin toss
    (1.0, 0.5)
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
        check_weights(model)
        self.model, self.sets, self._n_reference = model, sets, n_reference
        self._rows = [_state_rows(test, len(test.tokens)) for test in sets]
        with torch.no_grad():
            runs = [
                run_graph(model, embeddings(model, test.read, test.position_ids), at=rows)
                for test, rows in zip(sets, self._rows, strict=True)
            ]
        self.outputs = [outputs for outputs, _ in runs]
        self.whole = self._accuracy_of(logits for _, logits in runs)
        self._draw(baseline, generator)

    def with_baseline(self, baseline: Baseline, generator: torch.Generator) -> "Ablations":
        """The same test strings with ablation values of another kind or draw: the network is not rerun."""
        other = copy.copy(self)
        other._draw(baseline, generator)
        return other

    def _draw(self, baseline: Baseline, generator: torch.Generator) -> None:
        self.baseline: Baseline = baseline
        self.values: list[Outputs] = []
        self._kept: dict[frozenset[Writer], float] = {frozenset(): self.whole}
        for test, own, other in zip(self.sets, self.outputs, self.other_strings(generator), strict=True):
            n = len(test.tokens)
            outputs = own if baseline == "zero" else self._outputs_of(other, test)  # zero is zero, whatever the strings
            values = ablation_values(self.model, outputs, baseline, generator)
            self.values.append({writer: value[:n] for writer, value in values.items()})

    def other_strings(self, generator: torch.Generator) -> Iterator[Encoded]:
        """Draw the strings of each set that ablation values come from, one set after the other."""
        for test in self.sets:
            yield _other_strings(test, max(len(test.tokens), self._n_reference), generator)

    @torch.no_grad()
    def _outputs_of(self, strings: Encoded, test: EvalSet) -> Outputs:
        distinct, which = strings.tokens.unique(dim=0, return_inverse=True)  # short strings come up many times
        strings = Encoded(distinct)
        inputs = embeddings(self.model, strings.read, strings.position_ids)
        at = None if self.baseline.endswith("over_positions") else _state_rows(test, len(distinct))
        outputs = run_writers(self.model, inputs, at=at)
        return {writer: out[which] for writer, out in outputs.items()}

    def _accuracy_of(self, logits: Iterable[Float[Tensor, "row d_vocab"]]) -> float:
        """The fraction of states that are right, over all sets, given the logits where they are predicted."""
        right = []
        for test, found in zip(self.sets, logits, strict=True):
            right.append(likeliest(found) == test.targets[:, :-1].flatten())
        return float(torch.cat(right).float().mean())

    def accuracy(self, components: Sequence[Writer]) -> float:
        """The fraction of states that are right without these components, over all sets; it is kept."""
        gone = frozenset(components)
        if gone not in self._kept:
            known = zip(self.outputs, self.values, self._rows, strict=True)
            logits = (ablated_logits(self.model, own, gone, values, rows) for own, values, rows in known)
            self._kept[gone] = self._accuracy_of(logits)
        return self._kept[gone]

    def cost(self, *components: Writer) -> Cost:
        accuracy = self.accuracy(components)
        return Cost(components, self.baseline, accuracy, self.whole - accuracy)

    def subsets(self, components: Sequence[Writer]) -> Iterator[Cost]:
        """Every set of these components but the empty one, small ones first."""
        for n in range(1, len(components) + 1):
            for chosen in itertools.combinations(components, n):
                yield self.cost(*chosen)

    def greedy(self, components: Sequence[Writer]) -> Iterator[Cost]:
        """Ablate one component after the other, always the one that costs least then."""
        gone: tuple[Writer, ...] = ()
        left = list(components)
        while left:
            best = max((self.cost(*gone, component) for component in left), key=lambda cost: cost.accuracy)
            gone = best.components
            left.remove(gone[-1])
            yield best


def _state_rows(test: EvalSet, n_strings: int) -> Rows:
    """Where so many strings of the test's length predict their states, string by string."""
    positions = torch.tensor(list(test.layout.scored(test.length))[:-1], device=test.tokens.device)
    strings = torch.arange(n_strings, device=positions.device)
    return strings.repeat_interleave(len(positions)), positions.repeat(n_strings)


def _other_strings(test: EvalSet, n: int, generator: torch.Generator) -> Encoded:
    """Random strings of the same task and length, whatever their split."""
    task = test.task
    inputs = torch.randint(task.first_input, task.n_inputs, (n, test.length), generator=generator)
    return Encoded(encode(test.data, task, inputs).tokens.to(test.tokens.device))


def smallest_removal(ablations: Ablations, heads: Sequence[Writer], level: float) -> Cost | None:
    """The fewest heads whose ablation brings accuracy to `level` or below; of equals, the most costly.

    None: not even all of them do. Of more than `MAX_SUBSET_HEADS` heads only one, two or all are tried.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built = build(Parity(), max_length=3)
    >>> ablations = Ablations(built.model, eval_sets(built.data, 8), "mean", torch.Generator().manual_seed(0), 16)
    >>> found = smallest_removal(ablations, [Writer("head", 1, 0), Writer("head", 1, 1)], level=0.6)
    >>> [str(writer) for writer in found.components], found.accuracy
    (['L1H0'], 0.5)
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

    Inputs are uniform over those that are drawn. Without chain of thought s_{L-1} is not written, so that the best
    guess is the likeliest last state.

    >>> from compo_mech import DataConfig, Parity, eval_sets
    >>> best_guess(Parity(), eval_sets(DataConfig(max_length=3), 8))
    0.5
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
