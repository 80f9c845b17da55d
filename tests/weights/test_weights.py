import math

import pandas as pd
import pytest
import torch
from helpers import control, generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import Reader, Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.streams import total_of
from compo_mech.interventions.traces import trace
from compo_mech.model.blocks import norm
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import NotFinite
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model
from compo_mech.weights.positions import (
    effective_dimension,
    explained_share,
    fourier_power,
    participation_ratio,
    position_gram,
    position_spectrum,
    toeplitz_share,
)
from compo_mech.weights.qk_ov import BIAS, direct_logit_attribution, ov_circuit, qk_circuit
from compo_mech.weights.subtraction import pair_queries, rule_or_table, subtraction_neurons, subtraction_score

DATA = DataConfig(max_length=5)
PLAIN = ModelConfig(d_model=16, n_heads=2, biases=True, normalization="none", act_fn="relu")
NORMED = ModelConfig(d_model=16, n_heads=2)
BIASED = ModelConfig(d_model=16, n_heads=2, biases=True)
TABLES = [BuildOptions(subtraction=kind, **rungs) for kind in ("table", "gaps") for rungs in (
    {}, {"rotated": True}, {"distractors": True}, {"sharpness": 8}, {"sharpness": 150}, {"noise": 0.01},
    {"layer_norm": True}, {"layer_norm": True, "rotated": True, "distractors": True},
)]  # fmt: skip
RULES = [BuildOptions(subtraction="difference", **rungs) for rungs in (
    {}, {"rotated": True}, {"distractors": True}, {"sharpness": 8}, {"sharpness": 150},
    {"route": "neighbour", "backup": True, "rotated": True},
)]  # fmt: skip


def some_tokens(model, n_pos=9):
    """Tokens and position ids, drawn at random, in rows."""
    generator = torch.Generator().manual_seed(1)
    d_vocab, n_ctx = model.d_vocab, model.n_ctx
    tokens = torch.randint(0, d_vocab, (3, n_pos), generator=generator)
    return tokens, torch.randint(0, n_ctx - n_pos, (3, 1), generator=generator) + torch.arange(n_pos)


# ------------------------------------------------------------------------------- circuits


def scores_both_ways(model, head, row):
    """Scores of a head of layer 0 in a row: summed over the blocks, as they are, and the sizes of the stream."""
    tokens, positions = some_tokens(model)
    tok, pos, circuit = tokens[row], positions[row], qk_circuit(model, 0, head)
    found = (circuit.tok_tok[tok][:, tok] + circuit.tok_pos[tok][:, pos]
             + circuit.pos_tok[pos][:, tok] + circuit.pos_pos[pos][:, pos])  # fmt: skip
    ran = trace(model, tokens, positions)
    scores = ran.q[0][row, head] @ ran.k[0][row, head].T / math.sqrt(model.config.head_width)
    return found, scores, (ran.resid_pre[0][row].var(-1, correction=0) + 1e-5).sqrt()


@pytest.mark.parametrize(
    "model",
    [
        random_model(PLAIN, DATA, dtype=torch.float64),
        build(Parity(), rungs=BuildOptions(rotated=True, distractors=True)).model,
    ],
)
@pytest.mark.parametrize("head", [0, 1])
def test_the_four_blocks_of_a_qk_circuit_sum_to_the_scores(model, head):
    for row in range(3):
        found, scores, _ = scores_both_ways(model, head, row)
        torch.testing.assert_close(found, scores, atol=1e-3, rtol=1e-4)
    assert scores.std() > 0.1


def test_with_layer_norm_scores_are_the_blocks_divided_by_sizes():
    found, scores, size = scores_both_ways(random_model(NORMED, DATA, dtype=torch.float64), 1, 0)
    torch.testing.assert_close(found / size[:, None] / size, scores, atol=1e-9, rtol=1e-7)


def test_biases_of_layer_norm_count_as_if_sizes_were_one():
    model = random_model(BIASED, DATA, dtype=torch.float64)
    pos = model.params["pos_embed.W_pos"]
    model.params["embed.W_E"].zero_()
    model.params["pos_embed.W_pos"] = (pos - pos.mean(1, keepdim=True)) / pos.std(1, correction=0, keepdim=True)
    found, scores, _ = scores_both_ways(model, 0, 0)
    torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)


def test_the_lookup_of_a_build_asks_everywhere_for_the_end_of_input():
    built = build(Parity(), rungs=BuildOptions(rotated=True))
    circuit = qk_circuit(built.model, 0, 0)
    expected = torch.zeros_like(circuit.pos_tok)
    expected[:, built.data.vocabulary.end_of_input_id] = 30.0
    torch.testing.assert_close(circuit.pos_tok, expected, atol=1e-3, rtol=0)
    for block in (circuit.tok_tok, circuit.tok_pos, circuit.pos_pos):
        torch.testing.assert_close(block, torch.zeros_like(block), atol=1e-3, rtol=0)


@pytest.mark.parametrize("config", [PLAIN, NORMED])
def test_an_ov_circuit_is_what_a_head_adds_where_there_is_one_place_to_look(config):
    model = random_model(config, DATA, dtype=torch.float64)
    tokens, positions = some_tokens(model, n_pos=1)
    outputs, _ = run_graph(model, embeddings(model, tokens, positions))
    circuit = ov_circuit(model, 0, 1)  # head 0 puts out the layer's bias as well
    size = (total_of(embeddings(model, tokens, positions)).var(-1, correction=0) + 1e-5).sqrt()
    out = outputs[Writer("head", 0, 1)]
    if config.normalization == "LN":
        out = (out - out.mean(-1, keepdim=True)) * model.params["ln_final.w"] * size[..., None]
    found = circuit.tok[tokens] + circuit.pos[positions]
    torch.testing.assert_close(found, out @ model.params["unembed.W_U"], atol=1e-9, rtol=1e-7)
    assert found.std() > 0.01


@pytest.mark.parametrize("circuit", [qk_circuit, ov_circuit])
def test_heads_that_there_are_not(circuit):
    with pytest.raises(ValueError, match=r"layer = 2: must be 0 \.\. 1"):
        circuit(random_model(PLAIN, DATA, dtype=torch.float64), 2, 0)
    with pytest.raises(ValueError, match=r"head = -1: must be 0 \.\. 1"):
        circuit(random_model(PLAIN, DATA, dtype=torch.float64), 0, -1)


@pytest.mark.parametrize("config", [PLAIN, NORMED, BIASED])
def test_logits_by_writer_sum_to_the_logits(config):
    model = random_model(config, DATA, dtype=torch.float64)
    tokens, positions = some_tokens(model)
    parts = direct_logit_attribution(model, tokens, positions)
    logits = trace(model, tokens, positions).logits
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(0), logits, atol=1e-9, rtol=1e-7)
    assert len(parts) == 2 + 2 * (2 + 1) + config.biases
    assert (BIAS in parts) == config.biases


@pytest.mark.parametrize("config", [NORMED, BIASED])
def test_logits_by_writer_against_the_hooked_transformer(config):
    model = random_model(config, DATA, dtype=torch.float64)
    model = Model({name: param.float() for name, param in model.params.items()}, config)
    hooked = to_hooked(model)
    tokens, _ = some_tokens(model)
    _, cache = hooked.run_with_cache(tokens)
    written = {Writer("tok"): cache["hook_embed"], Writer("pos"): cache["hook_pos_embed"]}
    for layer, block in enumerate(hooked.blocks):
        for head in range(2):
            out = cache[f"blocks.{layer}.attn.hook_z"][:, :, head] @ block.attn.W_O[head]
            written[Writer("head", layer, head)] = out + (block.attn.b_O if head == 0 else 0)
        written[Writer("mlp", layer)] = cache[f"blocks.{layer}.hook_mlp_out"]
    found = direct_logit_attribution(model, tokens, torch.arange(9).expand(3, -1))
    for writer, out in written.items():
        seen = (out - out.mean(-1, keepdim=True)) / cache["ln_final.hook_scale"] * hooked.ln_final.w
        torch.testing.assert_close(found[writer], (seen @ hooked.W_U).detach(), atol=1e-4, rtol=1e-4)


def test_the_logits_of_a_build_come_from_its_last_mlp():
    built = build(Copy(), rungs=BuildOptions(rotated=True))
    tokens, positions = some_tokens(built.model)
    parts = direct_logit_attribution(built.model, tokens, positions)
    sizes = {str(writer): float(part.abs().max()) for writer, part in parts.items()}
    assert sizes.pop("mlp1") > 9
    assert max(sizes.values()) < 1e-3


# -------------------------------------------------------------------- position embeddings


def of_positions(*columns):
    """Parameters whose position embeddings have these columns, between two that are not looked at."""
    inside = torch.stack(columns, 1)
    outside = torch.full((1, inside.shape[1]), 7.0)
    return {"pos_embed.W_pos": torch.cat([outside, inside, outside])}


def test_one_hot_positions():
    n = 9
    params, positions = of_positions(*torch.eye(n)), range(1, n + 1)
    torch.testing.assert_close(position_gram(params, positions), torch.eye(n).double() - 1 / n)
    spectrum = torch.tensor([1.0] * (n - 1) + [0.0]).double()
    torch.testing.assert_close(position_spectrum(params, positions), spectrum, atol=1e-7, rtol=0)
    assert effective_dimension(params, positions) == pytest.approx(n - 1)
    power = torch.tensor([0.0, *[2 / (n - 1)] * (n // 2)]).double()  # 1 .. 4 and -1 .. -4, all alike
    torch.testing.assert_close(fourier_power(params, positions), power, atol=1e-7, rtol=0)
    assert toeplitz_share(params, positions) == 1


@pytest.mark.parametrize(("n", "frequency"), [(12, 3), (12, 1), (13, 6), (12, 6)])
def test_a_circle_of_positions(n, frequency):
    angle = 2 * math.pi * frequency * torch.arange(n) / n
    params, positions = of_positions(angle.cos() + 5, angle.sin()), range(1, n + 1)
    power = torch.zeros(n // 2 + 1).double()
    power[frequency] = 1
    torch.testing.assert_close(fourier_power(params, positions), power, atol=1e-6, rtol=0)
    assert effective_dimension(params, positions) == pytest.approx(1 if 2 * frequency == n else 2, abs=1e-5)
    assert toeplitz_share(params, positions) == pytest.approx(1, abs=1e-6)


def test_two_frequencies_share_the_power_by_their_squares():
    angle = 2 * math.pi * torch.arange(12) / 12
    params = of_positions(3 * angle.cos(), (6 * angle).cos())  # mean squares 9 / 2 and 1
    power = fourier_power(params, range(1, 13))
    assert power[[1, 6]].tolist() == pytest.approx([4.5 / 5.5, 1 / 5.5], abs=1e-6)
    assert effective_dimension(params, range(1, 13)) == pytest.approx(5.5**2 / (4.5**2 + 1), abs=1e-5)


def test_a_line_of_positions_is_not_toeplitz():
    """Positions -1, 0, 1: products off the diagonal are 0 and 0 at distance 1, -1 at distance 2; with -2 .. 2 worse."""
    assert toeplitz_share(of_positions(torch.arange(3.0)), range(1, 4)) == pytest.approx(1)
    share = toeplitz_share(of_positions(torch.arange(5.0)), range(1, 6))
    # by distance: 2 0 0 2 | 0 -1 0 | -2 -2 | -4, of mean -0.5
    assert share == pytest.approx((4 * 1.5**2 + 3 / 36 + 2 * 1.5**2 + 3.5**2) / 30.5)
    assert effective_dimension(of_positions(torch.arange(5.0)), range(1, 6)) == pytest.approx(1)


def test_equal_positions_are_no_numbers_to_divide_by():
    one = torch.rand(50, generator=torch.Generator().manual_seed(0)).double() / 3
    params = {"pos_embed.W_pos": one.expand(49, 50)}
    assert effective_dimension(params, range(49)) == 0
    assert fourier_power(params, range(49)).tolist() == [0] * 25
    assert toeplitz_share(params, range(49)) == 1


@pytest.mark.parametrize("positions", [range(0, 1), range(2, 8), range(-1, 3)])
def test_positions_that_there_are_not(positions):
    params = {"pos_embed.W_pos": torch.eye(7)}
    for measure in (position_gram, position_spectrum, effective_dimension, fourier_power, toeplitz_share):
        with pytest.raises(ValueError, match=r"positions = range\(.*\): must be two or more of 0 \.\. 6"):
            measure(params, positions)


# ------------------------------------------------------------------ the subtraction of positions


def test_explained_shares_worked_by_hand():
    values, labels = torch.tensor([[0.0], [2.0], [10.0], [12.0]]), torch.tensor([7, 7, -1, -1])
    assert explained_share(values, labels) == pytest.approx(100 / 104)
    assert explained_share(torch.cat([values, values.flip(0)], 1) + 3, labels) == pytest.approx(100 / 104)
    assert explained_share(values, torch.tensor([0, 1, 0, 1])) == pytest.approx(4 / 104)
    assert explained_share(values, torch.arange(4)) == pytest.approx(1)
    assert explained_share(values, torch.zeros(4, dtype=torch.long)) == pytest.approx(0)
    assert explained_share(torch.full((4, 1), 0.1), labels) == 0


def test_scores_of_what_is_and_what_is_not_a_difference():
    i, j = torch.cartesian_prod(torch.arange(6), torch.arange(6)).T
    assert subtraction_score(torch.stack([(i - j).float() ** 2, (i - j).sin()], 1), i, j) == pytest.approx(1)
    assert subtraction_score((i - j)[:, None].float(), i, j) == pytest.approx(1)
    assert subtraction_score((i + j)[:, None].float(), i, j) == pytest.approx(0, abs=1e-12)


def test_pairs_are_those_of_rows_that_predict_a_state():
    data = DataConfig(max_length=2)
    model = random_model(NORMED, data, dtype=torch.float64)
    _, i, j = pair_queries(model, data, Parity(), 1, 0)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(2, 2), (3, 3), (4, 3)]
    _, i, j = pair_queries(model, data, Parity(), 1, 0, max_shift=1)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(2, 2), (3, 3), (4, 3), (4, 4), (5, 4)]
    assert subtraction_neurons(model, data, Parity(), max_shift=1)["all_pairs"].unique().tolist() == [5]


def looked_up(model, token, i, j, end):
    """The slow twin: what readers see in a row by itself, given what heads write where [EoI] sees but itself."""
    alone, _ = run_graph(model, embeddings(model, torch.tensor([[end]]), torch.tensor([[j]])))
    heads = {Writer("head", 0, head): alone[Writer("head", 0, head)] for head in range(model.config.n_heads)}
    seen = {}

    def read(reader, outputs):
        seen[reader] = total_of(outputs)
        return seen[reader]

    run_graph(model, embeddings(model, torch.tensor([[token]]), torch.tensor([[i]])) | heads, read)
    return seen


@pytest.mark.parametrize("config", [PLAIN, BIASED])
def test_pair_queries_and_neurons_against_a_row_by_itself(config):
    data = DataConfig(tasks=(Polynomial(modulus=3),), max_length=3)
    task, end = data.tasks[0], data.vocabulary.end_of_input_id
    model = random_model(config, data, dtype=torch.float64)
    queries, i, j = pair_queries(model, data, task, 1, 1, max_shift=1)
    found = subtraction_neurons(model, data, task, max_shift=1)
    params, before, active = model.params, [], []
    act = torch.relu if config.act_fn == "relu" else torch.nn.functional.gelu
    for pair, (row, place) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        rows = [looked_up(model, own, row, place, end) for own in ([end] if row == place else range(3))]
        asked = [
            norm(model, "blocks.1.ln1", seen[Reader("q", 1, 1)])[0, 0] @ params["blocks.1.attn.W_Q"][1]
            + params["blocks.1.attn.b_Q"][1]
            for seen in rows
        ]
        torch.testing.assert_close(queries[pair], torch.stack(asked).mean(0), atol=1e-9, rtol=1e-7)
        read = [norm(model, "blocks.0.ln2", seen[Reader("mlp", 0)])[0, 0] for seen in rows]
        pre = [stream @ params["blocks.0.mlp.W_in"] + params["blocks.0.mlp.b_in"] for stream in read]
        before.append(torch.stack(pre).mean(0))
        active.append(torch.stack([act(each) for each in pre]).mean(0))
    before, active = torch.stack(before), torch.stack(active)
    weight = active.std(0, correction=0) * params["blocks.0.mlp.W_out"].norm(dim=1)
    assert found["weight"].tolist() == pytest.approx(weight.tolist(), abs=1e-9)
    above = active - active.min(0).values
    n_pairs = above.sum(0) ** 2 / (above**2).sum(0).clamp(min=1e-30)
    assert found["n_pairs"].tolist() == pytest.approx(n_pairs.tolist(), abs=1e-6)
    neuron = int(weight.argmax())
    for column, values in (("by_difference", active), ("pre_by_difference", before)):
        assert found[column][neuron] == pytest.approx(explained_share(values[:, [neuron]], i - j))
    assert queries.std(0).min() > 0.01


def score_of(rungs, max_shift):
    built = build(Parity(), rungs=rungs)
    return subtraction_score(*pair_queries(built.model, built.data, Parity(), 1, 0, max_shift))


@pytest.mark.parametrize("max_shift", [0, 4])
def test_queries_of_builds_are_functions_of_the_difference(max_shift):
    for rungs in (BuildOptions(), BuildOptions(rotated=True), BuildOptions(layer_norm=True), *RULES):
        assert score_of(rungs, max_shift) >= 0.999
    assert 0.7 < score_of(BuildOptions(subtraction="gaps"), max_shift) < 0.95


@pytest.mark.parametrize("max_shift", [0, 4])
def test_queries_of_decoys_and_of_fresh_networks_are_not(max_shift):
    for kind in ("table", "difference", "gaps"):
        assert score_of(BuildOptions(broken="subtraction", subtraction=kind), max_shift) < 0.5
    data = DataConfig(max_length=8)
    for seed in range(20):
        model = control(ModelConfig(), data, seed, n_ctx=30)
        assert subtraction_score(*pair_queries(model, data, Parity(), 1, 0, max_shift)) < 0.5


def test_a_head_that_asks_nothing_has_no_score():
    built = build(Parity())
    assert subtraction_score(*pair_queries(built.model, built.data, Parity(), 1, 1)) == 0


def test_the_neurons_of_a_table_are_each_for_one_pair():
    built = build(Parity(), max_length=4)
    neurons = subtraction_neurons(built.model, built.data, Parity())
    alive = neurons[neurons["weight"] > 0]
    assert len(alive) == 10 < len(neurons)  # strings of length 1 .. 4
    assert alive["n_pairs"].tolist() == pytest.approx([1] * 10)
    assert alive["weight"].tolist() == pytest.approx([math.sqrt(9 / 100)] * 10)  # one pair in ten, writing 1
    shares = [(1 / m - 1 / 10) / (1 - 1 / 10) for m in (4, 3, 2, 1) for _ in range(m)]  # of m with the same t
    assert sorted(alive["by_difference"]) == pytest.approx(sorted(shares))
    assert not neurons.isna().to_numpy().any()
    assert (neurons[neurons["weight"] == 0][["n_pairs", "by_difference"]] == 0).all(None)


def test_the_neurons_of_a_rule_read_the_difference_alone():
    built = build(Parity(), rungs=BuildOptions(subtraction="difference"))
    neurons = subtraction_neurons(built.model, built.data, Parity(), max_shift=4)
    alive = neurons[neurons["weight"] > 1e-6]  # the next one's bend is at u = 8, but for rounding
    assert len(alive) == 8  # u > c for c = 0 .. 7, since t = 1 .. 8
    assert alive["by_difference"].min() > 1 - 1e-6
    assert alive["pre_by_difference"].min() > 1 - 1e-6


def verdict(model, data, task, max_shift):
    return rule_or_table(subtraction_neurons(model, data, task, max_shift=max_shift)).verdict


@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
@pytest.mark.parametrize("max_shift", [0, 4])
def test_rules_and_tables_are_told_apart(task, max_shift):
    for expected, kinds in (("rule", RULES), ("table", TABLES)):
        for rungs in kinds:
            built = build(task, rungs=rungs)
            assert verdict(built.model, built.data, task, max_shift) == expected, rungs
    wrong = build(task, rungs=BuildOptions(subtraction="difference", broken="subtraction"))
    assert verdict(wrong.model, wrong.data, task, max_shift) == "neither"


@pytest.mark.parametrize(
    "config", [ModelConfig(), ModelConfig(d_model=16, act_fn="relu", normalization="none", biases=True)]
)
def test_fresh_networks_are_neither(config):
    for data in (DataConfig(max_length=8), DataConfig(max_length=12)):
        assert {verdict(control(config, data, seed, n_ctx=30), data, Parity(), seed % 3) for seed in range(50)} == {
            "neither"
        }


def test_verdicts_worked_by_hand():
    def told(weight, by_difference, n_pairs, all_pairs=20, by_chance=0.2):
        columns = {"weight": weight, "n_pairs": n_pairs, "by_difference": by_difference}
        return rule_or_table(pd.DataFrame(columns | {"all_pairs": all_pairs, "by_chance": by_chance}))

    found = told([3.0, 1.0, 0.0], [1.0, 0.8, 0.0], [10.0, 6.0, 0.0])
    assert found == ("rule", pytest.approx(0.95), pytest.approx(9), 1.0, 10.0, 20)
    assert told([1.0, 1.0, 1.0], [0.94, 0.94, 0.94], [9.0, 9.0, 9.0]).verdict == "neither"  # the median is low
    assert told([3.0, 1.0], [1.0, 0.5], [9.0, 9.0]).verdict == "neither"  # the mean is low
    assert told([1.0, 1.0, 1.0], [0.1, 0.2, 1.0], [2.0, 3.0, 19.0]).verdict == "table"
    assert told([1.0, 1.0, 1.0], [0.1, 0.2, 0.3], [2.0, 5.0, 19.0]).verdict == "neither"  # on too many pairs
    assert told([1.0, 1.0], [0.6, 0.6], [1.0, 1.0]).verdict == "neither"  # too much explained
    assert told([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]) == ("neither", 0, 0, 0, 0, 20)
    assert told([1.0, 1.0], [1.0, 1.0], [9.0, 9.0], by_chance=0.5).verdict == "rule"
    assert told([1.0, 1.0], [1.0, 1.0], [9.0, 9.0], by_chance=0.51).verdict == "cannot be told"
    good = {"weight": [1.0, 1.0], "n_pairs": [9.0, 9.0], "by_difference": [1.0, 1.0]}
    for name in good:
        with pytest.raises(NotFinite, match=f"^{name} of neurons = nan: must be finite, 1 of 2 are not$"):
            told(**good | {name: [1.0, float("nan")]})


def test_where_each_pair_has_its_own_difference_nothing_is_told():
    for lengths, max_shift, by_chance in ((8, 8), 0, 1.0), ((7, 8), 0, 7 / 14), ((8, 8), 1, 7 / 15), ((1, 1), 0, 1.0):
        data = DataConfig(min_length=lengths[0], max_length=lengths[1])
        for seed in range(3):
            neurons = subtraction_neurons(control(ModelConfig(), data, seed, n_ctx=30), data, Parity(), 0, max_shift)
            assert neurons["by_chance"].tolist() == pytest.approx([by_chance] * len(neurons))
            assert rule_or_table(neurons).verdict == ("cannot be told" if by_chance > 0.5 else "neither")


def test_a_dead_mlp_is_neither():
    model = random_model(ModelConfig(d_model=16, biases=True), DATA, dtype=torch.float64)
    for name in ("W_in", "b_in"):
        model.params[f"blocks.0.mlp.{name}"].zero_()
    model.params["blocks.0.mlp.b_in"] += 0.3  # every neuron is on, always alike
    neurons = subtraction_neurons(model, DATA, Parity())
    assert not neurons.isna().to_numpy().any()
    assert (neurons[["weight", "n_pairs", "by_difference", "pre_by_difference"]] == 0).all(None)
    assert rule_or_table(neurons).verdict == "neither"


def test_what_cannot_be_asked_is_refused():
    model = random_model(PLAIN, DATA, dtype=torch.float64)  # 20 positions; the last row that predicts a state is at 10
    three = build(Parity(), rungs=BuildOptions(three_layers=True))
    with pytest.raises(ValueError, match="layer = 2: must be 1"):
        pair_queries(three.model, three.data, Parity(), 2, 0)
    with pytest.raises(ValueError, match="layer = 1: must be 0"):
        subtraction_neurons(three.model, three.data, Parity(), 1)
    with pytest.raises(ValueError, match="n_layers = 1: must be at least 2"):
        pair_queries(random_model(ModelConfig(n_layers=1, d_model=16), DATA, dtype=torch.float64), DATA, Parity(), 1, 0)
    with pytest.raises(ValueError, match=r"head = 2: must be 0 \.\. 1"):
        pair_queries(model, DATA, Parity(), 1, 2)
    assert len(pair_queries(model, DATA, Parity(), 1, 0, max_shift=9)[0]) == 15 + 5 * 9
    for shift in (-1, 10):
        for ask in (lambda s: pair_queries(model, DATA, Parity(), 1, 0, s),
                    lambda s: subtraction_neurons(model, DATA, Parity(), 0, s)):  # fmt: skip
            with pytest.raises(ValueError, match=rf"max_shift = {shift}: must be 0 \.\. 9"):
                ask(shift)
    with pytest.raises(ValueError, match="max_length = 12: rows must fit into n_ctx = 20"):
        pair_queries(model, DataConfig(max_length=12), Parity(), 1, 0)
    with pytest.raises(ValueError, match="task = copy: must be one of parity"):
        pair_queries(model, DATA, Copy(), 1, 0)
    with pytest.raises(ValueError, match="chain_of_thought = False"):
        subtraction_neurons(model, DataConfig(chain_of_thought=False), Parity())


def test_parameters_stay_as_they_are():
    model = random_model(BIASED, DATA, dtype=torch.float64)
    before = {name: param.clone() for name, param in model.params.items()}
    tokens, positions = some_tokens(model)
    qk_circuit(model, 0, 0), ov_circuit(model, 0, 0), direct_logit_attribution(model, tokens, positions)
    fourier_power(model.params, range(9)), toeplitz_share(model.params, range(9))
    pair_queries(model, DATA, Parity(), 1, 0), subtraction_neurons(model, DATA, Parity())
    assert all(torch.equal(model.params[name], param) for name, param in before.items())


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_no_number_has_no_geometry(wrong):
    table = torch.randn(6, 4, generator=generator())
    table[3, 1] = wrong
    params = {"pos_embed.W_pos": table}
    of_positions = (position_gram, position_spectrum, effective_dimension, fourier_power, toeplitz_share)
    for measure in of_positions:
        with pytest.raises(ValueError, match=rf"^weight pos_embed\.W_pos = {wrong}: must be finite, 1 of 24 are not$"):
            measure(params, range(6))
        measure(params, range(3))  # where it is not looked at
    labels = torch.arange(6) % 2
    asked = (
        lambda: explained_share(table, labels),
        lambda: participation_ratio(table),
        lambda: subtraction_score(table, labels, labels * 0),
    )
    for ask in asked:
        with pytest.raises(ValueError, match=rf"^values = {wrong}: must be finite, 1 of 24 are not$"):
            ask()
