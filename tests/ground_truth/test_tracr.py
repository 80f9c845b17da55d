import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from slow_twin import run_plainly

from compo_mech.ground_truth.directions import connected
from compo_mech.ground_truth.tracr import read_tracr, tracr_programs, true_edges
from compo_mech.interventions.edges import TOK, all_edges
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.model.forward import forward

FOLDER = Path(__file__).parents[1] / "data" / "tracr"
NAMES = tracr_programs(FOLDER)


SLOW = ("reverse", "most_frequent", "histogram_of_sorted_reversed", "shuffled_Dyck_1")


def by_cost(names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


def logits_of(program, tokens, edges=(), other=None):
    """Behind the first token; `other` is what patched edges carry."""
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    causal = program.model.config.attention_dir == "causal"
    outputs, logits = run_plainly(program.model, tokens, positions, edges, other, causal)
    return outputs, logits[:, 1:]


def test_there_are_enough_programs():
    assert len(NAMES) == 13
    assert {name.stem for name in FOLDER.glob("*.json")} == {*NAMES, "edges"}


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_program_answers_as_the_interpreter(name):
    """On every short string, and by our forward pass, by the graph's and by the slow twin alike."""
    program = read_tracr(FOLDER, name)
    for length in program.lengths:
        tokens, answers = program.of_length(length)
        _, expected = logits_of(program, tokens)
        assert torch.equal(expected.argmax(-1), answers), length
        found = forward(program.model, tokens).view(*tokens.shape, -1)[:, 1:]
        _, graph = run_graph(
            program.model, embeddings(program.model, tokens, torch.arange(length + 1).expand_as(tokens))
        )
        for logits in (found, graph[:, 1:]):
            torch.testing.assert_close(logits.log_softmax(-1), expected.log_softmax(-1), atol=0.02, rtol=1e-3)


def test_files_are_of_the_script_beside_them():
    script = hashlib.sha256((FOLDER / "compile_programs.py").read_bytes()).hexdigest()
    for name in NAMES:
        assert json.loads((FOLDER / f"{name}.json").read_text())["script_sha256"] == script, name


def test_answers_are_the_programs():
    """The interpreter's answers, against the same programs in Python."""
    rules = {
        "reverse": lambda s: s[::-1],
        "histogram": lambda s: tuple(s.count(x) for x in s),
        "sort": lambda s: tuple(sorted(s)),
        "sort_unique": lambda s: tuple(sorted(s)),
        "most_frequent": lambda s: tuple(sorted(s, key=lambda x: -s.count(x))),
        "parity": lambda s: (sum(s) % 2,) * len(s),
        "prefix_parity": lambda s: tuple(sum(s[: i + 1]) % 2 for i in range(len(s))),
        "count": lambda s: (s.count("a"),) * len(s),
        "length": lambda s: (len(s),) * len(s),
        "histogram_of_sorted_reversed": lambda s: tuple(s.count(x) for x in sorted(s))[::-1],
        "shuffled_Dyck_1": lambda s: (int(balanced(s)),) * len(s),
        "fraction_of_previous": lambda s: tuple(s[: i + 1].count("a") / (i + 1) for i in range(len(s))),
        "pair_balance": lambda s: tuple(
            (s[: i + 1].count("(") - s[: i + 1].count(")")) / (i + 1) for i in range(len(s))
        ),
    }
    assert set(rules) == set(NAMES)
    for name, rule in rules.items():
        for string, answer in read_tracr(FOLDER, name).answers.items():
            assert answer == pytest.approx(rule(string), abs=1e-6), (name, string)


def balanced(string):
    depths = [sum(1 if x == "(" else -1 for x in string[: i + 1]) for i in range(len(string))]
    return min(depths) >= 0 and depths[-1] == 0


def moved(program, candidates, n_rows=256):
    """Those of some sets of edges that change what comes out when they carry another string's values or elsewhere's."""
    found = set()
    draws = torch.Generator().manual_seed(1)
    for length in program.lengths[1:]:
        tokens, _ = program.of_length(length)
        clean, other = (tokens[torch.randint(len(tokens), (n_rows,), generator=draws)] for _ in range(2))
        outputs, before = logits_of(program, clean)
        rows, columns = (torch.randint(n, clean.shape, generator=draws) for n in clean.shape)
        carried = [logits_of(program, other)[0], {writer: x[rows, columns] for writer, x in outputs.items()}]
        for edges in candidates - found:
            for values in carried:
                after = logits_of(program, clean, edges, values)[1]
                if (after.softmax(-1) - before.softmax(-1)).abs().max() > 0.02:
                    found.add(edges)
    return found


@pytest.mark.parametrize("name", by_cost(NAMES))
def test_the_truth_is_what_moves_the_output(name):
    """Every edge whose writer writes what its reader reads, one by one; and all others together, which do nothing."""
    program = read_tracr(FOLDER, name)
    possible = connected(program.model)
    rest = frozenset(all_edges(program.model.config)) - possible
    found = moved(program, {frozenset([edge]) for edge in possible} | {rest})
    assert rest not in found
    assert {edge for edges in found for edge in edges} == program.edges


@pytest.mark.parametrize("name", NAMES)
def test_an_edge_is_true_unless_it_only_says_where_the_string_begins(name):
    """What a true edge's writer writes its reader reads; other such edges tell a string's tokens from BOS alone."""
    program = read_tracr(FOLDER, name)
    possible, model = connected(program.model), program.model
    assert program.edges <= possible
    in_strings = [i for i, token in enumerate(program.tokens) if token not in ("BOS", "compiler_pad")]
    for edge in possible - program.edges:
        assert edge.writer == TOK, edge
        weights = {"mlp": model.params.get(f"blocks.{edge.reader.layer}.mlp.W_in")}
        if edge.reader.kind == "k":
            q, k = (model.params[f"blocks.{edge.reader.layer}.attn.W_{x}"][edge.reader.head] for x in "QK")
            weights["k"] = k @ q.T
        seen = model.params["embed.W_E"] @ weights[edge.reader.kind]
        torch.testing.assert_close(seen[in_strings], seen[in_strings[:1]].expand(len(in_strings), -1))
        assert not torch.allclose(seen[in_strings[0]], seen[program.tokens.index("BOS")])


@pytest.mark.parametrize("name", by_cost(["histogram", *SLOW]))
def test_true_edges_are_found_again(name):
    program = read_tracr(FOLDER, name)
    assert true_edges(program) == program.edges


def test_what_is_refused(tmp_path):
    program = read_tracr(FOLDER, "reverse")
    with pytest.raises(ValueError, match="value = 'z': must be one of BOS, a, b, c, compiler_pad"):
        program.encode(["abz"])
    with pytest.raises(ValueError, match="string = 6 values: must be at most 5"):
        program.encode(["abcabc"])
    with pytest.raises(ValueError, match=r"name = revers: must be one of the compiled programs in .*: count, fraction"):
        read_tracr(FOLDER, "revers")
    for suffix in (".json", ".safetensors"):
        shutil.copy(FOLDER / f"reverse{suffix}", tmp_path)
    weights = tmp_path / "reverse.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"1")
    with pytest.raises(ValueError, match=r"reverse\.safetensors = other weights: must be those that"):
        read_tracr(tmp_path, "reverse")
