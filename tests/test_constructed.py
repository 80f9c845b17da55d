import pytest
import torch

from compo_mech import evaluate
from compo_mech.attention import Verdict
from compo_mech.constructed import build, solves
from compo_mech.counterfactuals import Switch, make_pairs
from compo_mech.data import all_strings
from compo_mech.edges import exact
from compo_mech.forward import forward
from compo_mech.graph import Reader, Writer, all_edges, embeddings, run_graph
from compo_mech.interventions import baseline_outputs
from compo_mech.layout import Packing
from compo_mech.model import to_hooked
from compo_mech.sketch import Rungs
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
    if not solves(task, rungs):
        with pytest.raises(ValueError, match="without chain of thought must be one of copy, parity, counter"):
            build(task, rungs=rungs)
        return
    built = build(task, rungs=rungs)
    assert [share_right(built, length) for length in range(1, 9)] == [1.0] * 8


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_decoys_are_wrong(task, part):
    kinds = [Rungs(broken=part), Rungs(broken=part, route="neighbour"), Rungs(broken=part, route="state")]
    if part == "update" and solves(task, Rungs(chain_of_thought=False)):
        kinds.append(Rungs(broken=part, chain_of_thought=False))
    for rungs in kinds:
        built = build(task, rungs=rungs)
        assert sum(share_right(built, length) for length in range(4, 9)) / 5 < 0.6, rungs


@pytest.mark.parametrize("length", [4, 11])
def test_builds_of_other_lengths_are_right(length):
    for name in ("pristine", "LayerNorm", "neighbour", "state", "shortcut"):
        built = build(Parity(), max_length=length, rungs=RUNGS[name])
        assert share_right(built, length) == 1.0, name


def test_a_build_is_a_hooked_transformer():
    built = build(Parity(), rungs=Rungs(rotated=True))
    model = to_hooked(built.model.params, built.model.config)
    tokens = torch.randint(0, len(built.data.vocabulary), (4, 12), generator=torch.Generator().manual_seed(0))
    expected = forward(built.model.params, built.model.config, tokens).view(4, 12, -1)
    torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=1e-4)


NOISELESS = {name: rungs for name, rungs in RUNGS.items() if not rungs.noise}
SLOW_TASKS = [Polynomial(modulus=3), Symmetric(n=3), Automaton(transitions=((0, 1), (0, 1)))]


@pytest.mark.parametrize("rungs", NOISELESS.values(), ids=NOISELESS)
@pytest.mark.parametrize(
    "task", [Copy(), Parity(), *(pytest.param(t, marks=pytest.mark.slow) for t in SLOW_TASKS)], ids=str
)
def test_the_truth_is_what_moves_the_output(task, rungs):
    """An edge is true if, carrying another value of its range, it alone changes what comes out."""
    if not solves(task, rungs):
        return
    built = build(task, rungs=rungs)
    edges, moved = all_edges(built.model.config), set()

    def largest_change(logits, clean, pairs):
        right, before = (x.softmax(-1).gather(1, pairs.target[:, None]) for x in (logits, clean))
        return (right - before).abs().max()

    every = Switch.TOKEN | Switch.LENGTH | Switch.SHIFT
    for seed, switch in enumerate((every, Switch.END | Switch.SHIFT | Switch.STATE)):
        pairs = make_pairs(built.data, switch, 32, torch.Generator().manual_seed(seed))
        inputs = embeddings(built.model, pairs.clean_tokens, pairs.clean_positions)
        generator = torch.Generator().manual_seed(seed)
        elsewhere = baseline_outputs(built.model, inputs, "resample_over_positions", generator, pairs.read)
        for corrupt in (None, elsewhere):
            found = exact(built.model, pairs, edges, largest_change, corrupt)
            moved |= {edge for edge, score in zip(edges, found.scores.tolist(), strict=True) if score > 0.02}
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


@pytest.mark.parametrize(
    ("rungs", "complaint"),
    [
        ({"split": True, "backup": True}, "split = True: goes without backup"),
        ({"route": "state", "split": True}, "route = state: goes without"),
        ({"route": "state", "layer_norm": True}, "layer_norm = True: goes without route = state"),
        ({"chain_of_thought": False, "three_layers": True}, "three_layers = True: goes with chain of thought"),
        ({"chain_of_thought": False, "broken": "lookup"}, "broken = lookup: without chain of thought must be update"),
    ],
)
def test_rungs_that_exclude_each_other(rungs, complaint):
    with pytest.raises(ValueError, match=complaint):
        Rungs(**rungs)


def test_on_other_routes_the_iteration_head_reads_what_was_carried():
    for route, offset in (("neighbour", 1), ("state", None)):
        built = build(Parity(), rungs=Rungs(route=route))
        length, layout = 6, built.data.layout
        test = next(s for s in evaluate.eval_sets(built.data, 16) if s.length == length)
        _, patterns = evaluate.run_set(built.model.params, built.model.config, test)
        looked_at = patterns[1][:, 0, :length].argmax(-1)
        queries, keys = layout.iteration_edges(length)
        assert looked_at.unique(dim=0).tolist() == [queries if offset is None else [k + offset for k in keys]]


def test_edges_of_the_second_head_are_true_where_it_works():
    for rungs in (Rungs(split=True), Rungs(backup=True)):
        readers = {edge.reader for edge in build(Parity(), rungs=rungs).edges}
        assert {Reader("q", 1, 1), Reader("k", 1, 1), Reader("v", 1, 1)} <= readers
