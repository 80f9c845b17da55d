import pytest
import torch

from compo_mech import evaluate
from compo_mech.attention import Verdict
from compo_mech.constructed import Rungs, build
from compo_mech.counterfactuals import Switch, make_pairs
from compo_mech.data import all_strings
from compo_mech.edges import METRICS, exact
from compo_mech.forward import forward
from compo_mech.graph import Reader, Writer, all_edges, embeddings, run_graph
from compo_mech.layout import Packing
from compo_mech.model import to_hooked
from compo_mech.studies.grading import RUNGS
from compo_mech.tasks import Automaton, Copy, Counter, Parity, Polynomial, Symmetric

TASKS = [Copy(), Parity(), *(Polynomial(modulus=p) for p in (2, 3, 5, 7, 11)),
         Automaton(transitions=((1, 0), (2, 0), (2, 1))), Counter(modulus=3), Symmetric(n=3)]  # fmt: skip
PARTS = ("lookup", "subtraction", "iteration", "update")


def share_right(built, length):
    """Share of strings right when generated freely: all strings, or 400 of them."""
    task, words, layout = built.data.tasks[0], built.data.vocabulary, built.data.layout
    n_kinds = task.n_inputs - task.first_input
    if n_kinds**length <= 400:
        inputs = all_strings(task, length)
    else:
        generator = torch.Generator().manual_seed(length)
        inputs = torch.randint(task.first_input, task.n_inputs, (400, length), generator=generator)
    n = len(inputs)
    tokens = layout.assemble(
        torch.full((n,), words.task_token(task)), inputs, task.states(inputs), torch.full((n,), length),
        words.end_of_input, words.end_of_states,
    )  # fmt: skip
    packing = Packing.of_lengths(layout, [length] * n)
    predicted = forward(built.model.params, built.model.config, tokens, packing).argmax(-1).view(n, -1)
    return (predicted == tokens[:, -predicted.shape[1] :]).all(1).double().mean().item()


@pytest.mark.parametrize("rungs", RUNGS.values(), ids=RUNGS)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_build_is_always_right(task, rungs):
    built = build(task, rungs=rungs)
    assert [share_right(built, length) for length in range(1, 9)] == [1.0] * 8


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_decoys_are_wrong(task, part):
    built = build(task, rungs=Rungs(broken=part))
    assert sum(share_right(built, length) for length in range(4, 9)) / 5 < 0.6


def test_a_build_is_a_hooked_transformer():
    built = build(Parity(), rungs=Rungs(rotated=True))
    model = to_hooked(built.model.params, built.model.config)
    tokens = torch.randint(0, len(built.data.vocabulary), (4, 12), generator=torch.Generator().manual_seed(0))
    expected = forward(built.model.params, built.model.config, tokens).view(4, 12, -1)
    torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "rungs",
    [r for n, r in RUNGS.items() if not (r.noise or r.backup)],
    ids=[n for n, r in RUNGS.items() if not (r.noise or r.backup)],
)
@pytest.mark.parametrize("task", [Copy(), Parity(), Polynomial(modulus=3), Symmetric(n=3)], ids=str)
def test_the_truth_is_what_moves_the_output(task, rungs):
    """An edge is true if, carrying another value of its range, it alone changes what comes out."""
    built = build(task, rungs=rungs)
    edges = all_edges(built.model.config)
    moved = set()
    every = Switch.TOKEN | Switch.LENGTH | Switch.SHIFT
    for switch in (every, every | Switch.STATE, Switch.END | Switch.SHIFT):
        pairs = make_pairs(built.data, switch, 48, torch.Generator().manual_seed(0))
        found = exact(built.model, pairs, edges, METRICS["kl"])
        moved |= {edge for edge, score in zip(edges, found.scores.tolist(), strict=True) if abs(score) > 1e-4}
    assert moved == built.edges


def test_ten_true_edges_of_sixty_one():
    built = build(Parity())
    assert len(all_edges(built.model.config)) == 61
    assert len(built.edges) == 10
    assert built.roles == {"L0H0": "lookup", "mlp0": "subtraction", "L1H0": "iteration", "mlp1": "update"}
    copy = build(Copy())
    assert {str(edge) for edge in built.edges - copy.edges} == {"tok → mlp1"}


@pytest.mark.parametrize("rotated", [False, True])
def test_variables_lie_in_their_subspaces(rotated):
    built = build(Parity(), rungs=Rungs(rotated=rotated, sharpness=60))
    for basis in built.subspaces.values():
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5, rtol=1e-5)
    length, layout, words = 5, built.data.layout, built.data.vocabulary
    x, s = [1, 0, 1, 1, 0], [1, 1, 0, 1, 1]
    tokens = torch.tensor([[words.task_token(Parity()), *x, words.end_of_input, *s]])
    positions = torch.arange(tokens.shape[1])[None]
    outputs, _ = run_graph(built.model, embeddings(built.model, tokens, positions))
    for t, row in enumerate(layout.iteration_edges(length)[0], start=1):
        pointer = outputs[Writer("mlp", 0)][0, row] @ built.subspaces["pointer"]
        value = outputs[Writer("head", 1, 0)][0, row] @ built.subspaces["value"]
        answer = outputs[Writer("mlp", 1)][0, row] @ built.subspaces["answer"]
        end = outputs[Writer("head", 0, 0)][0, row] @ built.subspaces["end"]
        for found, place in ((pointer, t), (value, x[t - 1]), (answer, s[t - 1]), (end, length + 1)):
            torch.testing.assert_close(found, torch.eye(len(found))[place], atol=1e-3, rtol=0)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_attention_measures_find_the_heads_of_a_pristine_build(task):
    built = build(task)
    rows = evaluate.measure(built.model.params, built.model.config, built.data, evaluate.eval_sets(built.data, 32))
    means = {(r.layer, r.head, r.metric): r.value for r in rows if r.split == "mean"}
    assert means[0, 0, "lookup"] > 0.999
    assert means[1, 0, "iteration"] > 0.999
    assert means[1, 0, "verdict"] == Verdict.TEXTBOOK
    assert means[1, 1, "verdict"] == means[0, 1, "verdict"] == Verdict.DIFFUSE


def test_split_and_backup_exclude_each_other():
    with pytest.raises(ValueError, match="split = True"):
        build(Parity(), rungs=Rungs(split=True, backup=True))


def test_edges_of_the_second_head_are_true_where_it_works():
    for rungs in (Rungs(split=True), Rungs(backup=True)):
        readers = {edge.reader for edge in build(Parity(), rungs=rungs).edges}
        assert {Reader("q", 1, 1), Reader("k", 1, 1), Reader("v", 1, 1)} <= readers
