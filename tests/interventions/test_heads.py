from dataclasses import replace

import pytest
import torch
from helpers import control, generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Automaton, Copy, Parity, Polynomial, Symmetric
from compo_mech.evaluation.sets import eval_sets
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import run_graph
from compo_mech.interventions.head_ablation import COSTS, Ablations, best_guess, smallest_removal
from compo_mech.interventions.head_roles import carried_share, name_heads
from compo_mech.interventions.role_sentences import NEAR
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model

HEADS = [Writer("head", layer, head) for layer in range(2) for head in range(2)]
N_REFERENCE = 128


def heads_of(built, n_strings=16):
    return heads_in(built.model, built.data, n_strings)


def heads_in(model, data, n_strings, seed=0):
    """Roles by mean ablation, every draw from one seed."""
    draws = generator(seed)
    return name_heads(Ablations(model, eval_sets(data, n_strings), "mean", draws, N_REFERENCE), data, draws)


HARDER = {
    "distractors": BuildOptions(distractors=True),
    "rotated, saturated": BuildOptions(distractors=True, rotated=True, sharpness=150),
    "LayerNorm": BuildOptions(distractors=True, layer_norm=True),
    "three layers": BuildOptions(distractors=True, three_layers=True),
}
NAMED = [Copy(), Parity(), Polynomial(modulus=5), Polynomial(), Symmetric(n=3)]


@pytest.mark.parametrize(
    ("task", "rungs"),
    [
        pytest.param(
            task, rungs, marks=[] if (task == Parity()) != (name == "rotated, saturated") else pytest.mark.slow
        )
        for task in NAMED
        for name, rungs in HARDER.items()
    ],
    ids=[f"{task}-{name}" for task in NAMED for name in HARDER],
)
def test_hand_built_heads_are_named_by_what_they_do(task, rungs):
    found = heads_of(build(task, max_length=5, rungs=rungs))
    iteration = "L2H0" if rungs.three_layers else "L1H0"
    assert found.accuracy == 1
    assert found.iteration is not None
    assert str(found.iteration.writer) == iteration
    assert f"{iteration} is the iteration head" in str(found)
    for role in found.roles:
        name = str(role.writer)
        if name == iteration:
            assert role.x == 1
            assert abs(found.accuracy - role.cost - found.guess) <= NEAR
        else:
            spare = "contributes" if rungs.layer_norm else "idle"  # the norm takes in what no one reads
            assert role.name == ("lookup" if name == "L0H0" else spare)
            assert role.cost < COSTS
    assert found.removal is not None
    assert [str(writer) for writer in found.removal.components] == [iteration]


def test_shared_work_is_told_from_a_head_that_does_it_alone():
    backup, split = (
        heads_of(build(Parity(), max_length=5, rungs=BuildOptions(**{kind: True}))) for kind in ("backup", "split")
    )
    for found in (backup, split):
        assert found.iteration is None
        assert found.x_together == (0, 1)
        assert found.removal is not None
        assert found.removal.components == (HEADS[2], HEADS[3])
        assert "No head is the iteration head by itself" in str(found)
        assert "without L1H0 and L1H1" in str(found)
    assert all(role.cost < COSTS for role in backup.roles)


def test_fresh_networks_and_decoys_have_no_work_to_name():
    data = DataConfig(max_length=5)
    for seed in range(6):
        found = heads_in(control(ModelConfig(d_model=32, n_heads=2), data, seed), data, 16, seed)
        assert found.iteration is None
        assert "no work of heads to name" in str(found)
        assert max(role.x for role in found.roles) < 0.2
    for part in ("lookup", "subtraction", "iteration", "update"):
        found = heads_of(build(Polynomial(modulus=5), max_length=5, rungs=BuildOptions(broken=part)))
        assert found.iteration is None, part


def test_the_best_guess_by_hand():
    def of(task, n=4096):
        data = DataConfig(tasks=(task,), min_length=4, max_length=4)
        return best_guess(task, eval_sets(data, n))

    assert of(Parity()) == 0.5
    assert of(Copy()) == 0.5
    assert of(Automaton(transitions=((1, 1), (0, 0)))) == 1  # the state goes on whatever the input
    task = Polynomial(modulus=3)  # s_1 = x_1; from 0 it is always 1, from another state a coin's throw
    states = task.states(eval_sets(DataConfig(tasks=(task,), min_length=4, max_length=4), 4096)[0].tokens[:, 1:5])
    values = [0.5 if t == 0 or row[t - 1] != 0 else 1.0 for row in states.tolist() for t in range(4)]
    assert of(task) == pytest.approx(sum(values) / len(values))
    assert len(states) == len(all_strings(task, 4))


def test_ablation_against_every_reader_by_hand():
    """The slow twin: every reader's stream summed anew, ablated writers replaced in it."""
    data = DataConfig(max_length=4)
    model = random_model(ModelConfig(d_model=16, n_heads=2, n_layers=3, biases=True), data)
    sets = eval_sets(data, 16)
    ablations = Ablations(model, sets, "mean", generator(1), n_reference=20)
    for parts in ((), (HEADS[1],), (Writer("mlp", 0),), (Writer("head", 1, 0), Writer("mlp", 1), Writer("head", 2, 1))):
        right = []
        for test, known, values in zip(sets, ablations.outputs, ablations.values, strict=True):
            rows = list(test.layout.scored(test.length))[:-1]

            def read(reader, outputs, values=values, parts=parts):
                return torch.stack([values[w] if w in parts else out for w, out in outputs.items()]).sum(0)

            inputs = {w: out for w, out in known.items() if w.layer is None}
            logits = run_graph(model, inputs, read)[1]
            right.append((logits[:, rows].argmax(-1) == test.targets[:, :-1]).flatten())
        assert ablations.accuracy(parts) == pytest.approx(float(torch.cat(right).float().mean()))


def test_every_baseline_finds_the_heads_that_matter_singly_in_sets_and_in_order():
    built = build(Parity(), max_length=5, rungs=BuildOptions(distractors=True))
    for baseline in ("zero", "mean", "resample"):
        ablations = Ablations(built.model, eval_sets(built.data, 32), baseline, generator())
        costs = {cost.components: cost.cost for cost in ablations.subsets(HEADS)}
        assert len(costs) == 15
        for parts, cost in costs.items():
            # another string of the same length has its [EoI] in the same place
            needed = {HEADS[2]} if baseline != "zero" else {HEADS[0], HEADS[2]}
            assert (cost > 0.1) == bool(needed & set(parts)), (baseline, parts)
        order = list(ablations.greedy(HEADS))
        assert HEADS[1] in order[2].components
        assert HEADS[3] in order[2].components
        assert [cost.accuracy for cost in order[:2]] == [1, 1]
        assert set(order[-1].components) == set(HEADS)
        assert order[-1].cost == pytest.approx(costs[tuple(HEADS)])


def test_another_baseline_on_the_same_runs_is_that_baseline():
    built = build(Parity(), max_length=4, rungs=BuildOptions(distractors=True))
    sets = eval_sets(built.data, 16)
    zero = Ablations(built.model, sets, "zero", generator())
    for baseline in ("mean", "resample"):
        anew, reused = Ablations(built.model, sets, baseline, generator(1)), zero.with_baseline(baseline, generator(1))
        assert anew.whole == reused.whole
        assert list(anew.subsets(HEADS)) == list(reused.subsets(HEADS))
    assert zero.baseline == "zero"
    assert zero.cost(*HEADS) == Ablations(built.model, sets, "zero", generator()).cost(*HEADS)


def test_ablation_values_are_of_other_strings_of_the_same_length():
    built = build(Parity())
    ablations = Ablations(built.model, eval_sets(built.data, 64), "mean", generator())
    for test, known, values in zip(ablations.sets, ablations.outputs, ablations.values, strict=True):
        rows = list(test.layout.scored(test.length))[:-1]
        lookup = HEADS[0]  # the same for all strings of a length: the mean is what it was
        torch.testing.assert_close(values[lookup][:, rows], known[lookup][:, rows], atol=1e-3, rtol=0)
    fetched = ablations.values[-1][HEADS[2]] @ built.subspaces["value"]
    rows = list(ablations.sets[-1].layout.scored(ablations.sets[-1].length))[:-1]
    assert (fetched[0, rows][:, :2] - 0.5).abs().max() < 0.15  # half 0, half 1


@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
def test_what_is_carried_moves_the_answer_and_nothing_else_does(task):
    built = build(task, rungs=BuildOptions(distractors=True))
    x, x_layers = carried_share(built.model, built.data, "x", generator())
    end, _ = carried_share(built.model, built.data, "end", generator())
    assert x.tolist() == [[0, 0], [1, 0]]
    assert x_layers.tolist() == [0, 1]
    assert end.tolist() == [[1, 0], [0, 0]]


def test_a_head_that_carries_the_state_is_not_taken_for_one_that_carries_the_input():
    """x_t of the clean string beside s_{t-1} of the other: for parity the same answer as the other way round."""
    built = build(Parity())
    params = {name: param.clone() for name, param in built.model.params.items()}
    token, position = built.subspaces["state"], params["pos_embed.W_pos"]
    spare = built.subspaces["pointer"][:, -token.shape[1] :]  # of longer strings than there are
    attention, size = "blocks.1.attn", token.shape[1]
    for which, weight in (("Q", 1000.0), ("K", 1.0)):  # the spare head looks at its own row, for its token
        params[f"{attention}.W_{which}"][1, :, : len(position)] = weight * position.T
    params[f"{attention}.W_V"][1, :, :size] = token
    params[f"{attention}.W_O"][1, :size] = spare.T
    read = token.T @ params["blocks.1.mlp.W_in"]  # MLP 1 takes the state from there
    params["blocks.1.mlp.W_in"] += (spare - token) @ read
    model = Model(params, built.model.config)
    found = heads_in(model, built.data, 16)
    assert found.accuracy == 1
    assert [role.x for role in found.roles] == [0, 0, 1, 0]
    assert found.roles[3].cost > COSTS  # it is needed all the same
    assert found.roles[3].role[:2] == ("carries", "state")


def test_a_lookup_that_knows_only_rows_that_occur_is_whole():
    """Pairs of a row and an [EoI] that no string has are nothing that a trained network must know."""
    built = build(Parity(), rungs=BuildOptions(route="state"))  # its MLP 0 has no neuron for such pairs
    end, _ = carried_share(built.model, built.data, "end", generator())
    assert end[0, 0] == 1


def test_no_set_of_heads_is_named_where_none_is_enough():
    built = build(Parity())
    ablations = Ablations(built.model, eval_sets(built.data, 32), "mean", generator())
    assert smallest_removal(ablations, HEADS, level=0.1) is None
    found = smallest_removal(ablations, HEADS, level=0.6)
    assert found is not None
    assert found.components == (HEADS[2],)
    assert replace(found, cost=0.0).accuracy == found.accuracy


def test_without_chain_of_thought_heads_are_told_by_cost_alone():
    built = build(Parity(), rungs=BuildOptions(chain_of_thought=False))
    found = heads_of(built)
    assert [role.name for role in found.roles] == ["contributes", "idle", "idle", "idle"]
    with pytest.raises(ValueError, match="chain_of_thought = False"):
        carried_share(built.model, built.data, "x", generator())
    assert "Only the last state is written" in str(found)
    with pytest.raises(ValueError, match="sets = none"):
        Ablations(built.model, [], "mean", generator())
