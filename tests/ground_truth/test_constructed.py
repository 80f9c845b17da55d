from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from compo_mech.circuits.exact import exact
from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.packing import Packing
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Polynomial, Symmetric
from compo_mech.evaluation import sets
from compo_mech.evaluation.attention import AttentionVerdict
from compo_mech.evaluation.measure import measure, run_set
from compo_mech.ground_truth.build import build, solves
from compo_mech.ground_truth.families import RUNGS
from compo_mech.ground_truth.iteration_head import missable_pairs
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.ablation import baseline_outputs
from compo_mech.interventions.edges import Reader, Writer, all_edges
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked

TASKS = [Copy(), Parity(), *(Polynomial(modulus=p) for p in (2, 3, 5, 7, 11)),
         Automaton(transitions=((1, 0), (2, 0), (2, 1))), Counter(modulus=3), Symmetric(n=3)]  # fmt: skip
PARTS = ("lookup", "subtraction", "iteration", "update")
DIFFERENCES = {
    "difference": BuildOptions(subtraction="difference"),
    "difference, soft, rotated, distractors": BuildOptions(
        subtraction="difference", sharpness=8, rotated=True, distractors=True
    ),
    "difference, saturated, three layers, split": BuildOptions(
        subtraction="difference", sharpness=150, three_layers=True, split=True
    ),
    "difference, soft, neighbour, backup": BuildOptions(
        subtraction="difference", sharpness=8, route="neighbour", backup=True
    ),
}
GAPS = {
    "gaps": BuildOptions(subtraction="gaps"),
    "gaps, soft, three layers, split, noise": BuildOptions(
        subtraction="gaps", sharpness=8, three_layers=True, split=True, noise=0.005, seed=1
    ),
    "gaps, LayerNorm, rotated, distractors": BuildOptions(
        subtraction="gaps", layer_norm=True, rotated=True, distractors=True, seed=2
    ),
    "gaps, neighbour, backup": BuildOptions(subtraction="gaps", route="neighbour", backup=True, seed=3),
}
SOME_TASKS = [Copy(), Parity(), Polynomial(modulus=5), Symmetric(n=3)]


N_STRINGS = 32


@lru_cache(maxsize=400)
def packed(task, data, lengths):
    """Strings of all lengths in one batch: tokens, packing, and how many strings of each length; all there are of a
    length, or N_STRINGS of them."""
    rows, of_rows, counts = [], [], []
    for length in lengths:
        if (task.n_inputs - task.first_input) ** length <= N_STRINGS:
            inputs = all_strings(task, length)
        else:
            generator = torch.Generator().manual_seed(length)
            inputs = torch.randint(task.first_input, task.n_inputs, (N_STRINGS, length), generator=generator)
        rows += encode(data, task, inputs).tokens
        of_rows += [length] * len(inputs)
        counts.append(len(inputs))
    return pad_sequence(rows, batch_first=True), Packing.of_lengths(data.layout, of_rows), counts


def right_rows(built, lengths):
    """Whether each scored row of strings is right, by length [string, scored]."""
    tokens, packing, counts = packed(built.data.tasks[0], built.data, tuple(lengths))
    predicted = forward(built.model, tokens, packing).argmax(-1)
    right = predicted == tokens[packing.scored_row, packing.scored_position + 1]
    widths = [built.data.layout.n_scored(length) for length in lengths]
    parts = right.split([n * width for n, width in zip(counts, widths, strict=True)])
    return [part.view(n, -1) for part, n in zip(parts, counts, strict=True)]


def share_right(built, *lengths):
    """Share of strings right when generated freely, by length."""
    return [right.all(1).double().mean().item() for right in right_rows(built, lengths)]


@pytest.mark.parametrize("rungs", RUNGS.values(), ids=RUNGS)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_build_is_always_right(task, rungs):
    if not solves(task, rungs):
        with pytest.raises(ValueError, match="without chain of thought must be one of copy, parity, counter"):
            build(task, rungs=rungs)
        return
    longest = 8 if task in SOME_TASKS or rungs.noise else 6  # every rung at full length
    built = build(task, max_length=longest, rungs=rungs)
    assert share_right(built, *range(1, longest + 1)) == [1.0] * longest


@pytest.mark.parametrize("rungs", DIFFERENCES.values(), ids=DIFFERENCES)
@pytest.mark.parametrize("task", SOME_TASKS, ids=str)
def test_builds_that_subtract_by_difference_are_always_right(task, rungs):
    built = build(task, rungs=rungs)
    assert share_right(built, *range(1, 9)) == [1.0] * 8
    assert not built.gaps


@pytest.mark.parametrize("rungs", GAPS.values(), ids=GAPS)
@pytest.mark.parametrize("task", SOME_TASKS, ids=str)
def test_builds_with_gaps_are_right_wherever_there_is_no_gap(task, rungs):
    built = build(task, rungs=rungs)
    layout, met = built.data.layout, set()
    for length, right in zip(range(1, 9), right_rows(built, range(1, 9)), strict=True):
        for row, row_right in zip(layout.scored(length), right.all(0).tolist(), strict=True):
            pair = (row, layout.end_of_input(length))
            assert row_right == (pair not in built.gaps), (length, row)
            met.add(pair)
    assert len(built.gaps) == 6
    assert built.gaps < met


@pytest.mark.parametrize("max_length", [3, 8, 12])
def test_what_a_gap_lacks_other_pairs_have(max_length):
    data = DataConfig(max_length=max_length)
    used = {(length + t, length + 1) for length in range(1, max_length + 1) for t in range(1, length + 1)}
    found = [missable_pairs(data, seed) for seed in range(5)]
    for gaps in found:
        assert gaps <= used
        assert len(used) / 8 <= len(gaps) <= len(used) / 5
        for part in (lambda i, j: i, lambda i, j: j, lambda i, j: i - j):
            assert {part(*pair) for pair in gaps} <= {part(*pair) for pair in used - gaps}
    assert len(set(found)) > 1


def test_strings_too_short_for_gaps():
    with pytest.raises(ValueError, match=r"lengths = 1 \.\. 2: must be more or longer"):
        build(Parity(), max_length=2, rungs=BuildOptions(subtraction="gaps"))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_decoys_are_wrong(task, part):
    kinds = [
        BuildOptions(broken=part),
        BuildOptions(broken=part, route="neighbour"),
        BuildOptions(broken=part, route="state"),
    ]
    kinds += [BuildOptions(broken=part, subtraction="difference"), BuildOptions(broken=part, subtraction="gaps")]
    if part == "update" and solves(task, BuildOptions(chain_of_thought=False)):
        kinds.append(BuildOptions(broken=part, chain_of_thought=False))
    for rungs in kinds:
        built = build(task, max_length=6, rungs=rungs)
        assert sum(share_right(built, 4, 5, 6)) / 3 < 0.6, rungs


@pytest.mark.parametrize("length", [4, 11])
def test_builds_of_other_lengths_are_right(length):
    for name in ("pristine", "LayerNorm", "neighbour", "state", "shortcut", "difference"):
        built = build(Parity(), max_length=length, rungs=(RUNGS | DIFFERENCES)[name])
        assert share_right(built, length) == [1.0], name


def test_a_build_is_a_hooked_transformer():
    built = build(Parity(), rungs=BuildOptions(rotated=True))
    model = to_hooked(built.model)
    tokens = torch.randint(0, len(built.data.vocabulary), (4, 12), generator=torch.Generator().manual_seed(0))
    expected = forward(built.model, tokens).view(4, 12, -1)
    torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=1e-4)


def without_gaps(built, pairs):
    """The pairs with only those places scored whose pair of positions the subtraction has."""
    ends = pairs.layout.end_of_input(pairs.lengths[pairs.row]).tolist()
    kept = [place not in built.gaps for place in zip(pairs.position.tolist(), ends, strict=True)]
    scored = {name: getattr(pairs, name)[kept] for name in ("row", "position", "target", "foil")}
    return replace(pairs, **scored)


NOISELESS = {name: rungs for name, rungs in (RUNGS | DIFFERENCES | GAPS).items() if not rungs.noise}
SLOW_TASKS = [Polynomial(modulus=3), Symmetric(n=3), Automaton(transitions=((0, 1), (0, 1)))]


@pytest.mark.parametrize(
    ("task", "rungs"),
    [
        pytest.param(task, rungs, id=f"{task}-{name}", marks=[] if task == Parity() else [pytest.mark.slow])
        for task in (Copy(), Parity(), *SLOW_TASKS)
        for name, rungs in NOISELESS.items()
    ],
)
def test_the_truth_is_what_moves_the_output(task, rungs):
    """An edge is true if, carrying another value of its range, it alone changes what comes out."""
    if not solves(task, rungs):
        return
    built = build(task, max_length=5, rungs=rungs)
    edges, moved = all_edges(built.model.config), set()

    def largest_change(logits, clean, pairs):
        right, before = (x.softmax(-1).gather(1, pairs.target[:, None]) for x in (logits, clean))
        return (right - before).abs().max()

    every = Switch.TOKEN | Switch.LENGTH | Switch.SHIFT
    for seed, switch in enumerate((every, Switch.END | Switch.SHIFT | Switch.STATE)):
        pairs = without_gaps(built, make_pairs(built.data, switch, 12, torch.Generator().manual_seed(seed)))
        inputs = embeddings(built.model, pairs.clean_tokens, pairs.clean_position_ids)
        generator = torch.Generator().manual_seed(seed)
        elsewhere = baseline_outputs(built.model, inputs, "resample_over_positions", generator, pairs.read)
        for corrupt in (None, elsewhere):
            asked = [edge for edge in edges if edge not in moved]
            found = exact(built.model, pairs, asked, largest_change, corrupt)
            moved |= {edge for edge, score in zip(asked, found.scores.tolist(), strict=True) if score > 0.02}
    assert moved == built.edges


def test_ten_true_edges_of_sixty_one():
    built = build(Parity())
    assert len(all_edges(built.model.config)) == 61
    assert len(built.edges) == 10
    assert built.roles == {"L0H0": "lookup", "mlp0": "subtraction", "L1H0": "iteration", "mlp1": "update"}
    copy = build(Copy())
    assert {str(edge) for edge in built.edges - copy.edges} == {"tok → mlp1"}


@pytest.mark.parametrize("subtraction", ["table", "difference"])
@pytest.mark.parametrize("rotated", [False, True])
def test_variables_lie_in_their_subspaces(rotated, subtraction):
    built = build(Parity(), rungs=BuildOptions(rotated=rotated, sharpness=60, subtraction=subtraction))
    for basis in built.subspaces.values():
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5, rtol=1e-5)
    length, layout, words = 5, built.data.layout, built.data.vocabulary
    x, s = [1, 0, 1, 1, 0], [1, 1, 0, 1, 1]
    tokens = torch.tensor([[words.task_token(Parity()), *x, words.end_of_input_id, *s]])
    positions = torch.arange(tokens.shape[1])[None]
    outputs, _ = run_graph(built.model, embeddings(built.model, tokens, positions))
    for t, row in enumerate(layout.iteration_edges(length)[0], start=1):
        pointer = outputs[Writer("mlp", 0)][0, row] @ built.subspaces["pointer"]
        value = outputs[Writer("head", 1, 0)][0, row] @ built.subspaces["value"]
        answer = outputs[Writer("mlp", 1)][0, row] @ built.subspaces["answer"]
        end = outputs[Writer("head", 0, 0)][0, row] @ built.subspaces["end"]
        where = [(pointer, t), (value, x[t - 1]), (answer, s[t - 1])]
        if subtraction == "table":
            where.append((end, length + 1))
        else:
            n_ctx = built.model.n_ctx
            torch.testing.assert_close(end, torch.tensor([(length + 1) / n_ctx]), atol=1e-5, rtol=0)
        for found, place in where:
            torch.testing.assert_close(found, torch.eye(len(found))[place], atol=1e-3, rtol=0)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_attention_measures_find_the_heads_of_a_pristine_build(task):
    built = build(task)
    rows = measure(built.model, built.data, sets.eval_sets(built.data, 32))
    means = {(r.layer, r.head, r.metric): r.value for r in rows if r.split == "mean"}
    assert means[0, 0, "lookup"] > 0.999
    assert means[1, 0, "iteration"] > 0.999
    assert means[1, 0, "verdict"] == AttentionVerdict.TEXTBOOK
    assert means[1, 1, "verdict"] == means[0, 1, "verdict"] == AttentionVerdict.DIFFUSE


@pytest.mark.parametrize(
    ("rungs", "complaint"),
    [
        ({"split": True, "backup": True}, "split = True: goes without backup"),
        ({"route": "state", "split": True}, "route = state: goes without"),
        ({"route": "state", "layer_norm": True}, "layer_norm = True: goes without route = state"),
        ({"subtraction": "difference", "route": "state"}, "subtraction = difference: goes without route = state"),
        ({"subtraction": "gaps", "route": "state"}, "subtraction = gaps: goes without route = state"),
        ({"subtraction": "difference", "layer_norm": True}, "subtraction = difference: goes without layer_norm"),
        ({"subtraction": "difference", "noise": 0.01}, "subtraction = difference: goes without noise"),
        ({"subtraction": "gaps", "chain_of_thought": False}, "subtraction = gaps: goes with chain of thought"),
        ({"subtraction": "rule"}, "subtraction = 'rule'"),
        ({"chain_of_thought": False, "three_layers": True}, "three_layers = True: goes with chain of thought"),
        ({"chain_of_thought": False, "broken": "lookup"}, "broken = lookup: without chain of thought must be update"),
    ],
)
def test_rungs_that_exclude_each_other(rungs, complaint):
    with pytest.raises(ValueError, match=complaint):
        BuildOptions(**rungs)


def test_on_other_routes_the_iteration_head_reads_what_was_carried():
    for route, offset in (("neighbour", 1), ("state", None)):
        built = build(Parity(), rungs=BuildOptions(route=route))
        length, layout = 6, built.data.layout
        test = next(s for s in sets.eval_sets(built.data, 16) if s.length == length)
        _, patterns = run_set(built.model, test)
        looked_at = patterns[1][:, 0, :length].argmax(-1)
        queries, keys = layout.iteration_edges(length)
        assert looked_at.unique(dim=0).tolist() == [queries if offset is None else [k + offset for k in keys]]


def test_edges_of_the_second_head_are_true_where_it_works():
    for rungs in (BuildOptions(split=True), BuildOptions(backup=True)):
        readers = {edge.reader for edge in build(Parity(), rungs=rungs).edges}
        assert {Reader("q", 1, 1), Reader("k", 1, 1), Reader("v", 1, 1)} <= readers
