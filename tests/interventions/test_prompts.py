"""Pairs of anybody's prompts: what is read, where it answers, what is refused, and that nothing else changes."""

import math
from dataclasses import replace

import numpy
import pandas
import pytest
import torch
from helpers import generator, pairs_of, random_model

from compo_mech.circuits.discovery import discover
from compo_mech.circuits.exact import exact
from compo_mech.circuits.gradient_scorers import eap_ig
from compo_mech.circuits.prompts import take_rows
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Span
from compo_mech.data.tasks import Parity
from compo_mech.data.tokenizer import SymbolTokenizer
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.interventions.pairs import Pairs, Switch
from compo_mech.interventions.patch_by_text import patch
from compo_mech.interventions.patching import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model


class Letters:
    """A tokenizer with a token for each letter, for two pairs of letters, and one in front of every text."""

    words = ("<s>", "ab", "cd", *"abcdef ")

    def encode(self, text):
        ids = [0]
        while text:
            word = next(word for word in self.words[1:] if text.startswith(word))
            ids.append(self.words.index(word))
            text = text[len(word) :]
        return ids

    def decode(self, token_ids):
        return "".join(self.words[i] for i in token_ids)


LETTERS = Letters()
DATA = DataConfig(max_length=4)
MODEL = random_model(ModelConfig(d_model=16, n_heads=2), DATA)
EMBEDDING = torch.randn(10, 16, generator=generator())
READS = Model(
    MODEL.params | {"embed.W_E": EMBEDDING, "unembed.W_U": EMBEDDING.T.contiguous()},
    MODEL.config,
    LETTERS,
)


def of(clean=("aca", "bca"), corrupt=("ada", "bda"), answer=("e", "f"), foil=("f", "e"), model=READS, **more):
    return Pairs.of(model, list(clean), list(corrupt), list(answer), list(foil), **more)


def test_texts_are_read_as_their_tokens_are():
    texts, ids = of(), of([[0, 3, 5, 3], [0, 4, 5, 3]], [[0, 3, 6, 3], [0, 4, 6, 3]], [7, 8], [8, 7])
    for name in ("clean_tokens", "corrupt_tokens", "position", "row", "target", "foil", "lengths"):
        assert torch.equal(getattr(texts, name), getattr(ids, name)), name
    assert texts.position.tolist() == [3, 3]
    assert texts.read.all()
    assert texts.foil_is_answer.all()


class WithBos(Letters):
    """Says which token is in front of every text."""

    bos_token_id = 0


def test_a_text_begins_with_one_bos():
    assert torch.equal(of(tokenizer=WithBos(), prepend_bos=True).clean_tokens, of().clean_tokens)


def test_pairs_of_prompts_are_those_of_the_task_where_they_are_the_same():
    """The same rows, drawn for the task and given as ids: every analysis finds the same."""
    built = build(Parity(), max_length=3)
    drawn = pairs_of(built.data, Switch.TOKEN, n_rows=6)
    rows = [drawn.row == i for i in range(6)]
    lengths = [int(n) for n in drawn.layout.n_read(drawn.lengths)]
    differ = [
        i for i, n in enumerate(lengths) if not torch.equal(drawn.clean_tokens[i, :n], drawn.corrupt_tokens[i, :n])
    ]
    kept = [rows[i] & (drawn.target != drawn.foil) for i in range(6)]
    differ = [i for i in differ if kept[i].any()]
    given = Pairs.of(
        built.model,
        [drawn.clean_tokens[i, : lengths[i]] for i in differ],
        [drawn.corrupt_tokens[i, : lengths[i]] for i in differ],
        [drawn.target[kept[i]].tolist() for i in differ],
        [drawn.foil[kept[i]].tolist() for i in differ],
        position=[drawn.position[kept[i]].tolist() for i in differ],
    )
    scored = torch.stack(kept).any(0)
    same = take_rows(
        replace(drawn, **{name: getattr(drawn, name)[scored] for name in ("row", "position", "target", "foil")}),
        torch.tensor(differ),
    )
    edges = all_edges(built.model.config)
    for scorer in (exact, eap_ig):
        assert torch.allclose(scorer(built.model, given, edges).scores, scorer(built.model, same, edges).scores)
    for metric in METRICS.values():
        assert torch.allclose(
            sweep(built.model, given, "z", metric)[..., :7], sweep(built.model, same, "z", metric)[..., :7]
        )
    verdicts = [discover(built.model, pairs, generator(1)) for pairs in (given, same)]
    assert verdicts[0].verdict == verdicts[1].verdict
    assert verdicts[0].accuracy == verdicts[1].accuracy


def test_an_answer_goes_on_from_its_prompt():
    """Behind `a`, `b` would be written together with it: it is then the token by itself."""
    assert of(["eca", "fca"], ["eda", "fda"], ["b", "c"], ["c", "b"]).target.tolist() == [4, 5]
    assert of(["ec", "fc"], ["ed", "fd"], ["ab", "a"], ["a", "ab"]).target.tolist() == [1, 3]


def test_rows_of_different_lengths_are_padded_and_the_padding_changes_nothing():
    short, long = of(), of(["aca", "bca", "eeeeee"], ["ada", "bda", "ffffff"], ["e", "f", "a"], ["f", "e", "b"])
    assert long.read.sum(1).tolist() == [4, 4, 7]
    edges = all_edges(READS.config)
    assert torch.allclose(
        exact(READS, short, edges).scores, exact(READS, take_rows(long, torch.tensor([0, 1])), edges).scores, atol=1e-6
    )
    other = replace(long, clean_tokens=torch.where(long.read, long.clean_tokens, 9))
    assert torch.equal(exact(READS, long, edges).scores, exact(READS, other, edges).scores)


def test_spans_are_positions_ranges_and_texts_of_the_clean_rows():
    pairs = of(["acab", "fcabe"], ["adab", "fdabe"], spans={
        "second": 2, "last": -1, "some": range(1, 3), "text": ["ca", "be"], "each": [0, -1], "x3": 1, "first": -1,
    })  # fmt: skip
    found = {name: [row.nonzero()[:, 0].tolist() for row in pairs.where(Span(name))] for name in pairs.spans}
    assert found["second"] == [[2], [2]]
    assert found["last"] == found["first"] == [[3], [4]]
    assert found["some"] == [[1, 2], [1, 2]]
    assert found["text"] == [[2, 3], [3, 4]]  # the token `ab` is touched
    assert found["each"] == [[0], [4]]
    assert pairs.where(Span("input", 3)).equal(pairs.where(Span("x3")))
    taken = take_rows(pairs, torch.tensor([1]))
    assert taken.where(Span("text"))[0].nonzero()[:, 0].tolist() == [3, 4]
    everywhere = sweep(READS, pairs, "z", cross_entropy, positions=[Span("text")])
    assert everywhere.shape == (2, 2, 1)


BAD = {
    "answer[1] = 'ea': must be one token, and is 2: 'e' 'a'": {"answer": ["e", "ea"]},
    "answer[0] = '': must be one token": {"answer": ["", "e"]},
    "answer = 1 rows: must be 2, as many as there are clean prompts": {"answer": ["e"]},
    "foil[0] = token 7: must differ from the answer": {"foil": ["e", "a"]},
    "corrupt[1] = clean[1]: must differ from it, or no patch can show anything": {"corrupt": ["ada", "bca"]},
    "corrupt[0] = 3 tokens: must be 4, as clean[0] is, or position must say where both answer": {
        "corrupt": ["fd", "b"]
    },
    "clean[0] = token 10: must be 0 .. 9, what the model knows": {"clean": [[10, 1, 1], "bca"]},
    "answer[1] = token -1: must be 0 .. 9, what the model knows": {"answer": ["e", -1]},
    "clean[1] = 26 tokens: must be at most 20, what the model reads": {"clean": ["aca", "f" * 25]},
    "clean[1] = '': must have at least one token": {"clean": ["aca", []]},
    "clean = none: must have at least one prompt": {"clean": []},
    "position[0] = 5: must be -4 .. 3": {"position": [5, 1]},
    "position[1] = 3: must be 0 .. 2, where corrupt[1] is read": {"position": [3, 3], "corrupt": ["ada", "bd"]},
    "position[1] = none: must be at least one, where the row answers": {"position": [1, []]},
    "position[0] = [3, -1]: must be different ones": {"position": [[3, -1], 1]},
    "answer[0] = 1 answers: must be 2, since the row answers at 2 positions": {"position": [[2, 3], 1]},
    "spans[name][1] = 'ac': must be in its row once, and is 0 times in '<s>bca'": {"spans": {"name": "ac"}},
    "spans[name][0] = 4: must be -4 .. 3, a position of its row": {"spans": {"name": 4}},
    "spans[name][0] = range(2, 5): must lie within the 4 tokens of its row": {"spans": {"name": range(2, 5)}},
    "spans[name] = 1 rows: must be 2, as many as there are clean prompts": {"spans": {"name": [1]}},
    "prepend_bos = True: must be False for a tokenizer without a bos_token_id": {"prepend_bos": True},
    "clean[0] = 'aca': must be token ids, or there must be a tokenizer": {"model": replace(READS, tokenizer=None)},
    "spans[name][0] = 'ac': must be positions, or there must be a tokenizer": {
        "model": replace(READS, tokenizer=None), "clean": [[3, 5, 3]], "corrupt": [[3, 6, 3]], "answer": [7],
        "foil": [8], "spans": {"name": "ac"},
    },
    "clean[0][1] = 5.9: must be a token id, which is an integer": {"clean": [[0, 5.9, 5, 3], "bca"]},
    "clean[0][1] = True: must be a token id, which is an integer": {"clean": [[0, True, 5, 3], "bca"]},
    "clean[1][0] = '5': must be a token id, which is an integer": {"clean": ["aca", ["5", "1"]]},
    "clean[0][0] = [0]: must be a token id, which is an integer": {"clean": [[[0], [3]], "bca"]},
    "clean[0][0] = tensor(0.): must be a token id, which is an integer": {"clean": torch.zeros(2, 4)},
    "clean[0] = b'aca': must be a text or a list of token ids": {"clean": [b"aca", "bca"]},
    "clean[1] = None: must be a text or a list of token ids": {"clean": ["aca", None]},
    "corrupt[0] = 5: must be a text or a list of token ids": {"corrupt": [5, "bda"]},
    "position = 3: must be a list of them, one for each pair": {"position": 3},
    "position[0] = 3.7: must be a position, which is an integer, or a list of them": {"position": [3.7, 3]},
    "position[1] = nan: must be a position, which is an integer, or a list of them": {"position": [3, math.nan]},
    "position[1] = '3': must be a position, which is an integer, or a list of them": {"position": [3, "3"]},
    "position[0] = True: must be a position, which is an integer, or a list of them": {"position": [True, 3]},
    "position[0] = [3, 2.5]: must be a position, which is an integer, or a list of them": {"position": [[3, 2.5], 3]},
    "position[1] = None: must be a position, which is an integer, or a list of them": {"position": [3, None]},
    "answer[0] = 1.9: must be a token, as a text or an id": {"answer": [1.9, "e"]},
    "answer[1] = nan: must be a token, as a text or an id": {"answer": ["e", math.nan]},
    "answer[1] = None: must be a token, as a text or an id": {"answer": ["e", None]},
    "foil[0] = tensor(1.9000): must be a token, as a text or an id": {"foil": torch.tensor([1.9, 2.0])},
    "spans = ['a']: must be a dictionary of places by name": {"spans": ["a"]},
    "spans[name][0] = None: must be a position, a range of them or a text": {"spans": {"name": None}},
    "spans[name][0] = 1.5: must be a position, a range of them or a text": {"spans": {"name": 1.5}},
    "spans[name][1] = True: must be a position, a range of them or a text": {"spans": {"name": [1, True]}},
    "corrupt_kind = 'alterd': must be one of trained, shifted, altered": {"corrupt_kind": "alterd"},
}  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_what_is_wrong_with_prompts_is_said_in_one_line(line):
    of()  # types are checked in a test's first call alone
    with pytest.raises(ValueError, match=r".") as told:
        of(**BAD[line])
    assert str(told.value) == line


def test_a_span_that_nobody_named_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="span = object: must be one of subject"):
        of(spans={"subject": 1}).where(Span("object"))
    assert SymbolTokenizer(DATA.vocabulary).encode("") == []


def test_a_symbol_that_there_is_not_is_named_with_its_prompt():
    model, tokenizer = random_model(ModelConfig(d_model=8), DATA), SymbolTokenizer(DATA.vocabulary)
    given = {"clean": ["[parity] 1 0 [EoI]"], "corrupt": ["[parity] 0 0 [EoI]"], "answer": ["1"], "foil": ["0"]}
    for name, text in (("clean", "[parity] 1 9 [EoI]"), ("foil", "9")):
        with pytest.raises(ValueError, match=r"must be one of 0 1 \[EoI\]") as told:
            of(**given | {name: [text]}, model=model, tokenizer=tokenizer)
        assert str(told.value).startswith(f"{name}[0] = '{text}': must be what the tokenizer reads (symbol = '9': must")


def test_rows_of_a_sorted_and_of_a_filtered_table_are_read_in_their_order():
    """A column of pandas keeps the row numbers it had."""
    rows = {"clean": ["acaeb", "bcaeb"], "corrupt": ["adaeb", "bdaeb"], "answer": ["e", "f"], "foil": ["f", "e"]}
    table = pandas.DataFrame(rows | {"position": [[3], [4]], "name": [1, 2]}).sort_values("answer", ascending=False)
    names = list(rows)
    found = Pairs.of(READS, *(table[name] for name in names), position=table.position, spans={"name": table.name})
    listed = of(*([table[name].iloc[i] for i in (0, 1)] for name in names), position=[[4], [3]], spans={"name": [2, 1]})
    for name, value in found.tensors.items():
        assert torch.equal(value, getattr(listed, name)), name
    assert found.position.tolist() == [4, 3]
    assert torch.equal(found.spans["name"], listed.spans["name"])
    one = table[table.answer == "f"]
    alone = Pairs.of(READS, *(one[name] for name in names), position=one.position)
    assert (alone.position.tolist(), alone.target.tolist()) == ([4], [8])


def test_an_answer_of_a_sorted_table_goes_on_from_the_prompt_of_its_row():
    table = pandas.DataFrame({"clean": ["eca", "fcb"], "corrupt": ["eda", "fdb"], "answer": ["b", "ab"]})
    table["foil"] = ["c", "a"]
    table = table.sort_values("clean", ascending=False)
    asked = []

    class Listening(Letters):
        def encode(self, text):
            asked.append(text)
            return super().encode(text)

    columns = (table[name] for name in ("clean", "corrupt", "answer", "foil"))
    assert Pairs.of(READS, *columns, tokenizer=Listening()).target.tolist() == [1, 4]
    assert "fcbab" in asked
    assert "ecaab" not in asked


@pytest.mark.parametrize(
    "column", [torch.tensor, numpy.array, pandas.Series, lambda x: [numpy.int64(i) for i in x], iter]
)
def test_integers_of_every_library_are_taken(column):
    of()  # types are checked in a test's first call alone
    found = of(
        [[0, 3, 5, 3], numpy.array([0, 4, 5, 3])],
        [[0, 3, 6, 3], torch.tensor([0, 4, 6, 3])],
        column([7, 8]),
        [numpy.int32(8), torch.tensor(7)],
        position=column([2, -1]),
        spans={"name": column([1, 2])},
    )
    assert (found.target.tolist(), found.foil.tolist(), found.position.tolist()) == ([7, 8], [8, 7], [2, 3])
    assert found.where(Span("name")).nonzero().tolist() == [[0, 1], [1, 2]]
    assert torch.equal(found.clean_tokens, of().clean_tokens)


@pytest.mark.parametrize(("n_answers", "last"), [(9, 8), (10, 9), (12, 11)])
def test_answers_are_tokens_that_have_a_logit(n_answers, last):
    """However many the network reads: here 10."""
    params = READS.params | {"unembed.W_U": torch.randn(16, n_answers, generator=generator())}
    model = replace(READS, params=params)
    found = of([[0, 3, 5, 3]], [[0, 3, 6, 3]], [last], [0], model=model)
    assert patch(model, found, "L0H0").clean_logits.shape == (1, n_answers)
    for answer, foil in ((last + 1, 0), (0, last + 1)):
        name = "answer" if answer else "foil"
        with pytest.raises(
            ValueError, match=rf"^{name}\[0\] = token {last + 1}: must be 0 \.\. {last}, what the model"
        ):
            of([[0, 3, 5, 3]], [[0, 3, 6, 3]], [answer], [foil], model=model)
    with pytest.raises(
        ValueError, match=rf"^pairs\.answers = 0 \.\. {last + 1}: must be 0 \.\. {last}, what the model"
    ):
        patch(model, replace(found, target=found.target + 1), "L0H0")
