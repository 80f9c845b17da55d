"""Circuits of a language model by its edges: for copying after a few examples, induction on random tokens, and names.

Edges are scored by EAP-IG row by row, so that a bootstrap over prompts costs nothing more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.gradient_scorers import eap_ig
from compo_mech.interventions.edges import Edge, all_edges
from compo_mech.interventions.metrics import answered, logit_difference
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.finite import likeliest
from compo_mech.model.forward import forward
from compo_mech.model.params import Model
from compo_mech.pretrained.few_shot import FORMS, TASKS, drawn_lines, few_shot
from compo_mech.stats.intervals import Interval
from compo_mech.studies.language_units import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_SHOTS, LENGTH = 6, 6
"""Lines of a copying prompt, fewer than where heads are patched, and inputs of each."""

N_RANDOM_TOKENS, N_REPEATED = 16, 12
"""Random tokens of an induction prompt, and how many of them come again."""

NAMES = ("Mary", "John", "Tom", "Anna", "James", "Paul", "Sarah", "Mark", "Laura", "Peter")
PLACES = ("store", "park", "school", "office", "station", "beach")
THINGS = ("book", "drink", "key", "letter", "ball", "ring")
SIZES = (30, 100, 300, 1000, 3000, 10000)
N_RESAMPLES = 200
N_EXACT = 20


@dataclass(frozen=True)
class Prompts:
    """Clean and corrupt prompts as token ids, with the answers to both at some positions of each."""

    clean: list[list[int]]
    corrupt: list[list[int]]
    answer: list[list[int]]
    foil: list[list[int]]
    position: list[list[int]]

    def pairs(self, model: Model) -> Pairs:
        """Return them as pairs."""
        return Pairs.of(model, self.clean, self.corrupt, self.answer, self.foil, position=self.position)


def copying(tokenizer: "PreTrainedTokenizerBase", n: int, generator: torch.Generator) -> Prompts:
    """Draw prompts whose last line is another one in the corrupt prompt, of no digit in its place."""
    found = Prompts([], [], [], [], [])
    for _ in range(n):
        *before, line = drawn_lines(TASKS["copy digits"], N_SHOTS, LENGTH, generator)
        steps = torch.randint(1, 10, (LENGTH,), generator=generator).tolist()
        other = [(x + step) % 10 for x, step in zip(line[0], steps, strict=True)]
        one, two = (few_shot(tokenizer, FORMS["plain"], [*before, last]) for last in (line, (other, other)))
        for rows, prompt in ((found.clean, one), (found.corrupt, two)):
            rows.append(prompt.tokens[: prompt.state_positions[-1][-1]].tolist())
        found.answer.append(one.answers.tolist())
        found.foil.append(two.answers.tolist())
        found.position.append([position - 1 for position in one.state_positions[-1]])
    return found


def induction(tokenizer: "PreTrainedTokenizerBase", n: int, generator: torch.Generator) -> Prompts:
    """Draw random tokens of which the first come again; the corrupt prompt differs in the token that follows them."""
    found = Prompts([], [], [], [], [])
    for _ in range(n):
        drawn = (1000 + torch.randperm(20_000, generator=generator)[: N_RANDOM_TOKENS + 1]).tolist()
        once, other = drawn[:-1], drawn[-1]
        changed = [*once[:N_REPEATED], other, *once[N_REPEATED + 1 :]]
        found.clean.append(once + once[:N_REPEATED])
        found.corrupt.append(changed + once[:N_REPEATED])
        found.answer.append([once[N_REPEATED]])
        found.foil.append([other])
        found.position.append([-1])
    return found


def indirect_objects(tokenizer: "PreTrainedTokenizerBase", n: int, generator: torch.Generator) -> Prompts:
    """Draw sentences of two names that end before the one who is given something; the corrupt giver is the other.

    After Wang et al. 2022 (arXiv 2211.00593).
    """
    found = Prompts([], [], [], [], [])
    for _ in range(n):
        one, two = (NAMES[i] for i in torch.randperm(len(NAMES), generator=generator)[:2].tolist())
        place, thing = (words[int(torch.randint(len(words), (1,), generator=generator))] for words in (PLACES, THINGS))
        for rows, answers, giver, taker in (
            (found.clean, found.answer, one, two),
            (found.corrupt, found.foil, two, one),
        ):
            text = f"Then, {one} and {two} went to the {place}. {giver} gave a {thing} to"
            rows.append(tokenizer(text)["input_ids"])  # pyright: ignore[reportArgumentType]
            (token,) = tokenizer(f" {taker}")["input_ids"]  # pyright: ignore[reportGeneralTypeIssues]
            answers.append([token])
        found.position.append([-1])
    return found


KINDS: dict[str, Callable[["PreTrainedTokenizerBase", int, torch.Generator], Prompts]] = {
    "copying": copying,
    "induction": induction,
    "indirect objects": indirect_objects,
}


@torch.no_grad()
def accuracy(model: Model, pairs: Pairs) -> tuple[int, int]:
    """Return how many answers to the clean prompts are the likeliest token, and of how many."""
    logits = forward(model, pairs.clean_tokens).view(*pairs.clean_tokens.shape, -1)[pairs.row, pairs.position]
    return int((likeliest(logits) == pairs.target).sum()), len(pairs.target)


def score_rows(model: Model, row: Pairs) -> list[Row]:
    """Score all edges, in their order, by EAP-IG of 5 steps on one prompt; the mean of prompts is the score on all."""
    found = eap_ig(model, row, all_edges(model.config), logit_difference)
    return [{"value": value} for value in found.scores.tolist()]


def judged(model: Model, pairs: Pairs, scores: Float[Tensor, "row edge"]) -> list[Row]:
    """Measure the order of edges that scores on some prompts give, on others.

    Args:
        model: the network.
        pairs: the other prompts.
        scores: of the first ones.
    """
    generator, edges = torch.Generator().manual_seed(0), all_edges(model.config)
    mean = scores.mean(0)
    order = [edges[i] for i in mean.abs().argsort(descending=True, stable=True).tolist()]
    overlap = [
        {"measure": f"overlap, {end}", "component": "edges of highest score", "size": size, "value": value}
        for size in SIZES
        for end, value in bootstrap(scores, size, generator)._asdict().items()
    ]
    exact_scores = exact_rows(model, pairs, order, dict(zip(edges, mean.tolist(), strict=True)))
    return [*overlap, *circuit_rows(model, pairs, order, generator), *exact_scores]


def bootstrap(scores: Float[Tensor, "row edge"], size: int, generator: torch.Generator) -> Interval:
    """Overlap (Jaccard) of the edges of highest score on resampled prompts with those on all."""

    def best(of: Float[Tensor, "edge"]) -> frozenset[int]:
        return frozenset(of.abs().topk(size).indices.tolist())

    n, whole = len(scores), best(scores.mean(0))
    draws = [torch.randint(n, (n,), generator=generator) for _ in range(N_RESAMPLES)]
    found = [best(scores[draw].mean(0)) for draw in draws]
    return Interval.of([len(whole & other) / len(whole | other) for other in found])


def circuit_rows(model: Model, pairs: Pairs, order: Sequence[Edge], generator: torch.Generator) -> list[Row]:
    """How faithful circuits of growing size are, beside random ones, on prompts that did not choose the order."""
    rows: list[Row] = []
    for name, metric in (("faithfulness", logit_difference), ("answers kept", answered)):
        behaviour = Behaviour(model, pairs, metric)
        for size in SIZES:
            drawn = {"edges of highest score": order[:size], "random edges": behaviour.random_circuit(size, generator)}
            for label, edges in drawn.items():
                value = behaviour.faithfulness(edges) if name == "faithfulness" else behaviour.value(edges)
                rows.append({"measure": name, "component": label, "size": size, "value": value, "n": len(pairs.row)})
    return rows


def exact_rows(model: Model, pairs: Pairs, order: Sequence[Edge], scores: dict[Edge, float]) -> list[Row]:
    """What exact patching says of the edges of highest score."""
    found = exact(model, pairs, order[:N_EXACT], logit_difference).scores.tolist()
    return [
        row
        for edge, value in zip(order[:N_EXACT], found, strict=True)
        for row in (
            {"measure": "exact", "component": str(edge), "value": value, "n": len(pairs.row)},
            {"measure": "EAP-IG", "component": str(edge), "value": scores[edge], "n": len(pairs.row)},
        )
    ]
