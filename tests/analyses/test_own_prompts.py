"""A network taken apart on prompts: a known circuit is found and shown, and kept pieces give the same."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import random_model
from rich.console import Console

from compo_mech.analyses import own_prompt_tables as texts
from compo_mech.analyses.own_prompts import PromptSettings, moving_positions, on_prompts, sites_of
from compo_mech.analyses.pieces import Unkept
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.gradient_scorers import eap_ig
from compo_mech.cli import patch as patch_verb
from compo_mech.cli.command import call
from compo_mech.cli.commands import patch_command
from compo_mech.cli.kept_pieces import KeptPieces, key_of
from compo_mech.cli.progress import counting
from compo_mech.cli.prompts_file import pairs_in
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy
from compo_mech.data.tokenizer import SymbolTokenizer
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.metrics import logit_difference
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.patching import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.plots.faithfulness import faithfulness_by_size
from compo_mech.report.own_prompts import page

BUILT = build(Copy(), max_length=3)
MODEL, SYMBOLS = BUILT.model, SymbolTokenizer(BUILT.data.vocabulary)
ROWS = [
    {"clean": f"[copy] {x} {y} [EoI]", "corrupt": f"[copy] {1 - x} {y} [EoI]", "answer": str(x), "foil": str(1 - x),
     "spans": {"first input": 1}}
    for x in (0, 1) for y in (0, 1)
]  # fmt: skip
SETTINGS = PromptSettings(n_steps=2, n_exact=6)


@pytest.fixture(scope="module")
def pairs():
    columns = ([row[name] for row in ROWS] for name in ("clean", "corrupt", "answer", "foil"))
    return Pairs.of(MODEL, *columns, spans={"first input": 1}, tokenizer=SYMBOLS)


@pytest.fixture(scope="module")
def found(pairs):
    return on_prompts(MODEL, pairs, SETTINGS)


def test_every_part_is_what_the_library_says(found, pairs):
    edges = all_edges(MODEL.config)
    scores = eap_ig(MODEL, pairs, edges, logit_difference, n_steps=2)
    assert torch.allclose(found.scores.scores, scores.scores, atol=1e-5)
    assert found.scores.zero_gradient == scores.zero_gradient
    assert torch.allclose(found.exact.scores, exact(MODEL, pairs, found.exact.edges, logit_difference).scores)
    maps = {kind: sweep(MODEL, pairs, kind, logit_difference) for kind in ("z", "mlp_out")}
    base = Behaviour(MODEL, pairs, logit_difference).all
    for site, effect in zip(found.sites, found.effects, strict=True):
        expected = maps[site.kind][site.layer, site.head or 0] - base
        assert torch.allclose(effect, expected, atol=1e-4), site
    behaviour = Behaviour(MODEL, pairs, logit_difference)
    assert found.curve is not None
    assert found.curve.faithfulness[-1] == pytest.approx(1)
    assert found.gap == pytest.approx(behaviour.none - behaviour.all, abs=1e-4)


def test_the_circuit_of_a_known_network_is_found_and_shown(found):
    assert found.discovery.verdict == "circuit"
    assert found.discovery.kept <= BUILT.edges
    shown = page(found, "copy")
    said = texts.sentences(found)
    assert said[0].startswith("On 4 pairs (4 answers) the network's likeliest token is the answer to 100% of the clean")
    assert "L1H0.z (1.00)" in said[1]
    assert said[1].endswith("; the median of all 6 components is 0.00.")
    assert said[2].startswith(
        "Of the 6 edges of largest EAP-IG score 3 move the answers when patched, 3 in that direction (1.5 "
    )
    assert "would by chance; rank correlation " in said[2]
    assert said[4] == "Circuits of half of the prompts move 1.00 of the answers to the others (0.7 needed)."
    for text in (
        "[copy] 1 0 [EoI]",
        "The circuit: ",
        "Faithfulness of circuits",
        "1 first input",
        *map(str, found.exact.edges),
    ):
        assert text in shown, text
    score = found.scores.scores[found.scores.edges.index(found.exact.edges[0])]
    edge = f'<td class="text">{found.exact.edges[0]}</td>'
    assert f"{edge}<td>{score:.3f}</td><td>{found.exact.scores[0]:.3f}</td>" in shown
    figure = faithfulness_by_size(found.curve, found.random, circuit=4)
    (mark,) = figure.to_dict()["layout"]["annotations"]
    assert mark["x"] == pytest.approx(math.log10(4))  # plotly takes logarithms for texts on such an axis
    tables = texts.tables(found)
    assert len(tables["edges"]) == len(all_edges(MODEL.config))
    assert len(tables["patching"]) == len(sites_of(MODEL, "heads")) * found.pairs.clean_tokens.shape[1]
    assert tables["answers"]["p_answer_clean"].min() > 0.9


def test_effects_are_there_wherever_a_patch_moves_an_answer():
    model = random_model(ModelConfig(d_model=16, n_heads=2), DataConfig(max_length=4))
    asked = Pairs.of(model, [[5, 0, 1, 0, 1]], [[5, 0, 0, 0, 1]], [1], [0], position=[3])
    found = on_prompts(model, asked, PromptSettings(n_steps=1, n_exact=1))
    maps = {kind: sweep(model, asked, kind, logit_difference) for kind in ("z", "mlp_out")}
    base = Behaviour(model, asked, logit_difference).all
    expected = torch.stack([maps[site.kind][site.layer, site.head or 0] for site in found.sites]) - base
    assert torch.allclose(found.effects, expected, atol=1e-5)
    assert list(moving_positions(asked)) == found.effects.any(0).nonzero()[:, 0].tolist() == [2, 3]


def test_prompts_that_move_nothing_are_said_to(pairs):
    given = [[[4, 0, 1, 2], [4, 1, 1, 2]], [[4, 0, 0, 2], [4, 1, 0, 2]], [0, 1], [1, 0]]
    found = on_prompts(MODEL, Pairs.of(MODEL, *given, tokenizer=SYMBOLS), PromptSettings(n_steps=1, n_exact=3))
    assert found.fractions is None
    shown = page(found, "still")
    assert "Rise of the logit difference of foil and answer when one component" in shown
    assert "The corrupt prompts move nothing" in shown
    assert "nan" not in " ".join(texts.sentences(found))


class Names(Unkept):
    """Knows what pieces it was asked for."""

    def __init__(self):
        self.asked = []

    def piece(self, name, compute):
        self.asked.append(name)
        return compute()


def test_halves_with_the_same_clean_prompts_are_pieces_of_their_own():
    corrupt = ["[copy] 1 0 [EoI]", "[copy] 1 1 [EoI]"]
    asked = Pairs.of(MODEL, ["[copy] 0 1 [EoI]"] * 2, corrupt, ["0"] * 2, ["1"] * 2, tokenizer=SYMBOLS)
    names = Names()
    on_prompts(MODEL, asked, PromptSettings(n_steps=1, n_exact=1), names)
    gradients = [name for name in names.asked if name.startswith("gradient")]
    assert len(gradients) == 4  # of all rows, once more to find the circuit, and of either half
    assert len(set(gradients)) == 3


class Interrupted(KeptPieces):
    """Stops in front of one piece."""

    left = 9

    def piece(self, name, compute):
        def counted():
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return compute()

        return super().piece(name, counted)


def test_what_was_kept_before_ctrl_c_is_gone_on_with(tmp_path, found, pairs):
    folder = tmp_path / key_of(MODEL, pairs, SETTINGS, "compo_mech.analyses.own_prompts")
    with counting(Console(quiet=True)) as bar, pytest.raises(KeyboardInterrupt):
        on_prompts(MODEL, pairs, SETTINGS, Interrupted(folder, bar))
    assert len(list(folder.iterdir())) == 9
    damaged, displaced, another, *_ = sorted(folder.iterdir())
    damaged.write_text(damaged.read_text().replace("value", "valve"))
    displaced.write_text(another.read_text())
    with counting(Console(quiet=True)) as bar:
        keeper = KeptPieces(folder, bar)
        again = on_prompts(MODEL, pairs, SETTINGS, keeper)
    assert keeper.n_known == 7 + SETTINGS.n_steps  # the circuit is sought by the same gradients
    for name, table in texts.tables(found).items():
        assert table.equals(texts.tables(again)[name]), name
    assert texts.sentences(again) == texts.sentences(found)


def test_pieces_are_kept_apart_for_other_networks_pairs_settings_and_code(pairs):
    code = "compo_mech.analyses.own_prompts"
    other = build(Copy(), max_length=2).model
    taken = Pairs.of(MODEL, *([[row[name] for row in ROWS[:2]] for name in ("clean", "corrupt", "answer", "foil")]),
                     tokenizer=SYMBOLS)  # fmt: skip
    keys = {
        key_of(MODEL, pairs, SETTINGS, code),
        key_of(other, pairs, SETTINGS, code),
        key_of(MODEL, taken, SETTINGS, code),
        key_of(MODEL, replace(pairs, corrupt_kind="altered"), SETTINGS, code),
        key_of(MODEL, replace(pairs, foil=pairs.target), SETTINGS, code),
        key_of(MODEL, pairs, PromptSettings(seed=1), code),
        key_of(MODEL, pairs, SETTINGS, "compo_mech.analyses.watch"),
    }
    assert len(keys) == 7


def test_a_single_pair_has_no_halves(pairs):
    one = Pairs.of(MODEL, *([[ROWS[0][name]] for name in ("clean", "corrupt", "answer", "foil")]), tokenizer=SYMBOLS)
    found = on_prompts(MODEL, one, PromptSettings("layers", 1, 2))
    assert found.discovery is None
    assert "cannot be told from one pair" in texts.sentences(found)[-1]
    assert [str(site) for site in found.sites] == ["attn_out0", "mlp_out0", "attn_out1", "mlp_out1"]
    shown = page(found, "one")
    assert "No circuit: the 24 of largest score" in shown
    assert "attn_out: all heads of a layer together" in shown


BAD = {
    "": "must have at least one pair",
    "[1]": "line 1: must be a JSON object with clean, corrupt, answer, foil",
    "{": "line 1: must be a JSON object with ",
    '{"clean": "a", "corrupt": "b", "answer": "c"}': "line 1: must have foil",
    '{"clean": 1, "corrupt": "b", "answer": "c", "foil": "d"}': "line 1: clean must be a text or ",
    '{"clean": [1], "corrupt": [0], "answer": [[1]], "foil": 0}': "line 1: answer must be a token, ",
    '{"clean": [1], "corrupt": [0], "answer": 1, "foil": 0, "spans": {"x": [1]}}': "line 1: spans must be an object ",
    '{"clean": [1], "corrupt": [0], "answer": 1, "foil": 0, "span": 1}': "line 1: 'span' must be one of clean, ",
    '{"clean": [1], "corrupt": [0], "answer": 1, "foil": true}': "line 1: foil must be a token, ",
    '{"clean": [1], "corrupt": [0], "answer": 1, "foil": 0, "answer": 2}': "line 1: must have 'answer' once",
    '{"clean": [1], "corrupt": [0], "answer": 1, "foil": 0, "spans": {"a": 0, "a": 1}}': "line 1: must have 'a' once",
    json.dumps(ROWS[0]) + '\n{"clean": [1], "corrupt": [0], "answer": ' + "1" * 5001 + "}": "line 2: must be a JSON ob",
    json.dumps(ROWS[0])
    + "\n"
    + json.dumps({k: v for k, v in ROWS[1].items() if k != "spans"}): "spans must be in every",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, text):
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match="prompts = ") as told:
        pairs_in(file, MODEL)
    assert BAD[text] in str(told.value)
    assert "\n" not in str(told.value)


def test_a_line_ends_where_the_file_says_so(tmp_path):
    file = tmp_path / "prompts.jsonl"
    row = {"clean": [4, 0, 2], "corrupt": [4, 1, 2], "answer": 0, "foil": 1, "spans": {"one\u2028two\x85": 1}}
    file.write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert list(pairs_in(file, MODEL).spans) == list(row["spans"])


def test_a_file_may_begin_with_a_mark_of_its_encoding(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8-sig")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    model = type(MODEL)(MODEL.params, MODEL.config, SYMBOLS)
    assert len(pairs_in(file, model).lengths) == len(ROWS)


def test_a_file_gives_the_pairs_that_it_holds(tmp_path, pairs, monkeypatch, capsys):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    model = type(MODEL)(MODEL.params, MODEL.config, SYMBOLS)
    read = pairs_in(file, model)
    for name in ("clean_tokens", "corrupt_tokens", "target", "foil", "position"):
        assert torch.equal(getattr(read, name), getattr(pairs, name))
    assert torch.equal(read.spans["first input"], pairs.spans["first input"])
    monkeypatch.setattr(patch_verb, "load_model", lambda name: model)
    call(patch_command, ["built", str(file), "--edges", "tok -> L1H0.v @ first input"])
    assert "tok → L1H0.v @ first input: logit difference" in capsys.readouterr().out
    for words, line in {
        "--edges L9H0": "patch = L9H0: must be one of the network's",
        f"--out {file}": f"out = {file}: must be a folder, or not be there yet",
        "--out .": "out = .: must not hold the working directory, since it is replaced",
        f"--out {file}/page": f"out = {file}/page: must be in a folder that can be written",
    }.items():
        with pytest.raises(SystemExit) as stopped:
            call(patch_command, ["built", str(file), *words.split(" ", 1)])
        assert stopped.value.code == 2
        assert line in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        call(patch_command, ["built", "."])
    assert "error: prompts = .: must be a file of JSON lines, and is a folder\n" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompts.jsonl"]


def test_a_network_that_is_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(patch_command, [str(tmp_path / "nothing"), str(tmp_path / "prompts.jsonl")])
    assert "must be the folder of a run, smollm2, or the path of its file or wheel" in capsys.readouterr().err
