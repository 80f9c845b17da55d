import itertools

import pytest
import torch
from slow_twin import run_plainly

from compo_mech.circuits.exact import exact
from compo_mech.data.encode import encode
from compo_mech.data.packing import Packing
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.directions import connected
from compo_mech.ground_truth.hard_cases import BRINGS, HARD_CASES, build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.ablation import baseline_outputs
from compo_mech.interventions.edges import Writer, all_edges
from compo_mech.interventions.graph import embeddings
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.model.forward import forward

HARDER = {
    "plain": BuildOptions(),
    "saturated": BuildOptions(sharpness=150),
    "rotated, distractors": BuildOptions(rotated=True, distractors=True),
}
TASKS = (Parity(), Copy(), Polynomial(modulus=3), Counter(modulus=3), Symmetric(n=3))


def solved(name):
    kind = HARD_CASES[name]
    return [task for task in TASKS if not kind.tasks or task.name in kind.tasks]


def share_right(built, length):
    """Share of the strings of a length, all of them or the first 256, whose every row is right."""
    task, layout = built.data.tasks[0], built.data.layout
    n_kinds = task.n_inputs - task.first_input
    inputs = (
        all_strings(task, length)
        if n_kinds**length <= 256
        else torch.randint(
            task.first_input, task.n_inputs, (256, length), generator=torch.Generator().manual_seed(length)
        )
    )
    tokens = encode(built.data, task, inputs).tokens
    predicted = forward(built.model, tokens, Packing.of_lengths(layout, [length] * len(inputs))).argmax(-1)
    predicted = predicted.view(len(inputs), -1)
    return (predicted == tokens[:, -predicted.shape[1] :]).all(1).double().mean().item()


@pytest.mark.parametrize("name", HARD_CASES)
def test_every_hard_case_is_always_right(name):
    built = build_hard_case(name, Parity())
    lengths = range(1, built.data.max_length + 1)
    assert [share_right(built, length) for length in lengths] == [1.0] * len(lengths)


@pytest.mark.slow
@pytest.mark.parametrize("harder", HARDER.values(), ids=HARDER)
@pytest.mark.parametrize("name", HARD_CASES)
def test_every_hard_case_is_right_whatever_the_task_and_however_hard(name, harder):
    for task in solved(name):
        if name == "table of strings" and task == Symmetric(n=3):  # 1554 strings
            continue
        built = build_hard_case(name, task, rungs=harder)
        lengths = range(1, built.data.max_length + 1)
        assert [share_right(built, length) for length in lengths] == [1.0] * len(lengths), task


def largest_change(logits, clean, pairs):
    """The largest change of the right answer's probability: what is true of an edge is that some string sees it."""
    right, before = (x.softmax(-1).gather(1, pairs.target[:, None]) for x in (logits, clean))
    return (right - before).abs().max()


def moved_alone(built, n_pairs=24):
    """The edges whose patch alone changes the output, whatever they carry: other inputs', or other positions'."""
    edges, moved = all_edges(built.model.config), set()
    every = Switch.TOKEN | Switch.LENGTH | Switch.SHIFT
    for seed, switch in enumerate((every, Switch.END | Switch.SHIFT | Switch.STATE)):
        pairs = make_pairs(built.data, switch, n_pairs, torch.Generator().manual_seed(seed))
        inputs = embeddings(built.model, pairs.clean_tokens, pairs.clean_position_ids)
        generator = torch.Generator().manual_seed(seed)
        elsewhere = baseline_outputs(built.model, inputs, "resample_over_positions", generator, pairs.read)
        for corrupt in (None, elsewhere):
            found = exact(built.model, pairs, edges, largest_change, corrupt)
            moved |= {edge for edge, score in zip(edges, found.scores.tolist(), strict=True) if score > 0.02}
    return moved


SOON = ("self-repair", "counted")


@pytest.mark.parametrize(
    ("name", "task", "max_length"),
    [(name, Parity(), 3) for name in SOON]
    + [pytest.param(name, task, 4, marks=pytest.mark.slow) for name in HARD_CASES for task in solved(name)[:3]],
    ids=str,
)
def test_the_truth_is_what_moves_the_output(name, task, max_length):
    built = build_hard_case(name, task, max_length)
    assert moved_alone(built) == built.alone


def test_what_a_hard_case_refuses():
    for name, task, rungs, complaint in (
        ("majority", Parity(), None, "name = 'majority': must be one of half lookups, counted, "),
        ("prefix sums", Copy(), None, "task = copy: must be one of parity, counter for prefix sums"),
        ("counted", Copy(), BuildOptions(split=True), "split = True: a hard case takes only sharpness, rotated, "),
    ):
        with pytest.raises(ValueError, match=complaint):
            build_hard_case(name, task, rungs=rungs)
    with pytest.raises(ValueError, match="max_length = 9: must be at most 6 for a table of strings"):
        build_hard_case("table of strings", Parity(), max_length=9)


@pytest.mark.parametrize("name", HARD_CASES)
def test_true_edges_write_what_their_readers_read(name):
    built = build_hard_case(name, Parity(), max_length=3)
    possible = connected(built.model)
    assert built.edges <= possible
    assert not [edge for edge in possible if "inert" in built.roles.get(str(edge.writer), "")]


# ------------------------------------------------------------------------- every string, by the slow twin


class BruteForce:
    """Every string as the clean one, with every string and a shift as the other."""

    def __init__(self, built, longest):
        self.model, task, data = built.model, built.data.tasks[0], built.data
        rows, ends = [], []
        n = data.layout.n_tokens(longest)
        for length in range(1, longest + 1):
            tokens = encode(data, task, all_strings(task, length)).read
            padding = torch.full((len(tokens), n - tokens.shape[1]), data.vocabulary.end_of_states_id)
            rows.append(torch.cat([tokens, padding], 1))
            ends += [(data.layout.end_of_input(length), data.layout.n_read(length))] * len(tokens)
        strings, ends = torch.cat(rows), torch.tensor(ends)
        clean, other, shift = (x.flatten() for x in torch.meshgrid(
            torch.arange(len(ends)), torch.arange(len(ends)), torch.tensor([0, 3]), indexing="ij"
        ))  # fmt: skip
        positions = torch.arange(n)
        self.tokens, self.positions = strings[clean], positions.expand(len(clean), -1)
        self.scored = (positions >= ends[clean, :1]) & (positions < ends[clean, 1:]) & (positions < ends[other, 1:])
        self.clean, logits = run_plainly(self.model, self.tokens, self.positions)
        self.before = logits.softmax(-1)
        self.other, _ = run_plainly(self.model, strings[other], self.positions + shift[:, None])
        read = (positions < ends[clean, 1:]).nonzero()
        source = read[torch.randint(len(read), self.tokens.shape, generator=torch.Generator().manual_seed(0))]
        self.elsewhere = {writer: x[source[..., 0], source[..., 1]] for writer, x in self.clean.items()}

    def moves(self, edges, other):
        _, logits = run_plainly(self.model, self.tokens, self.positions, frozenset(edges), other)
        return bool(((logits.softmax(-1) - self.before).abs().amax(-1)[self.scored] > 0.02).any())


@pytest.mark.parametrize(
    ("name", "longest"),
    [("two of three", 2), *(pytest.param(name, 3, marks=pytest.mark.slow) for name in HARD_CASES)],
)
def test_the_truth_is_found_by_brute_force(name, longest):
    built = build_hard_case(name, Parity(), longest)
    brute = BruteForce(built, longest)
    edges = all_edges(built.model.config)
    for_one_input = {edge for edge in edges if brute.moves([edge], brute.other)}
    for_other_places = {edge for edge in edges if brute.moves([edge], brute.elsewhere)}
    assert for_one_input | for_other_places == built.alone
    candidates = [edge for edge in edges if edge not in for_one_input]
    if not built.sets:  # then nothing that changes nothing alone does so together
        assert not brute.moves(candidates, brute.other)
        return
    assert not brute.moves(set(edges) - built.edges, brute.other)
    redundant = built.edges - for_one_input
    found = {frozenset(pair) for pair in itertools.combinations(redundant, 2) if brute.moves(pair, brute.other)}
    assert built.sets <= found
    assert built.edges == built.alone.union(*built.sets)
    if name == "two of three":
        assert built.sets == found


# ------------------------------------------------------------------------- what heads bring


def depends_on(built, length):
    """Inputs (from 1; 0: the state before) on which each head's output depends, row by row: {head: [{inputs}]}."""
    data, task = built.data, built.data.tasks[0]
    strings = encode(data, task, all_strings(task, length)).read
    rows = data.layout.scored(length)[:-1]
    found = {}
    for place in range(length + 1):
        columns = torch.tensor([row if place == 0 else place for row in rows])
        for column in columns.unique().tolist():
            other = strings.clone()
            is_value = strings[:, column] < task.n_states
            other[is_value, column] = 1 - strings[is_value, column]
            positions = torch.arange(strings.shape[1]).expand_as(strings)
            one, two = (run_plainly(built.model, tokens, positions)[0] for tokens in (strings, other))
            for writer in one:
                if writer.kind == "head":
                    changed = (one[writer] - two[writer]).abs().amax((0, 2)) > 1e-3
                    for t, row in enumerate(rows, start=1):
                        if changed[row] and columns[t - 1] == column:
                            found.setdefault(str(writer), [set() for _ in rows])[t - 1].add(place)
    return found


EXPECTED = {
    "x_t": lambda t, length: {t},
    "s_t": lambda t, length: {t, 0} if t > 1 else {t},
    "x_1 .. x_t": lambda t, length: set(range(1, t + 1)),
    "x_1 .. x_L": lambda t, length: set(range(1, length + 1)),
    **{f"x_{j}": lambda t, length, j=j: {j} if j <= length else set() for j in range(1, 5)},
}


@pytest.mark.parametrize("name", HARD_CASES)
def test_what_each_head_brings(name):
    built, length = build_hard_case(name, Parity(), max_length=4), 3
    found = depends_on(built, length)
    named = {head: brought for head, brought in BRINGS[name].items() if brought != "end"}
    assert set(BRINGS[name]) <= set(built.roles)
    for head, brought in named.items():
        inputs = [{place for place in row if place or brought == "s_t"} for row in found.get(head, [set()] * length)]
        assert inputs == [EXPECTED[brought](t, length) for t in range(1, length + 1)], head
    others = set(found) - set(named)
    assert not {head for head in others if any(row - {0} for row in found[head])}


@pytest.mark.parametrize("name", HARD_CASES)
def test_heads_that_bring_where_things_end(name):
    """With everything else as it is, what they put out changes when [EoI] moves."""
    built = build_hard_case(name, Parity(), max_length=4)
    words = built.data.vocabulary
    tokens = torch.zeros(4, 7, dtype=torch.long)
    tokens[:, 0] = words.task_token(Parity())
    tokens[range(4), range(2, 6)] = words.end_of_input_id
    outputs, _ = run_plainly(built.model, tokens, torch.arange(7).expand(4, 7))
    for head, brought in BRINGS[name].items():
        out = outputs[Writer("head", int(head[1]), int(head[3:]))]
        assert brought != "end" or (out.amax(0) - out.amin(0)).max() > 1e-3, head
