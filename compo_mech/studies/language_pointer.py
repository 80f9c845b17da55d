"""Does a language model copy by content (what followed the last token) or by position (a pointer)?

A line whose states start further on tells: `735914=594` goes on with 1 by content and with 9 by position.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from compo_mech.interventions.edges import Writer
from compo_mech.pretrained.few_shot import FORMS, N_DIGITS, TASKS, Line, drawn_lines, few_shot
from compo_mech.pretrained.head_patches import LastLine, read_last_lines
from compo_mech.pretrained.prefix import Prefix
from compo_mech.studies.language_heads import CARRYING, LOOKING, N_SHOTS
from compo_mech.studies.language_units import Row, Unit

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SHIFT = 2
"""Inputs that the states of a shifted line leave out."""

N_LINES = 4
"""Of each kind after a prefix."""

CELLS = (("plain", 6), ("commas", 6), ("words", 6), ("plain", 9))
"""Forms with the lengths that are asked in them."""


def pointer_units(model: "HookedTransformer", n_prefixes: int) -> dict[str, Unit]:
    """Units of a form, a length and a prefix."""
    return {
        f"{form}-{length}-{i}": lambda form=form, length=length, i=i: pointer_rows(model, form, length, i)
        for i in range(n_prefixes)
        for form, length in CELLS
    }


def lines_of_kind(kind: str, length: int, generator: torch.Generator) -> Line:
    """Draw a line of distinct inputs; of inputs one of which comes twice; or of distinct ones, its states shifted."""
    inputs = torch.randperm(N_DIGITS, generator=generator)[:length].tolist()
    if kind == "repeated":
        first = int(torch.randint(length - 3, (1,), generator=generator))
        second = first + 2 + int(torch.randint(length - 3 - first, (1,), generator=generator))
        inputs[second] = inputs[first]
    return inputs, inputs[SHIFT:] if kind == "shifted" else inputs


@torch.no_grad()
def pointer_rows(model: "HookedTransformer", form: str, length: int, seed: int) -> list[Row]:
    """Measure one prefix: what is predicted, and what the heads of a trial look at."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    before = drawn_lines(TASKS["copy digits"], N_SHOTS - 1, length, generator)
    rows: list[Row] = []
    prefix = None
    for kind in ("distinct", "repeated", "shifted"):
        last = [lines_of_kind(kind, length, generator) for _ in range(N_LINES)]
        prompts = [few_shot(model.tokenizer, FORMS[form], [*before, line]) for line in last]  # pyright: ignore[reportArgumentType]
        if prefix is None:
            prefix = Prefix.of(model, prompts[0].tokens[: prompts[0].input_positions[-1][0]])
        found = kind_rows(kind, read_last_lines(prefix, prompts))
        rows += [{"form": form, "length": length, "prefix": seed, "kind": kind, **row} for row in found]
    return rows


def kind_rows(kind: str, lines: Sequence[LastLine]) -> list[Row]:
    """What lines of a kind tell, at the rows after a state that settle something.

    Of distinct inputs both say x_t. After the first state of two inputs, content says what followed either, position
    x_t. In a shifted line content says the input after the last state, position x_t.
    """
    rows: list[Row] = []
    for line in lines:
        inputs, states = line.prompt.lines[-1]
        for t in range(1, len(states)):
            if kind == "repeated" and inputs.count(states[t - 1]) == 1:
                continue
            by_content = [i + 1 for i, x in enumerate(inputs[:-1]) if x == states[t - 1]]
            digit = int(line.logits[t].argmax())
            said = {
                "position": digit == inputs[t],
                "content": digit in [inputs[i] for i in by_content],
            }
            for by, right in said.items():
                rows.append({"measure": f"answers by {by}", "component": "the model", "value": int(right), "n": 1})
            for head in dict.fromkeys((*LOOKING, *CARRYING)):
                name = str(Writer("head", *head))
                for by, keys in (("position", [t]), ("content", by_content)):
                    value = _weight(line, head, t, [line.prompt.input_positions[-1][key] for key in keys])
                    rows.append({"measure": f"weight by {by}", "component": name, "value": value, "n": 1})
    return rows


def _weight(line: LastLine, head: tuple[int, int], t: int, keys: Sequence[int]) -> float:
    return float(line.patterns[head[0]][head[1], t, list(keys)].sum())
