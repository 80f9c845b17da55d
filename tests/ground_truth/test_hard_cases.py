import itertools

import pytest
import torch

from compo_mech.circuits.scorers import exact
from compo_mech.data.encode import encode
from compo_mech.data.packing import Packing
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.hard_cases import HARD_CASES, build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.ablation import baseline_outputs
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer, all_edges
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


@pytest.mark.parametrize("harder", HARDER.values(), ids=HARDER)
@pytest.mark.parametrize("name", HARD_CASES)
def test_every_hard_case_is_always_right(name, harder):
    for task in solved(name):
        if name == "table of strings" and task == Symmetric(n=3):
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


@pytest.mark.parametrize("name", HARD_CASES)
def test_the_truth_is_what_moves_the_output(name):
    built = build_hard_case(name, Parity(), max_length=4)
    moved = moved_alone(built)
    assert moved == built.alone


# ------------------------------------------------------------------------- the slow twin: weights written out


def run_plainly(model, tokens, position_ids, edges=(), other=None):
    """What every writer puts out, and the logits, where some edges carry what their writers put out in another run."""
    p, config = model.params, model.config
    out = {TOK: p["embed.W_E"][tokens], POS: p["pos_embed.W_pos"][position_ids]}

    def seen(reader):
        return sum((other if Edge(writer, reader) in edges else out)[writer] for writer in out)

    future = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    for layer in range(config.n_layers):
        a, m = f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
        written = {}
        for h in range(config.n_heads):
            q, k, v = (seen(Reader(x, layer, h)) @ p[f"{a}W_{x.upper()}"][h] + p[f"{a}b_{x.upper()}"][h] for x in "qkv")
            scores = (q @ k.transpose(1, 2) / config.head_width**0.5).masked_fill(future, -1e30)
            written[Writer("head", layer, h)] = scores.softmax(-1) @ v @ p[f"{a}W_O"][h]
        out |= written
        hidden = (seen(Reader("mlp", layer)) @ p[f"{m}W_in"] + p[f"{m}b_in"]).relu()
        out[Writer("mlp", layer)] = hidden @ p[f"{m}W_out"] + p[f"{m}b_out"]
    return out, seen(LOGITS) @ p["unembed.W_U"] + p["unembed.b_U"]


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


def soon(*names):
    return [pytest.param(name, marks=[] if name in names else [pytest.mark.slow]) for name in HARD_CASES]


@pytest.mark.parametrize("name", soon("two of three"))
def test_the_truth_is_found_by_brute_force(name):
    built = build_hard_case(name, Parity(), max_length=3)
    brute = BruteForce(built, longest=3)
    edges = all_edges(built.model.config)
    for_one_input = {edge for edge in edges if brute.moves([edge], brute.other)}
    for_other_places = {edge for edge in edges if brute.moves([edge], brute.elsewhere)}
    assert for_one_input | for_other_places == built.alone
    candidates = [edge for edge in edges if edge not in for_one_input]
    if not built.sets:  # then nothing that changes nothing alone does so together
        assert not brute.moves(candidates, brute.other)
        return
    redundant = built.edges - for_one_input
    idle = set(edges) - built.edges
    assert not brute.moves(idle, brute.other)
    found = {frozenset(pair) for pair in itertools.combinations(redundant, 2) if brute.moves(pair, brute.other)}
    assert found == built.sets
    assert built.edges == built.alone.union(*built.sets)
