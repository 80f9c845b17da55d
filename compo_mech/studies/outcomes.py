"""Many seeds of one recipe in one stack, followed from their first weights: how they end, and how early that shows."""

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field
from rich.console import Console

from compo_mech.analyses.trajectories import N_ROUTE_STRINGS, route_lengths
from compo_mech.cli.command import Count, NThreads
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.kept_pieces import KeptPieces
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.progress import counting
from compo_mech.cli.tables import print_table
from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation.attention import AttentionVerdict
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.evaluation.stacked import DIVERGED, Measured, measure_each
from compo_mech.launch.ensemble import new_members
from compo_mech.launch.settings import check_device
from compo_mech.model.params import Model, Params
from compo_mech.routes.route_map import route_shares
from compo_mech.routes.summary import RouteName, main_route
from compo_mech.routes.swaps import route_strings
from compo_mech.runs import recipes
from compo_mech.runs.config import RunConfig
from compo_mech.runs.source import source_checksum
from compo_mech.stats.intervals import wilson
from compo_mech.studies.first_weights import WEIGHTS, weight_measures
from compo_mech.training import loop
from compo_mech.training.ensemble import Ensemble

if TYPE_CHECKING:
    import pandas as pd

STEPS = (0, 25, 50, 100, 200, 400, 800, 1600)
"""Where the networks are measured, and at the end."""
N_TEST_STRINGS = 64
HEAD_MEASURES = (
    *("iteration", "lookup", "entropy", "pointer_weight", "pointer_sharp_rows"),
    *("iteration_first", "iteration_middle", "iteration_last", "end_on_end_of_input"),
)
EARLY = [f"L{layer}H0 {name}" for layer in (0, 1) for name in HEAD_MEASURES] + ["accuracy", "loss"]
"""What may foretell the outcome."""


def outcomes(
    n_seeds: Count = 600,
    n_at_once: Count = 600,
    n_steps: Annotated[int | None, Field(ge=1, le=100_000)] = None,
    n_threads: NThreads = 1,
    device: str = "cpu",
    out: Path = Path("outcomes.csv"),
) -> None:
    """Train and follow seeds of parity without an initial phase; write OUT.csv and OUT-foretold.csv.

    Args:
        n_seeds: how many.
        n_at_once: of those, in one stack; each is kept when it is done, and takes hours on a CPU if it is large.
        n_steps: of training; None: the recipe's.
        n_threads: of the CPU.
        device: as torch names it.
        out: the table of seeds and steps; beside it that of how early the outcome is known.
    """
    import pandas as pd

    kept = out.with_suffix(".kept")
    with one_line_errors():
        check_device(device)
        check_out(out, ".csv")
    torch.set_num_threads(n_threads)
    config, console = recipes.parity_alone(), Console()
    if n_steps is not None:
        config = config.model_copy(update={"train": config.train.model_copy(update={"n_steps": n_steps})})
    groups = [range(start, min(start + n_at_once, n_seeds)) for start in range(0, n_seeds, n_at_once)]
    plain = repr((config, device, source_checksum(__name__)))
    folder, tables = kept / hashlib.sha256(plain.encode()).hexdigest()[:16], []
    total, hint = (
        len(groups) * config.train.n_steps,
        f"the same command goes on from the stacks that are kept in {kept}",
    )
    with one_line_errors(lambda: hint), counting(console) as bar:
        keeper, task = KeptPieces(folder, bar), bar.add_task("training", total=total)
        for i, seeds in enumerate(groups, start=1):
            ask = partial(_followed, config, seeds, device, partial(bar.advance, task))
            tables.append(pd.DataFrame(keeper.piece(f"seeds {seeds}", ask)))
            bar.update(task, completed=i * config.train.n_steps)
    followed = pd.concat(tables, ignore_index=True)
    write_table(out, followed, "%.4g")
    print_table(console, ends(followed[followed["step"] == followed["step"].max()]))
    from compo_mech.studies.foretelling import MIN_EACH, foretold  # with sklearn, which --help need not wait for

    asked = {"attention, accuracy and loss": EARLY, "weights": WEIGHTS}
    known = pd.concat([foretold(followed, of).assign(by=name) for name, of in asked.items()])
    if known.empty:
        say(console, f"Fewer than {MIN_EACH} seeds end otherwise than the rest: nothing can be foretold.")
    else:
        write_table(out.with_stem(f"{out.stem}-foretold"), known, "%.4g")
        print_table(console, known)


def _followed(
    config: RunConfig, seeds: Sequence[int], device: str, advance: Callable[[], None]
) -> list[dict[Hashable, Any]]:
    """Rows of every seed at every step that is measured."""
    import pandas as pd

    members = new_members(config, seeds, device)
    stream, sets = TrainingStream(config.data, seeds, device), eval_sets(config.data, N_TEST_STRINGS, device)
    found = [_measured(members, config, sets, seeds)]
    wanted = {*STEPS, config.train.n_steps}
    for step, _ in loop.train(members, stream, config.model, config.optim, config.train):
        advance()
        if step in wanted:
            found.append(_measured(members, config, sets, seeds))
    found[-1] = found[-1].assign(**_routes(members.params, config))
    return pd.concat(found).to_dict("records")


def _measured(members: Ensemble, config: RunConfig, sets: list[EvalSet], seeds: Sequence[int]) -> "pd.DataFrame":
    import pandas as pd

    columns = summary(measure_each(members.params, config.model, config.data, sets))
    return pd.DataFrame({"seed": seeds, "step": members.step} | columns | weight_measures(members.params))


def _routes(params: Params, config: RunConfig) -> dict[str, list[Any]]:
    """By which route x_t reaches the prediction of s_t in each network, at the longest length and at half of it; and
    the fraction of its effect that goes by the textbook one."""
    names, textbook, data = list[str](), list[float](), config.data
    generator, device = torch.Generator().manual_seed(0), params["embed.W_E"].device
    lengths = route_lengths(data)[::-1]  # the longest first, as of the committed table
    strings = route_strings(data, data.tasks[0], lengths, N_ROUTE_STRINGS, generator, device)
    for i in range(len(params["embed.W_E"])):
        model = Model({name: param[i].detach() for name, param in params.items()}, config.model)
        if not all(bool(param.isfinite().all()) for param in model.params.values()):
            names, textbook = [*names, DIVERGED], [*textbook, math.nan]
            continue
        shares = route_shares(model, data.layout, strings)
        names, textbook = [*names, str(main_route(shares))], [*textbook, shares.get(RouteName.TEXTBOOK, 0.0)]
    return {"route": names, "textbook route": textbook}


def summary(measured: Sequence[Measured]) -> dict[str, np.ndarray]:
    """One number a network of each of `EARLY`, the accuracy at the worst length, and the verdict on layer 1's head, or
    that training diverged."""
    of_heads = {(what.layer, what.metric): value for what, value in measured if what.split == "mean" and what.head == 0}
    by_length = {
        name: np.stack([value for what, value in measured if what.metric == name and what.layer is None])
        for name in ("generated_accuracy", "loss")
    }
    found = {f"L{layer}H0 {name}": of_heads[layer, name] for layer in (0, 1) for name in HEAD_MEASURES}
    found |= {"accuracy": by_length["generated_accuracy"].mean(0), "loss": by_length["loss"].mean(0)}
    verdicts = [DIVERGED if math.isnan(v) else str(AttentionVerdict(int(v))) for v in of_heads[1, "verdict"]]
    return found | {"worst_accuracy": by_length["generated_accuracy"].min(0), "verdict": np.array(verdicts)}


def ends(last: "pd.DataFrame") -> "pd.DataFrame":
    """How many seeds end with each verdict, accuracy and, where it was asked, route, with Wilson's intervals, given
    their rows at the last step."""
    import pandas as pd

    verdicts = [*map(str, AttentionVerdict), DIVERGED]
    counts = {verdict: int((last["verdict"] == verdict).sum()) for verdict in verdicts}
    right = last["worst_accuracy"] >= 0.99
    counts |= {"accuracy ≥ 0.99 at every length": int(right.sum())}
    counts |= {"that, and textbook": int((right & (last["verdict"] == str(AttentionVerdict.TEXTBOOK))).sum())}
    if "route" in last:
        counts |= {f"x_t by the route: {route}": int(n) for route, n in last["route"].value_counts().items()}
    rows = [(what, n, *wilson(n, len(last))) for what, n in counts.items()]
    return pd.DataFrame(rows, columns=["seeds that end", "n", "fraction", "low", "high"])
