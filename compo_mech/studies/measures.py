"""What studies ask of a run: what came of it, which heads do the work, what is held where, what special rows need."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from compo_mech.analyses.trajectories import interchange_scores, route_scores
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation import attention
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.evaluation.table import CONTROL, TRAIN, measured, select
from compo_mech.interventions.ablation import ablated_logits
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.head_ablation import Ablations
from compo_mech.interventions.head_roles import CARRIES_IN_PART, name_heads
from compo_mech.model.params import Model
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.runs.run import Run
from compo_mech.stats import onset

Score = tuple[str, str, float]
"""Task, measure and value."""

N_STRINGS = 64
"""Test strings of each length."""


def run_scores(run: Run) -> list[Score]:
    """What each of a run's tasks came to, read off its rows.

    Accuracy is generated freely, of whole strings, at the worst length (and at the longest). `steps to 99%` is the
    first snapshot from which accuracy stays there, `first step at 99%` the first at which it is there; infinite if
    there is none. Head scores are of the last step, means
    over lengths from 4 on: the highest score of any head, the same of a freshly initialised network, and the entropy
    (nats), sparsity and odd spots of the head with the highest iteration score.
    """
    rows: list[Score] = []
    for task in map(str, run.config.data.measured_tasks):
        of_task = measured(run.metrics, task)
        accuracy = select(of_task, metric="generated_accuracy")
        worst = accuracy.groupby("step")["value"].min()
        longest = select(accuracy, length=accuracy["length"].max(), step=accuracy["step"].max())["value"]
        since = onset.reached(worst.index.tolist(), worst.tolist(), ACCURACY_LEVEL)
        rows += [
            (task, "accuracy", float(worst.iloc[-1])),
            (task, "accuracy at the longest", float(longest.iloc[0])),
            (task, "solved", float(worst.iloc[-1] >= ACCURACY_LEVEL)),
            (task, "steps to 99%", math.inf if since is None else float(since)),
            *((task, f"first step at {level:.0%}", _first(worst, level)) for level in (0.95, ACCURACY_LEVEL)),
        ]
        known = select(run.metrics, split=TRAIN, task=task, metric="accuracy").groupby("step")["value"].min()
        if len(known):
            rows.append((task, "training accuracy", float(known.iloc[-1])))
            rows.append((task, "first step at 99%, training", _first(known, ACCURACY_LEVEL)))
        rows += [(task, *found) for found in _heads(run, task, of_task)]
    return rows


def _first(curve: pd.Series, level: float) -> float:
    """The first step at which a curve is at a level; infinite if there is none."""
    return float(min(curve.index[curve >= level], default=math.inf))


def _heads(run: Run, task: str, of_task: pd.DataFrame) -> Iterator[tuple[str, float]]:
    means = select(of_task, split="mean").dropna(subset="head")
    final = select(means, step=means["step"].max())
    fresh = select(run.metrics, task=task, split=CONTROL).dropna(subset="head")
    fresh = pd.DataFrame(fresh[fresh["length"].isna()])
    for suffix, rows in (("", final), (", fresh", fresh)):
        table = rows.pivot(index=["layer", "head"], columns="metric", values="value")
        if "iteration" not in table:
            return
        best = table.iloc[int(table["iteration"].argmax())]
        yield f"iteration{suffix}", float(best["iteration"])
        if "lookup" in table:
            yield f"lookup{suffix}", float(table["lookup"].max())
        yield f"textbook{suffix}", float(best["iteration"] >= attention.TEXTBOOK_SCORE)
        for name in ("entropy", "sparsity", "iteration_sparsity", "pointer_weight", "iteration_first",
                     "iteration_middle", "iteration_last", "end_on_end_of_input", "end_pointer_weight"):  # fmt: skip
            if name in table:
                yield f"{name}{suffix}", float(best[name])


def heads_at_work(run: Run) -> list[Score]:
    """`run_scores`, and `at_work` for each task, beside a freshly initialised network's."""
    rows = run_scores(run)
    config = run.config
    for name, params in (("", run.params()), (", fresh", run.control())):
        for task in config.data.measured_tasks:
            found = at_work(Model(params, config.model), config.data, task, config.seed)
            rows += [(str(task), f"{measure}{name}", value) for measure, value in found.items()]
    return rows


def at_work(model: Model, data: DataConfig, task: Task, seed: int) -> Mapping[str, float]:
    """Which heads carry x_t, told by intervention.

    `largest share of x` is that of a head alone, `x together` of all heads of the layer that carries most;
    `heads that carry x` counts those with at least a tenth; `heads to remove` is the fewest heads of one layer without
    which per-state accuracy is near the best guess (infinite: no set of one layer's); `share of the end` is of the head
    that carries the place of [EoI] most; `cost of the costliest` is that of one head's ablation by the mean.
    """
    sets = [test for test in eval_sets(data, N_STRINGS) if test.task == task]
    generator = torch.Generator().manual_seed(seed)
    found = name_heads(Ablations(model, sets, "mean", generator), data, generator, task=task)
    shares = [role.x for role in found.roles if role.x is not None]
    ends = [role.end for role in found.roles if role.end is not None]
    told = {"cost of the costliest": max(role.cost for role in found.roles)}
    told["heads to remove"] = math.inf if found.removal is None else float(len(found.removal.components))
    if shares:
        told["largest share of x"] = max(shares)
        told["heads that carry x"] = float(sum(share >= CARRIES_IN_PART for share in shares))
        told["an iteration head"] = float(found.iteration is not None)
    if found.x_together is not None:
        told["x together"] = max(found.x_together)
    if ends:
        told["share of the end"] = max(ends)
    return told


def variables_held(run: Run) -> list[Score]:
    """`run_scores`, and `interchange_scores` of the last layer, beside a randomly initialised control's.

    `t in the query`, `x fetched` and `state written` are shares of the answers that follow another value of the
    variable where the circuit should hold it: which part of the circuit is missing?
    """
    rows = run_scores(run)
    config = run.config
    last = config.model.n_layers - 1
    for name, params in (("", run.params()), (", fresh", run.control())):
        for task in config.data.measured_tasks:
            found = interchange_scores(config.data, task, last, config.seed, Model(params, config.model))
            rows += [(str(task), f"{m.measure}{name}", m.value) for m in found if "," not in m.measure]
    return rows


def routes_taken(run: Run) -> list[Score]:
    """`heads_at_work`, and by which routes x_t comes (see `watching.ways`), beside a freshly initialised network's."""
    rows = heads_at_work(run)
    config = run.config
    for name, params in (("", run.params()), (", fresh", run.control())):
        for task in config.data.measured_tasks:
            found = route_scores(config.data, task, config.seed, Model(params, config.model))
            rows += [(str(task), f"{m.measure}{name}", m.value) for m in found]
    return rows


SPECIAL = ("first", "middle", "last", "end")
"""Rows of a string: those that predict s_1, s_2 .. s_(L-1), s_L, and [EoS]."""


def special_rows(run: Run) -> list[Score]:
    """`run_scores`, and `right_by_row` for each task, beside a freshly initialised network's."""
    rows = run_scores(run)
    data = run.config.data
    for name, params in (("", run.params()), (", fresh", run.control())):
        for task in data.measured_tasks:
            sets = [test for test in eval_sets(data, N_STRINGS) if test.task == task]
            found = right_by_row(Model(params, run.config.model), sets)
            rows += [(str(task), f"{measure}{name}", value) for measure, value in found.items()]
    return rows


@torch.no_grad()
def right_by_row(model: Model, sets: Sequence[EvalSet]) -> Mapping[str, float]:
    """What each of the rows `SPECIAL` loses when a head or an MLP puts out its mean instead.

    `right at first` is the share of strings whose row that predicts s_1 is right; `right at first without L0H0` the
    same with that head's output replaced, everywhere, by its mean over scored rows of strings of all lengths, which
    tells neither what a row holds nor where it or [EoI] is.

    Args:
        model: the network.
        sets: test strings, each set of one length.
    """
    config = model.config
    parts = [Writer("head", layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    parts += [Writer("mlp", layer) for layer in range(config.n_layers)]
    whole = [run_graph(model, embeddings(model, test.read, test.position_ids))[0] for test in sets]
    scored = [list(test.layout.scored(test.length)) for test in sets]
    means = {
        part: torch.cat([outputs[part][:, rows].flatten(0, 1) for outputs, rows in zip(whole, scored, strict=True)])
        .mean(0)
        for part in parts
    }  # fmt: skip
    found: dict[str, float] = {}
    for removed in ((), *((part,) for part in parts)):
        right: dict[str, list[Tensor]] = {name: [] for name in SPECIAL}
        for test, outputs, rows in zip(sets, whole, scored, strict=True):
            stand_ins = {part: means[part].expand_as(outputs[part]) for part in removed}
            correct = ablated_logits(model, outputs, removed, stand_ins)[:, rows].argmax(-1) == test.targets
            places = {"first": [0], "middle": list(range(1, len(rows) - 2)), "last": [-2], "end": [-1]}
            for name, place in places.items():
                right[name].append(correct[:, place].flatten())
        name = "".join(f" without {part}" for part in removed)
        found |= {
            f"right at {row}{name}": float(torch.cat(parts_right).float().mean())
            for row, parts_right in right.items()
            if sum(len(part) for part in parts_right)
        }
    return found
