"""The study of a language model: its parts, which can be asked for one by one and go on where they were stopped."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from rich.console import Console

from compo_mech.circuits.prompts import take_rows
from compo_mech.cli.command import Count, NThreads
from compo_mech.cli.output import say, write_table
from compo_mech.model.params import Model
from compo_mech.pretrained.control import control_of
from compo_mech.pretrained.smollm2 import smollm2
from compo_mech.studies.language_accuracy import accuracy_units
from compo_mech.studies.language_circuit import KINDS, accuracy, judged, score_rows
from compo_mech.studies.language_heads import N_SINGLE, control_units, found_sets, found_units, head_units
from compo_mech.studies.language_pointer import pointer_units
from compo_mech.studies.language_summary import summaries
from compo_mech.studies.language_taught import probe_rows, taught_head_rows, teach
from compo_mech.studies.language_units import Row, measured

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

Part = Literal["accuracy", "heads", "found", "control", "pointer", "circuits", "taught"]
PARTS: tuple[Part, ...] = ("accuracy", "heads", "found", "control", "pointer", "circuits", "taught")
N_CTX = 1024
N_SCORED_ROWS, N_JUDGED_ROWS, N_ASKED = 8, 4, 48
"""Prompts that edges are scored on, others that circuits are judged on, and those that accuracy is told of."""


def language_model(
    path: Path | None = None,
    out: Path = Path("runs/language_model"),
    parts: tuple[Part, ...] = PARTS,
    n_prefixes: Count = 12,
    n_steps: Count = 400,
    n_threads: NThreads = 1,
) -> None:
    """Does a language model that reasons step by step use an iteration head?

    Args:
        path: the file, wheel or folder of SmolLM2; None: the installed package.
        out: where what is measured is kept; the same command goes on there.
        parts: of the study.
        n_prefixes: prompts of 24 examples, of each form.
        n_steps: of fine-tuning.
        n_threads: of one process.

    Raises:
        ValueError: there is no such model, or sets of heads have no prefix that they were not found on.
    """
    import pandas as pd

    if "found" in parts and n_prefixes <= N_SINGLE:
        raise ValueError(f"n_prefixes = {n_prefixes}: must be above {N_SINGLE}, on which sets of heads are found")
    torch.set_num_threads(n_threads)
    console, model = Console(), smollm2(path, N_CTX)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for part in sorted(parts, key=PARTS.index):  # what is taught changes the model, so it comes last
        if part == "taught":
            table = taught(model, out, n_steps, console)
        else:
            table = measured_part(model, part, out, n_prefixes, console)
        write_table(out / f"{part}.csv", table, float_format="%.6g")
    known = [pd.read_csv(out / f"{part}.csv", encoding="utf-8") for part in PARTS if (out / f"{part}.csv").is_file()]
    write_table(out / "language_model.csv", summaries(known), float_format="%.4g")
    say(console, f"Table: {out / 'language_model.csv'}")


def measured_part(
    model: "HookedTransformer", part: Part, out: Path, n_prefixes: int, console: Console
) -> "pd.DataFrame":
    """Measure what is missing of a part."""
    if part == "accuracy":
        return measured(out, part, accuracy_units(model, max(1, n_prefixes // 3)), console)
    if part == "found":
        heads = measured(out, "heads", head_units(model, n_prefixes), console)
        return measured(out, part, found_units(model, n_prefixes, found_sets(heads)), console)
    if part == "control":
        control = control_of(model, torch.Generator().manual_seed(0))
        return measured(out, part, control_units(control, max(1, n_prefixes // 3)), console)
    if part == "pointer":
        return measured(out, part, pointer_units(model, max(1, n_prefixes // 3)), console)
    if part == "circuits":
        return circuits(model, out, console)
    return measured(out, part, head_units(model, n_prefixes), console)


def circuits(hooked: "HookedTransformer", out: Path, console: Console) -> "pd.DataFrame":
    """Score all edges on some prompts of each kind, and judge the circuits on others."""
    import pandas as pd

    model, tables = Model.of(hooked), []
    for kind, make in KINDS.items():
        prompts = make(hooked.tokenizer, N_ASKED, torch.Generator().manual_seed(0))  # pyright: ignore[reportArgumentType]
        pairs, name = prompts.pairs(model), kind.replace(" ", "_")
        rows = [take_rows(pairs, torch.tensor([i])) for i in range(N_SCORED_ROWS)]
        units = {f"{name}-{i}": lambda row=row: score_rows(model, row) for i, row in enumerate(rows)}
        scores = measured(out, "edge_scores", units, console)["value"].to_numpy()
        others = take_rows(pairs, torch.arange(N_SCORED_ROWS, N_SCORED_ROWS + N_JUDGED_ROWS))

        def judge(scores=scores, pairs=pairs, others=others) -> list[Row]:
            n_right, n = accuracy(model, pairs)
            by_row = torch.from_numpy(scores).view(N_SCORED_ROWS, -1)
            answers: Row = {"measure": "accuracy", "component": "the model", "value": n_right, "n": n}
            return [answers, *judged(model, others, by_row)]

        tables.append(measured(out, "circuits", {name: judge}, console).assign(kind=kind))
    return pd.concat(tables, ignore_index=True)


def taught(model: "HookedTransformer", out: Path, n_steps: int, console: Console) -> "pd.DataFrame":
    """Teach parity to the model and to a control of random weights, and measure both before and after."""
    import pandas as pd

    folder = out / "taught"
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for name in ("pretrained", "random start"):
        network = model if name == "pretrained" else control_of(model, torch.Generator().manual_seed(0))

        def looked(network: "HookedTransformer" = network) -> list[Row]:
            return [*taught_head_rows(network), *probe_rows(network)]

        before = measured(out, "taught_heads", {f"{name}, before".replace(" ", "_"): looked}, console)
        log = teach(network, folder / f"{name.replace(' ', '_')}.safetensors", n_steps, console)
        after = measured(out, "taught_heads", {f"{name}, {n_steps}".replace(" ", "_"): looked}, console)
        steps = pd.DataFrame(log).assign(unit=name)
        found = (before.assign(step=0), steps, after.assign(step=n_steps))
        tables += [table.assign(network=name, part="taught") for table in found]
    return pd.concat(tables, ignore_index=True)
