"""The battery on networks without a table of positions, with shared keys, parallel blocks, or no MLPs."""

import pytest
import torch
from helpers import random_model

from compo_mech.analyses.dissection import dissect
from compo_mech.analyses.position_subtraction import examine_subtraction
from compo_mech.analyses.state_update import examine_update
from compo_mech.analyses.trajectories import interchange_scores
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Parity
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.traces import both_traces
from compo_mech.model.config import ModelConfig
from compo_mech.runs.config import RunConfig
from compo_mech.weights.positions import position_gram
from compo_mech.weights.qk_ov import ov_circuit, qk_circuit

DATA, SHORT = DataConfig(max_length=4), DataConfig(max_length=2)
SHARED = ModelConfig(
    d_model=16, n_heads=2, n_key_value_heads=1, positional_embedding="rotary", normalization="RMS", gated_mlp=True
)
BARE = ModelConfig(d_model=16, n_heads=2, attn_only=True, positional_embedding="none", use_qk_norm=True)
PARALLEL = ModelConfig(d_model=16, n_heads=2, parallel_attn_mlp=True, tie_word_embeddings=True, biases=True)


@pytest.mark.parametrize(
    "config", [SHARED, *(pytest.param(config, marks=pytest.mark.slow) for config in (BARE, PARALLEL))]
)
def test_a_dissection_asks_about_the_parts_that_there_are(config):
    shifts = RunConfig(data=SHORT, model=config).shifts
    tables = dissect(random_model(config, SHORT), SHORT, Parity(), 0, shifts, n_pairs=4, n_strings=4).tables()
    edges, costs = tables["edges"], tables["ablations"]
    assert edges["writer"].eq("pos").any() == (config.positional_embedding == "standard")
    assert costs["components"].str.contains("mlp").any() == (not config.attn_only)
    readers = set(edges["reader"])
    assert {f"L1H{config.n_kv_heads - 1}.v", f"L1H{config.n_heads - 1}.q"} <= readers
    assert f"L1H{config.n_kv_heads}.v" not in readers
    beyond = tables["accuracy"]
    assert (beyond["shift"] == 0).all() == (config.positional_embedding != "standard")


def test_variables_are_sought_at_the_sites_that_there_are():
    for config, sites in ((SHARED, {"q", "attn_out", "mlp_out"}), (BARE, {"q", "attn_out"})):
        found = interchange_scores(DATA, Parity(), 1, 0, random_model(config, DATA))
        assert {measured.quantity.site for measured in found} == sites


def test_updates_are_examined_where_attention_and_mlp_are_parallel():
    found = examine_update(random_model(PARALLEL, DATA), DATA, Parity(), 0, thorough=False)
    assert set(found.subspaces["site"]) == {"resid_pre1"}


def test_shifts_are_no_question_where_positions_have_no_embedding():
    assert RunConfig(data=DATA, model=SHARED, train={"max_position_shift": 2}).shifts == Shifts(0)
    model, generator = random_model(SHARED, DATA), torch.Generator().manual_seed(0)
    pairs = make_pairs(DATA, Switch.SHIFT, 4, generator)
    with pytest.raises(
        ValueError, match="pairs = of equal tokens: must differ in them, since positional_embedding = ro"
    ):
        both_traces(model, pairs)
    other = circuit_pairs(model, DATA, 4, generator, Parity(), Shifts(2))
    both_traces(model, other)


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda: examine_subtraction(random_model(SHARED, DATA), DATA, Parity(), 0), "positional_embedding = rotary: "),
        (lambda: examine_subtraction(random_model(BARE, DATA), DATA, Parity(), 0), "attn_only = True: must be False"),
        (lambda: examine_update(random_model(BARE, DATA), DATA, Parity(), 0), "attn_only = True: must be False"),
        (lambda: qk_circuit(random_model(SHARED, DATA), 0, 0), "positional_embedding = rotary: must be standard"),
        (lambda: ov_circuit(random_model(BARE, DATA), 0, 0), "positional_embedding = none: must be standard"),
        (lambda: position_gram(random_model(SHARED, DATA).params, range(3)), r"without pos_embed\.W_pos"),
    ],
)
def test_what_a_network_does_not_have_is_refused_by_name(ask, complaint):
    with pytest.raises(ValueError, match=complaint) as refusal:
        ask()
    assert "\n" not in str(refusal.value)
