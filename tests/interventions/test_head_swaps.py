from dataclasses import replace

import pytest
import torch
from helpers import generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.build import build
from compo_mech.interventions.ablation import ablated_logits
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.head_evidence import head_evidence
from compo_mech.interventions.head_swaps import TIE, Swaps
from compo_mech.interventions.swapped_rows import MIN_CELLS, end_rows, input_rows
from compo_mech.model.config import ModelConfig

TASKS = [Parity(), Copy(), Polynomial(modulus=5), Symmetric(n=3)]
DATA = DataConfig(max_length=6)


def of(task, **settings):
    return DataConfig(tasks=(task,), **({"max_length": 6} | settings))


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_answers_are_those_of_the_contents(task):
    data = of(task)
    rows = input_rows(data, task, 200, generator())
    at, words = torch.arange(200), data.vocabulary
    ends = [(tokens == words.end_of_input_id).int().argmax(1) for tokens in (rows.tokens, rows.other_tokens)]
    assert torch.equal(*ends)  # of one length
    assert torch.equal(rows.position, ends[0] + rows.t - 1)
    assert (rows.t > 1).all()
    x, other_x = (tokens[at, rows.t] for tokens in (rows.tokens, rows.other_tokens))
    s, other_s = (tokens[at, rows.position] for tokens in (rows.tokens, rows.other_tokens))
    assert torch.equal(rows.own, task.table[s, x])
    assert torch.equal(rows.answers["x"], task.table[s, other_x])
    assert torch.equal(rows.answers["state"], task.table[other_s, x])
    assert torch.equal(rows.answers["answer"], task.table[other_s, other_x])
    assert torch.equal(rows.other, rows.answers["answer"])
    for i in range(20):
        t = int(rows.t[i])
        inputs, other = (tokens[i, 1 : t + 1] for tokens in (rows.tokens, rows.other_tokens))
        assert rows.answers["prefix"][i] == task.states(other)[-1]
        for k in range(1, 7):
            mixed = torch.where(torch.arange(1, t + 1) == k, other, inputs)
            assert rows.answers[f"x_{k}"][i] == task.states(mixed)[-1]
    for value, new in ((x, other_x), (s, other_s)):
        assert 0.35 < (value == new).double().mean() < 0.65  # answers that stay are asked as often
    before = [tokens[at, rows.position - 1] for tokens in (rows.tokens, rows.other_tokens)]
    assert torch.equal(*(tokens[rows.t > 2] for tokens in before))  # other states are the same


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_end_is_elsewhere_and_the_row_predicts_another_input(task):
    data = of(task)
    rows = end_rows(data, task, 200, generator())
    assert rows is not None
    at, end_id = torch.arange(200), data.vocabulary.end_of_input_id
    ends = [(tokens == end_id).int().argmax(1) for tokens in (rows.tokens, rows.other_tokens)]
    assert (ends[0] != ends[1]).all()
    other_t = rows.position - ends[1] + 1
    s, x = rows.tokens[at, rows.position], rows.tokens[at, rows.t]
    assert torch.equal(s, rows.other_tokens[at, rows.position])
    assert torch.equal(rows.own, task.table[s, x])
    assert torch.equal(rows.answers["end"], task.table[s, rows.tokens[at, other_t]])
    assert torch.equal(rows.other, task.table[s, rows.other_tokens[at, other_t]])
    for i in range(20):
        assert rows.answers["end of prefix"][i] == task.states(rows.tokens[i, 1 : other_t[i] + 1])[-1]
    assert 0.3 < (rows.answers["end"] == rows.own).double().mean() < 0.7


def test_the_end_is_asked_where_enough_rows_ask_for_it():
    assert end_rows(of(Parity(), max_length=4), Parity(), 8, generator()) is None  # 2 of MIN_CELLS
    assert end_rows(of(Parity(), min_length=6), Parity(), 8, generator()) is None
    assert end_rows(of(Parity(), max_length=5), Parity(), 8, generator()) is not None
    assert end_rows(of(Parity(), chain_of_thought=False), Parity(), 8, generator()) is None
    assert MIN_CELLS > 2


@pytest.mark.parametrize("heads", [[(1, 1)], [(0, 0), (1, 1)], [(0, 0), (0, 1), (2, 0)]], ids=str)
def test_a_swap_is_the_whole_network_run_anew(heads):
    """The slow twin: every row computed, with other outputs of the heads at the row alone."""
    config = ModelConfig(d_model=16, n_layers=3, n_heads=2, biases=True)
    model, rows = random_model(config, DATA), input_rows(DATA, Parity(), 12, generator())
    swaps, chosen = Swaps(model, rows), [Writer("head", *head) for head in heads]
    at, ids = torch.arange(12), torch.arange(rows.tokens.shape[1]).expand_as(rows.tokens)
    own, logits = run_graph(model, embeddings(model, rows.tokens, ids))
    other, _ = run_graph(model, embeddings(model, rows.other_tokens, ids))
    here = torch.zeros_like(rows.tokens).scatter(1, rows.position[:, None], 1)[..., None].bool()
    values = {head: torch.where(here, other[head], own[head]) for head in chosen}
    slow = ablated_logits(model, own, chosen, values)[at, rows.position]
    torch.testing.assert_close(swaps.swapped(*chosen), slow, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(swaps.clean, logits[at, rows.position], atol=2e-5, rtol=1e-4)
    assert (swaps.swapped(*chosen) - swaps.clean).abs().max() > 1e-3
    everywhere = {head: swapped for head, swapped, _ in swaps.everywhere(chosen)}
    slow = ablated_logits(model, own, chosen[:1], {chosen[0]: other[chosen[0]]})[at, rows.position]
    torch.testing.assert_close(everywhere[chosen[0]], slow, atol=2e-5, rtol=1e-4)


def test_evidence_draws_from_its_generator_alone():
    model = random_model(ModelConfig(d_model=16, n_heads=2), DATA)
    found = [head_evidence(model, DATA, Parity(), generator(seed), 32) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_rows_beside_are_answered_by_the_network_itself():
    """Of what heads do there nothing is expected where the network is wrong."""
    built, rows = build(Parity(), max_length=5), input_rows(DataConfig(max_length=5), Parity(), 128, generator())
    assert Swaps(built.model, rows).beside.mean == 1
    for n_wrong in (1, 40):
        other = torch.cat([1 - rows.other[:n_wrong], rows.other[n_wrong:]])
        assert Swaps(built.model, replace(rows, other=other)).beside.mean == 1 - n_wrong / 128
    without = input_rows(of(Parity(), chain_of_thought=False), Parity(), 64, generator())
    lengths = (without.other_tokens == DATA.vocabulary.end_of_input_id).int().argmax(1) - 1
    inputs = [row[1 : n + 1] for row, n in zip(without.other_tokens, lengths.tolist(), strict=True)]
    assert without.other.tolist() == [int(x.sum()) % 2 for x in inputs]


def test_an_answer_that_hardly_leads_follows_nothing():
    built = build(Parity(), max_length=5)
    swaps = Swaps(built.model, input_rows(built.data, Parity(), 128, generator()))
    for factor, stayed in ((TIE / 2, 0.0), (2 * TIE, 1.0)):  # of the lead that answers have otherwise
        assert {found.stays.mean for found in swaps.followed(factor * swaps.clean).values()} == {stayed}


@pytest.mark.parametrize("part", [-0.5, 0.0, 0.5, 1.0])
def test_logits_go_as_far_towards_a_content_as_two_answers_are_exchanged(part):
    built = build(Parity(), max_length=5)
    swaps = Swaps(built.model, input_rows(built.data, Parity(), 128, generator()))
    own, other = (swaps.clean.gather(1, id[:, None]) for id in (swaps.rows.own, 1 - swaps.rows.own))
    exchanged = swaps.clean.scatter(1, swaps.rows.own[:, None], other).scatter(1, 1 - swaps.rows.own[:, None], own)
    found = swaps.followed(torch.lerp(swaps.clean, exchanged, part))
    assert [one.toward.mean for one in found.values()] == pytest.approx([part] * len(found), abs=1e-5)
    assert swaps.lead((1 + part) * swaps.clean).mean == pytest.approx(part, abs=1e-5)
