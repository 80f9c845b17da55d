"""Every analysis of a network on another device than the CPU, which is here told apart by a mark."""

from dataclasses import fields, is_dataclass

import pandas as pd
import pytest
import torch
from helpers import generator, random_model
from other_device import CPU, DEVICE, HAS_GPU, OtherDevice, moved

from compo_mech.analyses.alignment import search_plans
from compo_mech.analyses.dissection import dissect
from compo_mech.analyses.position_subtraction import examine_subtraction
from compo_mech.analyses.probe_trajectory import probe_accuracies
from compo_mech.analyses.sharing import compare, evidence
from compo_mech.analyses.state_update import examine_update
from compo_mech.analyses.trajectories import attention_metrics, interchange_scores, route_scores
from compo_mech.causal.das import align
from compo_mech.causal.interchange import interchange, interchange_map
from compo_mech.causal.variables import make_interchanges
from compo_mech.circuits.completeness import judge
from compo_mech.circuits.discovery import discover
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.prompts import circuit_pairs, take_rows
from compo_mech.circuits.scorers import SCORERS
from compo_mech.circuits.selection import score_order
from compo_mech.circuits.stability import stability
from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Automaton, Copy, Parity, Symmetric
from compo_mech.evaluation.measure import measure, measure_train
from compo_mech.evaluation.sets import eval_sets, train_sets
from compo_mech.ground_truth.build import build
from compo_mech.interventions.attention_patterns import ablate_patterns
from compo_mech.interventions.end_row import end_row
from compo_mech.interventions.head_roles import carried_share
from compo_mech.interventions.metrics import METRICS
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.task_pairs import task_pairs
from compo_mech.interventions.task_token import patch_task_token
from compo_mech.interventions.token_reliance import reliance
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.unseen_pairs import Exposure
from compo_mech.report.attention import attention_figure
from compo_mech.routes.route_map import route_map
from compo_mech.studies import no_pointer
from compo_mech.studies.circuit_scores import head_role_scores
from compo_mech.studies.shared_heads import head_set_scores
from compo_mech.studies.special_rows import row_scores
from compo_mech.weights.qk_ov import ov_circuit, qk_circuit
from compo_mech.weights.subtraction import subtraction_neurons

BUILT = build(Parity(), max_length=4)
SHIFTS = Shifts(1, answered=False)
DATA, TASK = BUILT.data, Parity()
KNOWN = DATA.model_copy(update={"n_train_strings": 4})
BOTH = DataConfig(tasks=(Parity(), Copy()), max_length=3)


def pairs_for(model, n=8):
    return circuit_pairs(model, DATA, n, generator(), TASK, SHIFTS)


def interchanges(variable):
    return make_interchanges(DATA, variable, "independent", 48, generator(), TASK)


def searched(model, **settings):
    pairs = {"t": interchanges("t")}
    return align(model, Site("resid_post", 0), {"t": 3}, pairs, pairs, generator(), n_steps=1, **settings)


def discovered(model, scorer=exact, metric="cross_entropy"):
    return discover(model, pairs_for(model), generator(), scorer, METRICS[metric])


def stable(model, scorer=exact):
    return stability(model, pairs_for(model), lambda s: frozenset(score_order(s)[:9]), generator(), 3, scorer)


def sets(model):
    return eval_sets(DATA, 8, model.device)


def some_rows(model):
    patches, rows = EdgePatches.run(model, pairs_for(model)), torch.tensor([2, 0])
    return patches.take(rows).scores(), patches.values(rows=rows), take_rows(patches.pairs, rows).target


EXPOSURE = Exposure(frozenset({(6, 5)}), frozenset({(5, 4), (6, 4), (7, 5)}))

ANALYSES = {
    "some rows": some_rows,
    "carried": lambda model: carried_share(model, DATA, "x", generator()),
    "attention metrics": lambda model: attention_metrics(DATA, TASK, 8, model),
    "pattern ablation": lambda model: ablate_patterns(model, sets(model)),
    "interchange scores": lambda model: interchange_scores(DATA, TASK, 1, 0, model),
    "interchange in a subspace": lambda model: interchange(
        model, interchanges("x"), Site("resid_mid", 1), generator(), torch.eye(model.config.d_model)[:, :4].double()
    ),
    "align": searched,
    "where to align": lambda model: search_plans(model, DATA, TASK, generator()),
    "route scores": lambda model: route_scores(DATA, TASK, 0, model),
    "route map": lambda model: route_map(model, DATA, generator(), task=TASK).summary(),
    "update": lambda model: examine_update(model, DATA, TASK, 0, thorough=False),
    "subtraction": lambda model: examine_subtraction(model, DATA, TASK, 0, thorough=False, exposure=EXPOSURE),
    "probe accuracies": lambda model: probe_accuracies(DATA, TASK, 1, 0, model),
    "weights": lambda model: (qk_circuit(model, 0, 0), ov_circuit(model, 1, 0), subtraction_neurons(model, DATA, TASK)),
    "measure": lambda model: measure(model, DATA, sets(model)),
    "training strings": lambda model: measure_train(model, train_sets(TrainingStream(KNOWN, 0, model.device))),
    "special rows": lambda model: row_scores(model, sets(model)),
    "end row": lambda model: end_row(model, DATA, TASK, generator(), 128),
    "reliance": lambda model: reliance(model, DATA, TASK, 4, generator(), 8),
    "no pointer": lambda model: list(no_pointer.network_scores(model, DATA, TASK, 0)),
    "picture": lambda model: str(attention_figure(model, sets(model)[-1]).data[0].z),
}
THOROUGH = {
    **{f"discover, {name}": lambda model, s=scorer: discovered(model, s) for name, scorer in SCORERS.items()},
    **{f"discover, {name}": lambda model, m=name: discovered(model, metric=m) for name in METRICS},
    "heads": lambda model: head_role_scores(model, DATA, TASK, 0),
    "sets of heads": lambda model: list(head_set_scores(model, DATA, TASK, 0)),
    "judge": lambda model: judge(Behaviour(model, pairs_for(model)), BUILT.edges, generator(), n_halves=1, n_random=1),
    "stability": stable,
    "stability, EAP": lambda model: stable(model, SCORERS["EAP"]),
    "align, permuted": lambda model: searched(model, permuted=True),
    "interchange map": lambda model: interchange_map(model, DATA, generator(), 8, TASK),
    "update": lambda model: examine_update(model, DATA, TASK, 0),
    "subtraction": lambda model: examine_subtraction(model, DATA, TASK, 0, exposure=EXPOSURE),
    "dissect": lambda model: dissect(model, DATA, TASK, 0, SHIFTS, n_pairs=8, n_strings=8).tables(),
}


def elsewhere(model):
    return Model(moved(model.params), model.config)


def plain(found):
    """What can be compared: numbers and text, whatever they lie in."""
    if isinstance(found, torch.Tensor):
        return found.detach().cpu().double().flatten().tolist()
    if isinstance(found, pd.DataFrame):
        return [plain(value) for column in found.columns for value in found[column]]
    if is_dataclass(found):
        return [plain(getattr(found, field.name)) for field in fields(found)]
    if isinstance(found, dict):
        return [plain(part) for item in found.items() for part in item]
    if isinstance(found, list | tuple):
        return [plain(part) for part in found]
    return found if isinstance(found, int | float) else str(found)


def flat(found):
    return [part for item in found for part in flat(item)] if isinstance(found, list) else [found]


TOLERANCE = {"rel": 1e-3, "abs": 1e-4} if HAS_GPU else {}
"""A GPU adds up in another order; the stand-in is the CPU."""


def compared(analysis, model):
    with OtherDevice():
        there = flat(plain(analysis(elsewhere(model))))
    here = flat(plain(analysis(model)))
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        assert one == (pytest.approx(other, nan_ok=True, **TOLERANCE) if isinstance(one, float) else other)


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_says_the_same_of_a_network_on_another_device(name):
    compared(ANALYSES[name], BUILT.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", THOROUGH)
def test_whole_analyses_say_the_same_there(name):
    compared(THOROUGH[name], BUILT.model)


@pytest.mark.slow
def test_what_tasks_share_is_found_there():
    model = random_model(ModelConfig(d_model=16, n_heads=2), BOTH)

    def shared(model):
        one, other = (evidence(model, BOTH, task, SHIFTS, 0, 8) for task in BOTH.tasks)
        return compare(model, BOTH, one, other).names

    compared(shared, model)


def test_the_task_token_is_patched_there():
    model = random_model(ModelConfig(d_model=16), BOTH)

    def patched(model):
        pairs = task_pairs(BOTH, *BOTH.tasks, 8, generator()).to(model.device)
        return patch_task_token(model, pairs, generator())

    compared(patched, model)


def test_a_task_gives_states_wherever_its_inputs_are():
    tasks = (Parity(), Automaton(transitions=((0, 1), (1, 0))), Symmetric(n=3))
    with OtherDevice():
        for task in tasks:
            inputs = torch.tensor([[1, 0, 1]]).to(DEVICE)
            assert task.states(inputs).device == DEVICE
            assert torch.equal(task.states(inputs).cpu(), task.states(inputs.cpu()))
            assert torch.as_tensor(task.step(inputs, inputs)).device == DEVICE


def test_pairs_elsewhere_are_refused_in_one_line():
    pairs = make_pairs(DATA, Switch.TOKEN, 4, generator())
    with OtherDevice(), pytest.raises(ValueError, match=r"pairs = on cpu: must be on cuda(:0)?, where the model is"):
        discover(elsewhere(BUILT.model), pairs, generator())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_subspaces_are_searched_in_any_precision(dtype):
    model = Model({name: param.to(dtype) for name, param in BUILT.model.params.items()}, BUILT.model.config)
    found = searched(model)
    basis = found.subspaces["t"]
    assert basis.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(3, dtype=basis.dtype), atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------- the stand-in itself

STAND_IN = pytest.mark.skipif(HAS_GPU, reason="there is a GPU, which needs no stand-in")


@STAND_IN
def test_what_is_computed_from_there_is_there():
    with OtherDevice():
        a = torch.arange(3, device=DEVICE)
        for found in (a + 1, a[1:], a[a], a.sum(), a.to(torch.float64), torch.cat([a, a]), a.clone(), next(iter(a)),
                      torch.zeros(2, device=a.device), torch.zeros_like(a), a.new_ones(2), a + torch.tensor(1),
                      a.max(0).values, torch.nn.Parameter(a.double()), torch.arange(3).to(a)):  # fmt: skip
            assert found.device == DEVICE
        for found in (torch.arange(3), a.cpu(), a.to("cpu"), torch.tensor(a.tolist()), torch.zeros(a.shape)):
            assert found.device == CPU


@STAND_IN
@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: there[here],
        lambda here, there: here[there],
        lambda here, there: there.index_select(0, here),
        lambda here, there: there.gather(0, here),
        lambda here, there: there.__setitem__(0, here[:1]),
        lambda here, there: torch.cat([here, there]),
        lambda here, there: torch.where(here > 0, there, 0),
        lambda here, there: there[here > 0],
        lambda here, there: torch.stack([here[0], there[0]]),
        lambda here, there: torch.rand(2, generator=generator(), device=there.device),
    ],
)
def test_what_lies_on_two_devices_does_not_meet(mix):
    with OtherDevice(), pytest.raises(RuntimeError, match=r"two devices|the CPU's"):
        mix(torch.arange(3), torch.arange(3).to(DEVICE))


@STAND_IN
def test_arrays_are_made_of_the_cpus_tensors_alone():
    with OtherDevice(), pytest.raises(TypeError, match="numpy: must be given a tensor of the CPU"):
        torch.arange(3).to(DEVICE).numpy()
