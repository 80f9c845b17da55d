"""What no string reads changes no score: the embeddings of [EoS], which only pads, and of positions beyond all rows."""

from dataclasses import replace

import pytest
import torch
from helpers import EVERY, generator, random_model

from compo_mech.analyses.sharing import compare, evidence
from compo_mech.circuits.completeness import completeness, judge, removals
from compo_mech.circuits.discovery import discover
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour, curve
from compo_mech.circuits.gradient_scorers import eap, eap_ig
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.circuits.selection import score_order, top
from compo_mech.circuits.stability import stability
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Copy, Parity
from compo_mech.ground_truth.build import build
from compo_mech.interventions.ablation import baseline_outputs
from compo_mech.interventions.edges import TOK, all_edges
from compo_mech.interventions.graph import embeddings
from compo_mech.interventions.head_roles import carried_share
from compo_mech.interventions.metrics import METRICS
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.interventions.patching import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model

DATA = DataConfig(tasks=(Copy(), Parity()), max_length=4)
SHIFT = 2
N_READ = DATA.layout.n_read(DATA.max_length) + SHIFT
"""Positions that some string reads, shifted or not."""


def redrawn(model, data, n_read):
    """The network with other embeddings of all that no string reads."""
    params = {name: weight.clone() for name, weight in model.params.items()}
    draws = generator(99)
    for name, unread in (
        ("embed.W_E", [data.vocabulary.end_of_states_id]),
        ("pos_embed.W_pos", range(n_read, model.n_ctx)),
    ):
        rows = params[name][list(unread)]
        assert len(rows)
        params[name][list(unread)] = 5 * torch.randn(rows.shape, generator=draws, dtype=rows.dtype)
    return Model(params, model.config)


@pytest.fixture(scope="module")
def networks():
    torch.set_num_threads(1)
    model = random_model(ModelConfig(d_model=8, n_heads=1, biases=True), DATA, n_ctx=N_READ + 3)
    return model, redrawn(model, DATA, N_READ)


def edge_scores(model, pairs):
    edges, by_span = all_edges(model.config), all_edges(model.config, by_span=True)
    return {
        "exact": exact(model, pairs, edges).scores,
        "exact by span": exact(model, pairs, by_span).scores,
        "EAP": eap(model, pairs, edges).scores,
        "EAP-IG": eap_ig(model, pairs, by_span, n_steps=3).scores,
        **{name: exact(model, pairs, edges, metric).scores for name, metric in METRICS.items()},
    }


def circuit_figures(model, pairs):
    behaviour = Behaviour(model, pairs)
    scores = exact(model, pairs, behaviour.edges)
    order = score_order(scores)
    gaps = completeness(behaviour, order[:8], list(removals(frozenset(order[:8]), generator(), n_halves=2)))
    rows = EdgePatches.run(model, pairs).by_row()
    return {
        "none and all": torch.tensor([behaviour.none, behaviour.all]),
        "accuracy": torch.tensor(behaviour.accuracy),
        "curve": curve(behaviour, order).faithfulness,
        "completeness": torch.tensor([gap[1:] for gap in gaps]),
        "stability": torch.tensor(stability(model, pairs, lambda s: top(s, 8), generator(), 4)),
        "rows": rows.rise,
        "gaps of rows": rows.gap,
    }


def patching_figures(model, pairs):
    metric = METRICS["logit_difference"]
    return {
        kind: sweep(model, pairs, kind, metric, positions=WHOLE_SPANS)
        for kind in ("resid_pre", "k", "v", "z", "pattern")
    } | {"by position": sweep(model, pairs, "resid_post", metric)}


def baseline_figures(model, pairs):
    edges, found = all_edges(model.config), {}
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    for name in ("zero", "mean", "mean_over_positions", "resample", "resample_over_positions"):
        corrupt = baseline_outputs(model, inputs, name, generator(), pairs.read)
        found[name] = exact(model, pairs, edges, corrupt=corrupt).scores
    return found


def shared_figures(model, pairs):
    found = compare(model, DATA, *(evidence(model, DATA, task, Shifts(SHIFT), n_pairs=8) for task in DATA.tasks))
    columns = ["first_share", "second_share", "p"]
    return {
        "edges": torch.tensor(found.edges[columns].values),
        "overlap": torch.tensor(found.overlap()["value"].values),
    } | {variable: carried_share(model, DATA, variable, generator(), 32)[0] for variable in ("x", "end")}


@pytest.mark.parametrize("figures", [edge_scores, circuit_figures, patching_figures, baseline_figures, shared_figures])
def test_what_no_string_reads_changes_no_score(networks, figures):
    pairs = circuit_pairs(networks[0], DATA, 12, generator(), Parity(), Shifts(SHIFT))
    assert (pairs.corrupt_lengths < pairs.lengths).any()
    assert (pairs.corrupt_lengths > pairs.lengths).any()
    before, after = (figures(model, pairs) for model in networks)
    for name, values in before.items():
        assert torch.equal(values, after[name]), name


def test_the_verdict_on_a_circuit_does_not_depend_on_what_no_string_reads():
    built = build(Parity(), max_length=3)
    other = redrawn(built.model, built.data, built.data.layout.n_read(3) + built.shifts.largest)
    pairs = circuit_pairs(built.model, built.data, 8, generator(), Parity(), built.shifts)
    one, two = (discover(model, pairs, generator()) for model in (built.model, other))
    assert replace(one, scores=two.scores) == two
    assert torch.equal(one.scores.scores, two.scores.scores)
    judged = [str(judge(Behaviour(model, pairs), built.edges, generator(), 2, 2)) for model in (built.model, other)]
    assert judged[0] == judged[1]


def test_pairs_score_what_both_rows_read():
    data = DataConfig(tasks=(Parity(),), max_length=12)
    pairs = make_pairs(data, EVERY, 300, generator())
    n_read = data.layout.n_read(torch.minimum(pairs.lengths, pairs.corrupt_lengths))
    assert (pairs.position < n_read[pairs.row]).all()
    assert torch.equal(pairs.both_read.sum(1), n_read)
    words = data.vocabulary
    for row, (tokens, length) in enumerate(zip(pairs.corrupt_tokens, pairs.corrupt_lengths.tolist(), strict=True)):
        end = data.layout.end_of_input(length)
        assert tokens[end] == words.end_of_input_id
        scored = pairs.position[pairs.row == row].tolist()
        all_scored = data.layout.scored(int(pairs.lengths[row]))
        assert scored == [position for position in all_scored if position < data.layout.n_read(length)]
        assert scored  # every row asks something
    foils = pairs.foil[pairs.foil_is_answer]
    ends = data.layout.end_of_input(pairs.corrupt_lengths)[pairs.row]
    assert torch.equal(pairs.foil_is_answer, pairs.position >= ends)
    assert set(foils.tolist()) == {0, 1, words.end_of_states_id}
    parts = {name: getattr(pairs, name) for name in Pairs.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"pairs = \d+ scored positions in padding: must be read in both inputs"):
        Pairs(**parts | {"corrupt_lengths": torch.ones_like(pairs.lengths)})


def test_a_length_that_no_other_reaches_stays():
    data = DataConfig(tasks=(Parity(),), max_length=9, length_weights=(1, *[0] * 7, 1))
    pairs = make_pairs(data, Switch.LENGTH, 50, generator())
    assert set(zip(pairs.lengths.tolist(), pairs.corrupt_lengths.tolist(), strict=True)) == {(1, 9), (9, 9)}
    assert len(pairs.row) == int(data.layout.n_scored(pairs.lengths).sum())
    assert not make_pairs(data, Switch.STATE, 4, generator()).foil_is_answer.any()


def test_a_writer_that_differs_in_padding_alone_is_unidentifiable(networks):
    pairs = circuit_pairs(networks[0], DATA, 12, generator(), Parity(), Shifts(0))
    assert (pairs.read & ~pairs.both_read)[:, 1:].any()
    same = replace(pairs, corrupt_tokens=torch.where(pairs.both_read, pairs.clean_tokens, pairs.corrupt_tokens))
    edges = [edge for edge in all_edges(networks[0].config, by_span=True) if edge.writer == TOK]
    found = exact(networks[0], same, [*edges, *(edge._replace(span=None) for edge in edges)])
    assert all(found.unidentifiable)
