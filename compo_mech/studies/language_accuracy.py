"""How often a language model writes the right state, task by task, beside what needs no model."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from compo_mech.pretrained.few_shot import FORMS, TASKS, Line, drawn_lines, few_shot
from compo_mech.studies.language_units import Row, Unit

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

N_SHOTS, LENGTH, N_SCORED = 24, 6, 8
"""Lines of a prompt, inputs of each, and how many of the last lines are scored."""

Baseline = Callable[[Line, int, int], int]
"""Guesses the state of a line at an index, given the state that the prompt shows most often."""


def _repeat(line: Line, t: int, most_frequent: int) -> int:
    """The state before, which the first state does not have."""
    return line[1][t - 1] if t else most_frequent


BASELINES: Mapping[str, Baseline] = {
    "most frequent state": lambda line, t, most_frequent: most_frequent,
    "repeat the last state": _repeat,
    "copy x_t": lambda line, t, most_frequent: line[0][t - len(line[1])],
}
"""Guesses without a model; without a chain of thought x_t is the last input."""


def accuracy_units(model: "HookedTransformer", n_prompts: int) -> dict[str, Unit]:
    """Units of a task, a form and a prompt."""
    asked = [(task, True) for task in TASKS] + [("parity", False)]
    return {
        f"{task}{'' if chain else ' at once'}-{form}-{i}".replace(" ", "_"): (
            lambda task=task, chain=chain, form=form, i=i: accuracy_rows(model, task, chain, form, i)
        )
        for i in range(n_prompts)
        for task, chain in asked
        for form in FORMS
    }


@torch.no_grad()
def accuracy_rows(model: "HookedTransformer", task: str, chain: bool, form: str, seed: int) -> list[Row]:
    """Score the last lines of one prompt, each state given the right ones before it."""
    generator = torch.Generator().manual_seed(seed)
    lines = drawn_lines(TASKS[task], N_SHOTS, LENGTH, generator, chain)
    prompt = few_shot(model.tokenizer, FORMS[form], lines)  # pyright: ignore[reportArgumentType]
    positions = [position for states in prompt.state_positions[-N_SCORED:] for position in states]
    stream = model(prompt.tokens[None], stop_at_layer=model.cfg.n_layers)[0, [p - 1 for p in positions]]
    right = model.unembed(model.ln_final(stream[None]))[0].argmax(-1) == prompt.tokens[positions]
    counts = {"the model": int(right.sum())} | {name: sum(n_right(lines, guess)) for name, guess in BASELINES.items()}
    label = task if chain else f"{task}, at once"
    return [
        {
            "task": label,
            "form": form,
            "prefix": seed,
            "measure": "accuracy",
            "component": name,
            "value": n,
            "n": len(right),
        }
        for name, n in counts.items()
    ]


def n_right(lines: Sequence[Line], guess: Baseline) -> list[int]:
    """Return for each scored line how many states a guess gets right."""
    ((most_frequent, _),) = Counter(s for _, states in lines[:-N_SCORED] for s in states).most_common(1)
    return [
        sum(guess(line, t, most_frequent) == state for t, state in enumerate(line[1])) for line in lines[-N_SCORED:]
    ]
