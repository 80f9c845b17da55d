"""A language model is taught parity with a chain of thought: how soon, by which heads, where the state is updated."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from compo_mech.cli.progress import counting
from compo_mech.data.tasks import Parity
from compo_mech.pretrained.few_shot import FORMS, few_shot
from compo_mech.pretrained.fine_tuning import fine_tune, n_right, read_strings, split_strings, starting_state
from compo_mech.pretrained.head_patches import LastLine, each_head_interchanged, read_last_lines
from compo_mech.pretrained.prefix import Prefix
from compo_mech.runs.tensor_files import read_tensors, write_tensors
from compo_mech.studies.language_heads import by_head, looks
from compo_mech.studies.language_units import Row
from compo_mech.training.loop import TrainState

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

TASK = Parity()
FIRST_LAYER = 18
"""Of those that are taught: the heads that carry a copy are in them."""

LENGTHS, TEST_LENGTHS = range(2, 9), (6, 8, 10)
"""Of the training strings, and of the test strings, of which the longest are longer than any that was trained on."""

LR, EVERY, N_TEST = 2e-4, 40, 24
PROBED_LENGTH, N_PAIRS = 8, 8


def teach(model: "HookedTransformer", out: Path, n_steps: int, console: Console) -> list[Row]:
    """Fine-tune the model in place, from where an earlier call was stopped; return losses and accuracies by step.

    Args:
        model: the network.
        out: file of weights, optimizer and rows, written anew as it goes.
        n_steps: steps in all.
        console: where the bar is shown, with the time left.

    Raises:
        ValueError: the file is damaged, or was taught for more steps.
    """
    state = starting_state(model, FIRST_LAYER, torch.Generator().manual_seed(0))
    tests = {length: _test_strings(length) for length in TEST_LENGTHS}
    read = {length: read_strings(model, TASK, strings, FIRST_LAYER) for length, strings in tests.items()}

    def tested(step: int) -> list[Row]:
        found = {length: n_right(model, *strings, FIRST_LAYER) for length, strings in read.items()}
        return [{"measure": "accuracy", "step": step, "length": i, "value": n, "n": of} for i, (n, of) in found.items()]

    rows = _resumed(out, state) if out.is_file() else tested(0)
    if state.step > n_steps:
        raise ValueError(f"n_steps = {n_steps}: must be at least {state.step}, as many as {out} was taught for")
    with counting(console) as bar:
        task = bar.add_task(out.stem, total=n_steps, completed=state.step)
        for step, loss in fine_tune(model, state, TASK, LENGTHS, FIRST_LAYER, n_steps, lr=LR):
            rows.append({"measure": "loss", "step": step, "value": loss, "n": 1})
            if step % EVERY == 0 or step == n_steps:
                rows += tested(step)
                _save(out, state, rows)
            bar.advance(task)
    return rows


def _save(out: Path, state: TrainState, rows: Sequence[Row]) -> None:
    """Keep weights, optimizer and generator in one file, with the step and the rows as its metadata."""
    write_tensors(out, state.params | state.tensors(), {"step": str(state.step), "rows": json.dumps(rows)})


@torch.no_grad()
def _resumed(out: Path, state: TrainState) -> list[Row]:
    """Bring a state to where `_save` kept it; return the rows."""
    try:
        tensors, metadata = read_tensors(out)
        step, rows = int(metadata["step"]), json.loads(metadata["rows"])
        weights = {name: tensors[name] for name in state.params}
    except (ValueError, KeyError) as error:
        raise ValueError(f"out = {out}: is damaged, remove it to start again ({error})") from None
    for name, weight in state.params.items():
        weight.copy_(weights[name])
    state.load_tensors(tensors)
    state.step = step
    return rows


def _test_strings(length: int) -> Int[Tensor, "string length"]:
    """Test strings, evenly from all of a length."""
    strings = split_strings(TASK, length, test=True)
    return strings[:: max(1, len(strings) // N_TEST)][:N_TEST]


def taught_head_rows(model: "HookedTransformer") -> list[Row]:
    """Return the weight of each head on x_t, and how many answers become those of the other string's x_t with it."""
    generator = torch.Generator().manual_seed(0)
    strings = _test_strings(PROBED_LENGTH)
    lines = _lines(model, strings[torch.randperm(len(strings), generator=generator)[: 2 * N_PAIRS]])
    counts = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    n_asked = 0
    for line, other in zip(lines[::2], lines[1::2], strict=True):
        x, other_x = (torch.tensor(one.prompt.lines[-1][0]) for one in (line, other))
        asked = (x != other_x) & (line.logits.argmax(-1) == line.states)
        counts += (each_head_interchanged(line, other).argmax(-1) == 1 - line.states)[..., asked].sum(-1)
        n_asked += int(asked.sum())
    return [*looks(lines), *by_head("carried alone", counts, n_asked)]


def probe_rows(model: "HookedTransformer") -> list[Row]:
    """Return how well s_t is read by a linear probe off the row that predicts it, before and after each component."""
    from sklearn.linear_model import LogisticRegression

    train, test = (_lines(model, split_strings(TASK, PROBED_LENGTH, test=is_test)[::2]) for is_test in (False, True))
    rows: list[Row] = []
    for layer in range(model.cfg.n_layers):
        for site in ("attn", "mlp"):
            (x, y), (test_x, test_y) = (_read(lines, layer, site) for lines in (train, test))
            probe = LogisticRegression(max_iter=1000, C=0.1).fit(x.numpy(), y.numpy())
            right = int((torch.from_numpy(probe.predict(test_x.numpy())) == test_y).sum())
            rows.append({"measure": "probe", "component": f"{site}{layer}", "value": right, "n": len(test_y)})
    return rows


def _lines(model: "HookedTransformer", strings: Int[Tensor, "string length"]) -> list[LastLine]:
    """Strings with their states, without examples before them."""
    states = TASK.states(strings)
    lines = zip(strings.tolist(), states.tolist(), strict=True)
    prompts = [few_shot(model.tokenizer, FORMS["plain"], [line]) for line in lines]  # pyright: ignore[reportArgumentType]
    return read_last_lines(Prefix.empty(model), prompts)


def _read(lines: Sequence[LastLine], layer: int, site: str) -> tuple[Float[Tensor, "row d_model"], Int[Tensor, "row"]]:
    """The stream behind a component at the rows that predict a state, scaled to unit mean square, and the states."""
    streams = [line.mids[layer] if site == "attn" else line.streams[layer + 1] for line in lines]
    x = torch.cat([stream[0, line.prompt.rows] for stream, line in zip(streams, lines, strict=True)])
    return x / x.square().mean(-1, keepdim=True).sqrt(), torch.cat([line.states for line in lines])
