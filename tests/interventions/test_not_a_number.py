"""A NaN or an infinity in a weight, a logit, a metric or a score is refused in one line that says where."""

import math

import pytest
import torch
from helpers import control, generator, pairs_of

from compo_mech.analyses.beyond_training import accuracy_table
from compo_mech.analyses.trajectories import attention_metrics
from compo_mech.causal.interchange import interchange_map
from compo_mech.circuits.circuit import Circuit
from compo_mech.circuits.discovery import discover
from compo_mech.circuits.edge_patches import RowScores
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.gradient_scorers import eap, eap_ig
from compo_mech.circuits.overlap import standard_ranks
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import at_least, greedy, score_order, top
from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Parity
from compo_mech.evaluation.accuracy import mean_loss, token_accuracy
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.graph import Runs, run_both, run_patched
from compo_mech.interventions.head_ablation import Ablations
from compo_mech.interventions.head_roles import carried_share, name_heads
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.interventions.patching import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.routes.route_map import route_map
from compo_mech.runs.checkpoints import Checkpoints, RunError
from compo_mech.runs.config import RunConfig
from compo_mech.stats.intervals import Interval
from compo_mech.stats.onset import reached
from compo_mech.stats.trend import rising_over_seeds
from compo_mech.weights.subtraction import pair_queries

DATA = DataConfig(max_length=3)
SETS = eval_sets(DATA, 4)
EDGES = all_edges(ModelConfig(d_model=8, n_heads=1))
PAIRS = pairs_of(DATA, n_rows=4, max_shift=2)


def network(name=None, value=math.nan):
    """A network one of whose weights is no number."""
    model = control(ModelConfig(d_model=8, n_heads=1), DATA)
    if name is not None:
        model.params[name].view(-1)[0] = value
    return model


ASKED = {
    "exact": lambda model: exact(model, PAIRS, EDGES),
    "EAP": lambda model: eap(model, PAIRS, EDGES),
    "EAP-IG": lambda model: eap_ig(model, PAIRS, EDGES),
    "inaccuracy": lambda model: exact(model, PAIRS, EDGES, METRICS["inaccuracy"]),
    "faithfulness": lambda model: Behaviour(model, PAIRS),
    "discovery": lambda model: discover(model, PAIRS, generator()),
    "patching": lambda model: sweep(model, PAIRS, "z", cross_entropy),
    "heads": lambda model: name_heads(Ablations(model, SETS, "mean", generator(), 8), DATA, generator(), 4),
    "what heads carry": lambda model: carried_share(model, DATA, "x", generator(), 4),
    "interchange": lambda model: interchange_map(model, DATA, generator(), 8),
    "routes": lambda model: route_map(model, DATA, generator(), 2),
    "attention": lambda model: attention_metrics(DATA, Parity(), 4, model),
    "beyond training": lambda model: accuracy_table(model, DATA, Parity(), Shifts(0), 4),
    "subtraction": lambda model: pair_queries(model, DATA, Parity(), 1, 0),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_weight_that_is_no_number_is_refused_by_name(asked):
    ASKED[asked](network())
    for name, value in (("blocks.1.attn.W_Q", math.nan), ("blocks.0.mlp.W_out", -math.inf), ("embed.W_E", math.inf)):
        with pytest.raises(ValueError, match=rf"^weight {name} = {value}: must be finite, 1 of \d+ are not$"):
            ASKED[asked](network(name, value))


WITH_LOGITS = [name for name in ASKED if name not in ("subtraction",)]


@pytest.mark.parametrize("asked", WITH_LOGITS)
def test_logits_that_overflow_are_refused(asked):
    model = network()
    large = {name: weight.sign() * 3e38 if name == "unembed.W_U" else weight for name, weight in model.params.items()}
    with pytest.raises(ValueError, match=r"^logits.* = (-?inf|nan): must be finite"):
        ASKED[asked](Model(large, model.config))


def test_a_patch_that_is_no_number_is_refused():
    model = network()
    runs = run_both(model, PAIRS)
    corrupt = {writer: torch.full_like(out, math.inf) for writer, out in runs.corrupt.items()}
    with pytest.raises(ValueError, match=r"^logits with patched edges = .*: must be finite"):
        run_patched(model, PAIRS, Runs(runs.clean, corrupt, runs.logits), EDGES)


def test_a_metric_that_is_no_number_is_refused_where_it_arose():
    def sometimes(logits, clean, pairs):
        return torch.tensor(0.0 if torch.equal(logits, clean) else math.nan)

    first = exact(network(), PAIRS, EDGES).edges[0]
    with pytest.raises(ValueError, match=rf"^score of {first} = nan: must be a finite number$"):
        exact(network(), PAIRS, EDGES, sometimes)
    with pytest.raises(ValueError, match=r"^metric with 0 edges in the circuit = nan: must be finite"):
        Behaviour(network(), PAIRS, sometimes)
    with pytest.raises(ValueError, match=r"^metric with L0H0\.z patched = nan: must be finite"):
        sweep(network(), PAIRS, "z", lambda logits, clean, pairs: torch.tensor(math.nan))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_not_ranked(value):
    values = torch.linspace(1, 2, len(EDGES))
    values[5] = value
    scores = EdgeScores(tuple(EDGES), values, (False,) * len(EDGES), (False,) * len(EDGES))
    named = rf"score of {EDGES[5]} = {value}: must be a finite number"
    for choose in (score_order, lambda s: top(s, 3), lambda s: at_least(s, 1.5), lambda s: greedy(s, 3, ModelConfig()),
                   lambda s: Circuit.of(ModelConfig(d_model=8, n_heads=1), [], s)):  # fmt: skip
        with pytest.raises(ValueError, match=named):
            choose(scores)
    rows = torch.zeros(len(EDGES), 2, dtype=torch.float64)
    rows[5, 1] = value
    with pytest.raises(ValueError, match=named):
        RowScores(tuple(EDGES), rows, torch.ones(2, dtype=torch.float64), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"values = .*: must be finite"):
        standard_ranks(values)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_summaries_of_what_is_no_number_are_refused(value):
    logits = torch.zeros(2, 3, 4)
    logits[1, 2, 3] = value
    answers = torch.zeros(2, 3, dtype=torch.int64)
    for summary in (
        lambda: token_accuracy(logits, answers),
        lambda: mean_loss(logits, answers),
        lambda: Interval.of([0.1, value]),
        lambda: reached([1, 2, 3], [0.1, value, 1.0], 0.9),
        lambda: rising_over_seeds([0.1, 0.2, 0.3, 0.4, value]),
    ):
        with pytest.raises(ValueError, match=rf"^\w+ = {value}: must be finite, 1 of \d+ are not$"):
            summary()
    with pytest.raises(ValueError, match=r"^logits = nan"):
        measure(network("embed.W_E"), DATA, SETS)


def test_a_checkpoint_that_holds_no_numbers_is_named(tmp_path):
    config = RunConfig(data=DATA, model=ModelConfig(d_model=8, n_heads=1))
    params = init_params(config.model, len(DATA.vocabulary), config.n_ctx, generator())
    found = Checkpoints(tmp_path, config)
    found.folder.mkdir()
    for name in ("config.json", "metrics.csv"):  # which are vouched for as well
        (tmp_path / name).write_text("")
    found.save(0, params, {})
    params["blocks.0.mlp.W_in"][1, 2] = math.nan
    found.save(1, params, {})
    assert found.params(0).keys() == params.keys()
    line = r"000001\.safetensors: weight blocks\.0\.mlp\.W_in = nan: must be finite, 1 of 256 are not$"
    with pytest.raises(RunError, match=line):
        found.params()
