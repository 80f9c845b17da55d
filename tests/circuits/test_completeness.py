from dataclasses import replace

import pytest
import torch

from compo_mech.circuits.accuracy import PairAccuracy
from compo_mech.circuits.completeness import (
    FAITHFUL,
    MINIMAL,
    CircuitMeasures,
    CircuitVerdict,
    Gap,
    completeness,
    judge,
    minimality,
    removals,
)
from compo_mech.circuits.discovery import discover
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.data.tasks import Automaton, Copy, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.build import build, solves
from compo_mech.ground_truth.families import RUNGS
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer
from compo_mech.interventions.graph import run_both
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval

ALL = Switch.TOKEN | Switch.LENGTH | Switch.SHIFT
TASKS = (
    Copy(), Parity(), Polynomial(modulus=5), Automaton(transitions=((1, 0), (2, 0), (2, 1))), Symmetric(n=3),
)  # fmt: skip
REDUNDANT = {name for name, rungs in RUNGS.items() if rungs.backup}


def soon(task, rung):
    """Every task once, and on parity most rungs by themselves; the rest takes minutes."""
    return rung == "pristine" or (task == Parity() and "," not in rung and rung != "state")


def setting(task=None, rungs=None):
    built = build(task or Parity(), max_length=5, rungs=rungs)
    pairs = make_pairs(built.data, ALL, 16, torch.Generator().manual_seed(0))
    return built, Behaviour(built.model, pairs)


def verdict_on(behaviour, circuit, n_random=1):
    return judge(behaviour, circuit, torch.Generator().manual_seed(0), n_halves=2, n_random=n_random)


@pytest.mark.parametrize(
    ("task", "rung"),
    [
        pytest.param(task, rung, id=f"{task.name}-{rung}", marks=[] if soon(task, rung) else [pytest.mark.slow])
        for task in TASKS
        for rung in RUNGS
        if solves(task, RUNGS[rung])
    ],
)
def test_the_true_circuit_holds_and_no_other_does(task, rung):
    """Faithful, complete and minimal; without any one of its edges it is not; with an idle edge neither."""
    built, behaviour = setting(task, RUNGS[rung])
    verdict = verdict_on(behaviour, built.edges)
    assert verdict.holds, str(verdict)
    assert verdict.measures.faithfulness == pytest.approx(1, abs=1e-3 if rung == "pristine" else 1e-2)
    if rung == "pristine":
        assert verdict.random_faithfulness.high < 0.5
        assert verdict.random_incompleteness.low > 0.5
        assert verdict.random_minimality.high == 0
    for edge in built.edges if rung not in REDUNDANT else ():
        if abs(1 - behaviour.faithfulness(built.edges - {edge})) <= FAITHFUL:  # else that alone says no
            found = verdict_on(behaviour, built.edges - {edge})
            assert not found.holds, f"without {edge}: {found}"
    assert not verdict_on(behaviour, built.edges - {max(built.edges, key=str)}).holds
    if not (RUNGS[rung].noise or RUNGS[rung].distractors):
        spare = Writer("head", 0, built.model.config.n_heads - 1)  # it writes nothing
        idle = Edge(spare, Reader("mlp", 0))
        found = verdict_on(behaviour, built.edges | {idle})
        assert found.faithful
        assert found.complete
        assert not found.minimal
        assert found.measures.minimality == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("task", TASKS[:3], ids=lambda task: task.name)
def test_a_circuit_that_leaves_out_the_backup_is_incomplete(task):
    """Over other prompts or not: it is what is there when the other head is gone that tells."""
    built, behaviour = setting(task, BuildOptions(backup=True))
    for spare in (0, 1):

        def of_spare(end, spare=spare):
            return end.layer == 1 and end.head == spare

        half = frozenset(e for e in built.edges if not (of_spare(e.reader) or of_spare(e.writer)))
        assert len(half) == len(built.edges) - 4
        found = verdict_on(behaviour, half)
        assert not found.complete, str(found)
        without = [removal for removal in removals(half, torch.Generator()) if removal.edges]
        assert max(gap.size for gap in completeness(behaviour, half, without)) > 0.5  # not from faithfulness alone


def test_the_whole_network_is_complete_whatever_is_removed():
    _, behaviour = setting(Parity(), BuildOptions(noise=0.02, distractors=True))
    everything = frozenset(behaviour.edges)
    without = list(removals(everything, torch.Generator().manual_seed(0)))
    gaps = completeness(behaviour, everything, without)
    assert len(gaps) == len(without)
    assert all(gap.size == 0 for gap in gaps)
    assert gaps[0].circuit == pytest.approx(1)
    assert gaps[-1].circuit == pytest.approx(0)
    assert len({round(gap.circuit, 3) for gap in gaps}) > 10  # the removals do something


def test_removals_by_hand():
    circuit = frozenset({Edge(TOK, Reader("q", 0, 0)), Edge(TOK, LOGITS), Edge(Writer("head", 0, 0), LOGITS)})
    found = list(removals(circuit, torch.Generator().manual_seed(0), n_halves=3))
    by_name = {removal.name: removal.edges for removal in found}
    assert by_name["nothing"] == frozenset()
    assert by_name["everything"] == circuit
    assert by_name["all of tok"] == {Edge(TOK, Reader("q", 0, 0)), Edge(TOK, LOGITS)}
    assert by_name["all into logits"] == {Edge(TOK, LOGITS), Edge(Writer("head", 0, 0), LOGITS)}
    assert by_name["tok → logits"] == {Edge(TOK, LOGITS)}
    assert [len(by_name[f"half {n}"]) for n in range(3)] == [1, 1, 1]
    assert len(found) == 1 + 3 + 2 + 2 + 3 + 1
    assert all(removal.edges <= circuit for removal in found)


def test_measures_are_what_their_formulas_say():
    """Straight from the definitions, on a circuit that is neither complete nor minimal."""
    built, behaviour = setting(Parity(), BuildOptions(backup=True))
    idle = Edge(Writer("head", 0, 1), Reader("mlp", 0))
    circuit = (built.edges | {idle}) - {Edge(Writer("head", 1, 1), Reader("mlp", 1))}
    without = list(removals(circuit, torch.Generator().manual_seed(3), n_halves=2))

    def share(kept):
        return (behaviour.value(kept) - behaviour.none) / (behaviour.all - behaviour.none)

    network = frozenset(behaviour.edges)
    for (_, removed), gap in zip(without, completeness(behaviour, circuit, without), strict=True):
        assert gap.size == pytest.approx(abs(share(circuit - removed) - share(network - removed)))
    effects = minimality(behaviour, circuit, without)
    assert set(effects) == circuit
    for edge, effect in effects.items():
        every = [abs(share(circuit - k) - share(circuit - k - {edge})) for _, k in without if edge not in k]
        assert (effect > MINIMAL) == (max(every) > MINIMAL)
        if effect <= MINIMAL:
            assert effect == pytest.approx(max(every))
    assert effects[idle] < MINIMAL
    assert min(effects.values()) < MINIMAL < max(effects.values())


def test_verdicts_say_what_is_wrong():
    built, behaviour = setting()
    good = str(verdict_on(behaviour, built.edges))
    assert good.startswith("faithful: 1.00 (within 0.01 of 1 needed; random circuits ")
    assert "; complete: 0.00 apart without " in good
    measures = CircuitMeasures(0.9896, Gap("nothing", 1.0, 0.6996), effects={Edge(TOK, LOGITS): 0.0104})
    near = CircuitVerdict(PairAccuracy(1.0, 1.0), measures, None, None, None)
    assert "not faithful: 0.9896 " in str(near)
    assert "incomplete: 0.3004 apart" in str(near)
    assert "; minimal: tok → logits moves 0.0104 (more than 0.01)" in str(near)
    two = CircuitMeasures(1.0, near.measures.gap, effects={Edge(TOK, LOGITS): 0.5, Edge(POS, LOGITS): 0.002})
    least = CircuitVerdict(PairAccuracy(1.0, 1.0), two, None, None, None)
    assert "; not minimal: pos → logits moves 0.00 (more than 0.01)" in str(least)
    some = verdict_on(behaviour, built.edges - {Edge(TOK, Reader("mlp", 1))})
    assert str(some).startswith("not faithful: ")
    assert "incomplete: " in str(some)
    with pytest.raises(ValueError, match="circuit = no edge: must have at least one"):
        verdict_on(behaviour, [])


@pytest.mark.parametrize(
    ("faithful", "gap", "effect"), [(0.99, 0.3, 0.0101), (1.01, 0.1, 0.2), (0.9899, 0.3001, 0.01), (1.0101, 0.4, 0.0)]
)
def test_what_random_circuits_pass_too_is_said(faithful, gap, effect):
    measures = CircuitMeasures(1.0, Gap("nothing", 1.0, 0.9), effects={Edge(TOK, LOGITS): 0.5})
    random = [Interval(value, value, value) for value in (faithful, gap, effect)]
    parts = str(CircuitVerdict(PairAccuracy(1.0, 1.0), measures, *random)).split("; ")
    said = [part for part in parts if part.startswith("random circuits ")]
    assert len(said) == 3
    too = abs(faithful - 1) < 0.0100001
    assert ["which pass too" in part for part in said] == [too] * 3


def test_a_gap_that_is_at_its_bound_but_for_rounding_is_within_it():
    for circuit, complete, said in ((0.7, True, "complete: 0.30 apart"), (0.6999999, False, "incomplete: 0.3000001 ")):
        measures = CircuitMeasures(1.0, Gap("nothing", 1.0, circuit), effects={Edge(TOK, LOGITS): 0.5})
        verdict = CircuitVerdict(PairAccuracy(1.0, None), measures, None, None, None)
        assert verdict.complete == complete
        assert f"; {said}" in str(verdict)


def test_no_verdict_where_there_is_nothing_to_measure_by():
    built, behaviour = setting()
    mute = {**built.model.params, "unembed.W_U": torch.zeros_like(built.model.params["unembed.W_U"])}
    still = run_both(built.model, behaviour.pairs).clean
    for silent, words in (
        (Behaviour(Model(mute, built.model.config), behaviour.pairs), "cannot be told"),
        (Behaviour(built.model, behaviour.pairs, corrupt=still), "no verdict"),
    ):
        found = verdict_on(silent, built.edges)
        assert found.measures is None
        assert not any((found.holds, found.faithful, found.complete, found.minimal))
        assert str(found).startswith(words)


@pytest.mark.parametrize("n_wrong", [0, 1, 2])
def test_no_circuit_is_judged_where_the_network_does_not_do_the_task(n_wrong):
    """From 90% on of the answers to either input; one more wrong, and neither verdict is given."""
    built = build(Parity(), max_length=3)
    pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    some = torch.arange(10)
    pairs = replace(pairs, **{name: getattr(pairs, name)[some] for name in ("row", "position", "target", "foil")})
    for name in ("target", "foil"):
        answers = getattr(pairs, name).clone()
        answers[:n_wrong] = built.data.vocabulary.beginning_id  # never said
        asked = replace(pairs, **{name: answers})
        behaviour = Behaviour(built.model, asked)
        rights = {"target": behaviour.accuracy.clean, "foil": behaviour.accuracy.corrupt}
        assert rights == {"target": 1.0, "foil": 1.0} | {name: 1 - n_wrong / 10}
        verdict = judge(behaviour, built.edges, torch.Generator().manual_seed(0), 1, 1)
        found = discover(built.model, asked, torch.Generator().manual_seed(0))
        refused = n_wrong == 2
        assert (found.verdict == "cannot be told") == refused
        assert (verdict.measures is None) == refused
        assert str(verdict).startswith("cannot be told: the network is right about ") == refused
        assert f"{rights['target']:.1%} of the answers to the clean input and {rights['foil']:.1%}" in found.sentence
        unasked = replace(asked, corrupt_kind="altered")
        assert Behaviour(built.model, unasked).accuracy.corrupt is None
        shifted = discover(built.model, replace(asked, corrupt_kind="shifted"), torch.Generator().manual_seed(0))
        assert (shifted.verdict == "cannot be told") == (refused and name == "target")
