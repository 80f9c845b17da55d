"""What is followed over training: how attention looks, what the looks are worth, what is held where, by which routes.

Each of these asks one network and gives long rows; `watch` asks every checkpoint of a run. All are plain functions
of a module, so that several processes can share the work.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import pandas as pd
import torch

from compo_mech.causal.interchange import interchange
from compo_mech.causal.rows import Variable
from compo_mech.causal.variables import make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation import accuracy
from compo_mech.evaluation.attention import MIN_LENGTH
from compo_mech.evaluation.head_scores import layer_measures
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.interventions.attention_patterns import PatternAblationCounts, Work, trace_set
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.routes.route_map import route_shares
from compo_mech.routes.summary import RouteName
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import CONTROL_STEP, Measured, NetworkMeasure, follow
from compo_mech.stats.intervals import wilson

N_STRINGS = 64
"""Test strings of each length: a share within 0.02 over all lengths, in a time that hundreds of checkpoints allow."""
N_SWAPS, N_ROUTE_STRINGS = 128, 16
UNKNOWN = (math.nan, math.nan)
CARRIED = (RouteName.TEXTBOOK, RouteName.OFFSET, RouteName.STATE)


def test_sets(data: DataConfig, task: Task, n_strings: int) -> tuple[EvalSet, ...]:
    """Test strings of lengths from `MIN_LENGTH` on, or of all where none is that long."""
    return _test_sets(data.model_dump_json(), task, n_strings)


@functools.lru_cache(maxsize=8)
def _test_sets(spelled: str, task: Task, n_strings: int) -> tuple[EvalSet, ...]:
    data = DataConfig.model_validate_json(spelled)
    sets = [test for test in eval_sets(data, n_strings) if test.task == task]
    return tuple([test for test in sets if test.length >= MIN_LENGTH] or sets)


@torch.no_grad()
def attention_metrics(data: DataConfig, task: Task, n_strings: int, model: Model) -> list[Measured]:
    """Accuracy, loss, size of the weights, every measure of each head's and each layer's attention, and, with chain of
    thought, its causal twins: states that are right with the even and with the ideal pattern, what is lost and lacks
    (see `twins`).

    All are means over lengths from 4 on (`sparsity` and the like over those lengths that have it), teacher-forced.
    """
    sums: dict[tuple[str, str], list[float]] = {}
    n_right, n, n_states_right, n_states = 0, 0, 0, 0
    counts = PatternAblationCounts(model, get_args(Work))
    for test in test_sets(data, task, n_strings):
        run, scored = trace_set(model, test), list(test.layout.scored(test.length))
        logits = run.logits[:, scored]
        correct = logits.argmax(-1) == test.targets
        n_right, n = n_right + int(correct.all(-1).sum()), n + len(correct)
        states = correct[:, :-1]
        n_states_right, n_states = n_states_right + int(states.sum()), n_states + states.numel()
        sums.setdefault(("loss", ""), []).append(float(accuracy.mean_loss(logits, test.targets)))
        for layer, pattern in enumerate(run.pattern):
            for head, name, value in layer_measures(pattern[:, :, scored], test.layout, test.length, lean=True):
                site = f"L{layer}" if head is None else f"L{layer}H{head}"
                sums.setdefault((name, site), []).append(value)
        if data.chain_of_thought:
            counts.add(test, run)
    norm = math.sqrt(sum(float(param.square().sum()) for param in model.params.values()))
    rows = [
        Measured("strings right", "", *wilson(n_right, n)),
        Measured("states right", "", *wilson(n_states_right, n_states)),
        Measured("weight norm", "", norm, *UNKNOWN),
        *(Measured(name, site, sum(values) / len(values), *UNKNOWN) for (name, site), values in sums.items()),
    ]
    for twin in counts.ablations():
        rows += [
            Measured(f"right with even {twin.work}", twin.name, *twin.uniform),
            Measured(f"right with ideal {twin.work}", twin.name, *twin.idealised),
            Measured(f"worth of {twin.work}", twin.name, twin.cost, *UNKNOWN),
            Measured(f"{twin.work} lacks", twin.name, twin.gain, *UNKNOWN),
        ]
    return rows


@torch.no_grad()
def interchange_scores(data: DataConfig, task: Task, layer: int, seed: int, model: Model) -> list[Measured]:
    """Interchange accuracy of the circuit's variables where it should hold them: t in the layer's queries, x_t in what
    its heads bring, s_t in what its MLP writes.

    Beside each its placebo, a random change of the same size, and what is above it: a network that guesses a state,
    and so is right now and then, gets the same from both.
    """
    generator = torch.Generator().manual_seed(seed)
    plans: list[tuple[str, Variable, Site]] = [
        ("t in the query", "t", Site("q", layer)),
        ("x fetched", "x", Site("attn_out", layer)),
        ("state written", "answer", Site("mlp_out", layer)),
    ]
    device, rows = model.device, []
    for name, variable, site in plans:
        if uses(task, variable) and (layer > 0 or variable != "t"):  # layer 0 has no pointer to read
            pairs = make_interchanges(data, variable, "free", N_SWAPS, generator, task).to(device)
            score = interchange(model, pairs, site, generator)
            rows.append(Measured(name, str(site), *score.accuracy))
            rows.append(Measured(f"{name}, placebo", str(site), score.placebo, *UNKNOWN))
            rows.append(Measured(f"{name}, above", str(site), score.accuracy.mean - score.placebo, *UNKNOWN))
    return rows


def route_scores(data: DataConfig, task: Task, seed: int, model: Model) -> list[Measured]:
    """By which routes x_t comes, as shares of its effect at the longest length and at about half of it."""
    generator = torch.Generator().manual_seed(seed)
    lengths = sorted({data.max_length, max(data.min_length, (data.max_length + 1) // 2)})
    shares = route_shares(model, data, generator, N_ROUTE_STRINGS, lengths, task)
    return [Measured(f"by {way}", "", shares.get(way, 0.0), *UNKNOWN) for way in CARRIED]


@dataclass(frozen=True)
class Watched:
    """A run's figures over training.

    Attributes:
        task: that was measured.
        layer: that fetches x_t; None where no layer can be told.
        rows: columns step, measure, site, value, low, high; the control's step is `CONTROL_STEP`.
        more: measures that emerge besides those of this module, by the name of their part.
    """

    task: Task
    layer: int | None
    rows: pd.DataFrame
    more: Mapping[str, str] = field(default_factory=dict)

    def curve(self, measure: str, site: str | None = None) -> pd.DataFrame:
        """Columns step, value, low, high of one measure, in order, the control left out; empty if there is none.

        Args:
            measure: its name.
            site: None: the first that has it.
        """
        found = self.rows[(self.rows["measure"] == measure) & (self.rows["step"] != CONTROL_STEP)]
        if site is None and len(found):
            site = str(found["site"].iloc[0])
        return found.loc[found["site"] == site, ["step", "value", "low", "high"]].reset_index(drop=True)

    def control(self, measure: str, site: str | None = None) -> float:
        """The freshly initialised network's value; nan if there is none."""
        found = self.rows[(self.rows["measure"] == measure) & (self.rows["step"] == CONTROL_STEP)]
        found = found if site is None else found[found["site"] == site]
        return float(found["value"].iloc[0]) if len(found) else math.nan

    def parts(self) -> dict[str, tuple[str, str | None]]:
        """Measure and site of what emerges, by the name that tables and figures give it; what the run has."""
        last = self.layer
        named: dict[str, tuple[str, str | None]] = {"accuracy": ("strings right", None)}
        if last is not None:
            named |= {
                "lookup": ("lookup_together", f"L{max(0, last - 1)}"),
                "iteration": ("iteration_together", f"L{last}"),
                "worth of iteration": ("worth of iteration", self._layer_name(last)),
                "t in the query": ("t in the query, above", None),
                "x fetched": ("x fetched, above", None),
                "state written": ("state written, above", None),
                "textbook route": (f"by {RouteName.TEXTBOOK}", None),
            }
        named |= {part: (measure, None) for part, measure in self.more.items()}
        return {name: place for name, place in named.items() if len(self.curve(*place))}

    def heads(self, layer: int) -> list[str]:
        """Names of a layer's heads."""
        sites = dict.fromkeys(str(site) for site in self.rows["site"])
        return [site for site in sites if site.startswith(f"L{layer}H") and "+" not in site]

    def _layer_name(self, layer: int) -> str:
        heads = [site for site in self.rows["site"].unique() if str(site).startswith(f"L{layer}H")]
        return max(heads, key=len, default="")


class ExtraMeasure(NamedTuple):
    """Something else to ask of every checkpoint, such as probes, which this package knows nothing of.

    Attributes:
        measure: takes data, task, the layer that fetches x_t, seed and network; a function of a module.
        code: name of its module, on which and on whose imports its figures depend.
        parts: which of its measures emerge, by the name that tables give them.
    """

    measure: Callable[[DataConfig, Task, int, int, Model], list[Measured]]
    code: str
    parts: Mapping[str, str]


Advance = Callable[[str, int, int, str | None], None]
"""Told what is asked, the step that is done, of how many, and what is wrong with its checkpoint."""


def watch(
    run: Run,
    task: Task,
    advance: Advance = lambda name, step, n_steps, problem: None,
    seed: int = 0,
    n_workers: int = 1,
    every: Mapping[str, int] | None = None,
    more: Mapping[str, ExtraMeasure] | None = None,
) -> Watched:
    """Everything of this module over a run's checkpoints; what was measured before is not measured again.

    Args:
        run: whose checkpoints.
        task: one of its.
        advance: told of each checkpoint as it is done.
        seed: of strings and placebos.
        n_workers: processes.
        every: by name (looks, holdings, ways, or of `more`), to ask each n-th checkpoint only; the last always.
        more: by name, what else to ask where a layer after the first fetches x_t.

    Raises:
        RunError: no checkpoint can be read.
    """
    data = run.config.data
    tables: list[pd.DataFrame] = []
    layer: int | None = None

    def ask(name: str, measure: NetworkMeasure, code: str = __name__, **settings: object) -> pd.DataFrame:
        steps = thinned(run.steps, (every or {}).get(name, 1))
        settings = {"task": str(task), "seed": seed, **settings}

        def tell(step: int, problem: str | None) -> None:
            advance(name, step, len(steps) + 1, problem)

        table = follow(run, name, settings, measure, code, tell, steps, n_workers)
        tables.append(table)
        return table

    table = ask("looks", functools.partial(attention_metrics, data, task, N_STRINGS), n_strings=N_STRINGS)
    if not (table["step"] > CONTROL_STEP).any():
        raise RunError(f"run = {run.path}: has no checkpoint that can be read")
    layer = fetching_layer(table)
    if data.chain_of_thought:
        if layer is not None:
            ask("holdings", functools.partial(interchange_scores, data, task, layer, seed), layer=layer)
        if run.config.model.n_layers == 2:
            ask("ways", functools.partial(route_scores, data, task, seed))
        for name, other in (more or {}).items():
            if layer:
                ask(name, functools.partial(other.measure, data, task, layer, seed), other.code, layer=layer)
    parts = {part: measure for other in (more or {}).values() for part, measure in other.parts.items()}
    return Watched(task, layer, pd.concat(tables, ignore_index=True), parts)


def thinned(steps: Sequence[int], every: int) -> list[int]:
    """Each n-th step, counted back from the last."""
    return list(steps[::-1][::every][::-1])


def fetching_layer(table: pd.DataFrame) -> int | None:
    """The layer whose heads look most at x_t at the last checkpoint; None where none can.

    It may be the first: where all strings are of one length, a row's own position tells t, and nothing is looked up.
    """
    scores = table[(table["measure"] == "iteration_together") & (table["step"] == table["step"].max())]
    if not len(scores):
        return None
    return int(str(scores.sort_values("value")["site"].iloc[-1])[1:])
