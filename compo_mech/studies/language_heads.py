"""Which heads of a language model look at x_t while it writes a copy, which carry it, and which are needed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.edges import Writer
from compo_mech.pretrained.few_shot import FORMS, TASKS, drawn_lines, few_shot
from compo_mech.pretrained.head_patches import (
    Head,
    LastLine,
    Replaced,
    each_head_interchanged,
    heads_replaced,
    read_last_lines,
)
from compo_mech.pretrained.prefix import Prefix
from compo_mech.studies.language_units import Row, Unit

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

N_SHOTS, LENGTH, N_LINES = 24, 6, 3
N_SINGLE = 6
"""Prefixes of each form on which every head is interchanged alone."""

LOOKING = ((17, 4), (18, 6), (17, 5))
"""Heads of the highest weight on x_t in a trial of one form."""

CARRYING = ((23, 0), (18, 6), (29, 1))
"""Heads that together carried x_t in that trial."""

SETS: dict[str, Sequence[Head]] = {
    "L17H4": LOOKING[:1],
    "L23H0": CARRYING[:1],
    "L18H6": CARRYING[1:2],
    "L29H1": CARRYING[2:],
    "three that attend most": LOOKING,
    "L23H0 + L18H6": CARRYING[:2],
    "three that carry": CARRYING,
    "six that carry": (*CARRYING, (20, 8), (18, 7), (6, 0)),
}
N_RANDOM = 3


def random_heads(n_heads: int, generator: torch.Generator) -> list[Head]:
    """Draw as many heads as carry, from the same layers, none of which is among them."""
    found = []
    for layer, head in CARRYING:
        step = 1 + int(torch.randint(n_heads - 1, (1,), generator=generator))
        found.append((layer, (head + step) % n_heads))
    return found


def head_units(model: "HookedTransformer", n_prefixes: int) -> dict[str, Unit]:
    """Units of a form and a prefix, on which all is measured."""
    return {
        f"{name}-{i}": lambda name=name, i=i: head_rows(model, name, i) for i in range(n_prefixes) for name in FORMS
    }


def control_units(control: "HookedTransformer", n_prefixes: int) -> dict[str, Unit]:
    """Units of a form and a prefix, on which the attention of a network that nobody trained is measured."""
    return {
        f"control-{name}-{i}": lambda name=name, i=i: _labelled(name, i, looks(lines_of(control, name, i)))
        for i in range(n_prefixes)
        for name in FORMS
    }


def found_units(model: "HookedTransformer", n_prefixes: int, found: Mapping[str, Sequence[Head]]) -> dict[str, Unit]:
    """Units of a form and a prefix other than those on which sets of heads were found, to measure these sets."""
    return {
        f"found-{name}-{i}": lambda name=name, i=i: _labelled(name, i, set_rows(lines_of(model, name, i), found))
        for i in range(N_SINGLE, n_prefixes)
        for name in FORMS
    }


def found_sets(table: "pd.DataFrame", sizes: Sequence[int] = (1, 2, 3, 4, 6, 8, 12)) -> dict[str, list[Head]]:
    """Return the heads that move most of the difference of logits alone, so many of them, by their names."""
    moved = table[table["measure"] == "logits moved alone"].groupby("component")["value"].mean()
    ranked = moved.sort_values(ascending=False, kind="stable").index.tolist()
    heads = [tuple(int(number) for number in name.removeprefix("L").split("H")) for name in ranked]
    return {f"best {n}": [(layer, head) for layer, head in heads[:n]] for n in sizes}


def lines_of(model: "HookedTransformer", name: str, seed: int) -> list[LastLine]:
    """Read last lines after one prefix, all of them copies of digits."""
    generator = torch.Generator().manual_seed(1000 * list(FORMS).index(name) + seed)
    task = TASKS["copy digits"]
    before = drawn_lines(task, N_SHOTS - 1, LENGTH, generator)
    last = drawn_lines(task, N_LINES, LENGTH, generator)
    prompts = [few_shot(model.tokenizer, FORMS[name], [*before, line]) for line in last]  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        prefix = Prefix.of(model, prompts[0].tokens[: prompts[0].input_positions[-1][0]])
    return read_last_lines(prefix, prompts)


def head_rows(model: "HookedTransformer", name: str, seed: int) -> list[Row]:
    """Measure one prefix of one form."""
    lines, generator = lines_of(model, name, seed), torch.Generator().manual_seed(seed)
    sets = {**SETS, **{f"random {i}": random_heads(model.cfg.n_heads, generator) for i in range(N_RANDOM)}}
    rows = [*looks(lines), _counted("accuracy", "", [_right(line, line.logits) for line in lines])]
    rows += set_rows(lines, sets)
    if seed < N_SINGLE:
        rows += single_heads(lines[0], lines[1])
    return _labelled(name, seed, rows)


def set_rows(lines: Sequence[LastLine], sets: Mapping[str, Sequence[Head]]) -> list[Row]:
    """How many answers sets of heads carry, from one line to the next, and how many are right without them.

    The ablation value of a head is its mean over the rows of all lines.
    """
    rows: list[Row] = []
    by_layer = zip(*(line.z for line in lines), strict=True)
    mean = [torch.cat(z).mean((0, 1), keepdim=True).expand_as(z[0]) for z in by_layer]
    carried, ablated = [], []
    for line, other in zip(lines, [*lines[1:], lines[0]], strict=True):
        swapped = [Replaced(heads, other.z) for heads in sets.values()]
        logits = heads_replaced(line, [*swapped, *(Replaced(heads, mean) for heads in sets.values())])
        carried.append([_carried(line, other, found) for found in logits[: len(sets)]])
        ablated.append([_right(line, found) for found in logits[len(sets) :]])
    for i, label in enumerate(sets):
        rows.append(_counted("carried", label, [counts[i] for counts in carried]))
        rows.append(_counted("accuracy, ablated", label, [counts[i] for counts in ablated]))
    return rows


def looks(lines: Sequence[LastLine]) -> list[Row]:
    """Mean weight of each head on x_t, and on another input of the same string."""
    on_x, on_others = [], []
    for line in lines:
        keys = list(line.prompt.input_positions[-1])
        inputs = torch.stack(list(line.patterns))[..., keys]  # [layer, head, state, input]
        own = inputs.diagonal(dim1=-2, dim2=-1)
        on_x.append(own.mean(-1))
        on_others.append((inputs.sum(-1) - own).mean(-1) / (len(keys) - 1))
    measures = {"weight on x_t": on_x, "weight on another input": on_others}
    return [row for name, found in measures.items() for row in by_head(name, torch.stack(found).mean(0), len(lines))]


def by_head(measure: str, values: Float[Tensor, "layer head"], n: int) -> list[Row]:
    """Return a row for each head."""
    return [
        {"measure": measure, "component": str(Writer("head", layer, head)), "value": value, "n": n}
        for layer, of_layer in enumerate(values.tolist())
        for head, value in enumerate(of_layer)
    ]


def single_heads(line: LastLine, other: LastLine) -> list[Row]:
    """How many answers each head alone carries, and how much of the difference of logits it moves; none if none can."""
    rows: list[Row] = []
    states, foils, asked = line.states, other.states, _asked(line, other)
    if not asked.any():
        return rows

    def difference(logits: Tensor) -> Tensor:
        at = torch.arange(len(states))
        return (logits[..., at, foils] - logits[..., at, states])[..., asked]

    whole = difference(other.logits) - difference(line.logits)
    for layer, logits in enumerate(each_head_interchanged(line, other)):
        moved = ((difference(logits) - difference(line.logits)) / whole).mean(-1)
        n_carried = (logits.argmax(-1) == foils)[:, asked].sum(-1)
        for head in range(len(logits)):
            name = str(Writer("head", layer, head))
            rows.append(_counted("carried alone", name, [(int(n_carried[head]), int(asked.sum()))]))
            rows.append({"measure": "logits moved alone", "component": name, "value": float(moved[head]), "n": 1})
    return rows


def _asked(line: LastLine, other: LastLine) -> Tensor:
    """Which states differ, and are right in both lines."""
    both = (line.logits.argmax(-1) == line.states) & (other.logits.argmax(-1) == other.states)
    return both & (line.states != other.states)


def _carried(line: LastLine, other: LastLine, logits: Tensor) -> tuple[int, int]:
    """How many answers become the other line's, of those asked."""
    asked = _asked(line, other)
    return int((logits.argmax(-1) == other.states)[asked].sum()), int(asked.sum())


def _right(line: LastLine, logits: Tensor) -> tuple[int, int]:
    right = logits.argmax(-1) == line.states
    return int(right.sum()), right.numel()


def _counted(measure: str, component: str, counts: Sequence[tuple[int, int]]) -> Row:
    n_right, n = (sum(each) for each in zip(*counts, strict=True))
    return {"measure": measure, "component": component, "value": n_right, "n": n}


def _labelled(form: str, seed: int, rows: Sequence[Row]) -> list[Row]:
    return [{"form": form, "prefix": seed, **row} for row in rows]
