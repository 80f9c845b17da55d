import pytest
import torch
from helpers import pairs_of, random_model
from slow_twin import run_plainly

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.interventions.graph import embeddings, run_both, run_graph
from compo_mech.interventions.pairs import Switch
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.row_traces import row_trace
from compo_mech.interventions.traces import both_traces, trace
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.generate import generate
from compo_mech.model.sites import Site
from compo_mech.runs.config import RunConfig

DATA = DataConfig(max_length=4)
CONFIG = ModelConfig(n_layers=2, n_heads=2, d_model=16, biases=True, attention_dir="bidirectional")
MODEL = random_model(CONFIG, DATA)


def tokens_of(n_rows, n_pos):
    return torch.randint(len(DATA.vocabulary), (n_rows, n_pos), generator=torch.Generator().manual_seed(1))


def test_every_pass_attends_both_ways():
    config = CONFIG.model_copy(update={"normalization": "none", "act_fn": "relu"})
    model, tokens, positions = random_model(config, DATA), tokens_of(3, 7), torch.arange(7).expand(3, 7)
    _, expected = run_plainly(model, tokens, positions, causal=False)
    found = [
        forward(model, tokens).view(3, 7, -1),
        run_graph(model, embeddings(model, tokens, positions))[1],
        trace(model, tokens, positions).logits,
    ]
    for logits in found:
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(run_plainly(model, tokens, positions)[1], expected, atol=1e-3)


def test_padding_is_not_seen():
    tokens, n_read = tokens_of(3, 9), [9, 5, 7]
    packed = forward(MODEL, tokens, Packing.build(n_read, [2, 3, 1]))
    alone = [forward(MODEL, tokens[i : i + 1, :n])[-k:] for i, (n, k) in enumerate(zip(n_read, [2, 3, 1], strict=True))]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_what_goes_row_by_row_refuses_it():
    same = DataConfig(max_length=4, min_length=4)
    pairs = pairs_of(same, Switch.TOKEN)
    run_both(MODEL, pairs)
    clean, corrupt = both_traces(MODEL, pairs)
    tokens = tokens_of(2, 5)
    for call in (
        lambda: patched_logits(MODEL, clean, corrupt, Site("z", 0, 0), pairs.read, pairs),
        lambda: row_trace(MODEL, tokens, torch.arange(5).expand(2, 5), torch.tensor([3, 4])),
        lambda: generate(MODEL, tokens, 2),
    ):
        with pytest.raises(ValueError, match="attention_dir = bidirectional: must be causal"):
            call()
    with pytest.raises(ValueError, match="pairs = padded rows: must be of one length"):
        run_both(MODEL, pairs_of(DATA, Switch.TOKEN))


def test_no_run_trains_it():
    with pytest.raises(ValueError, match=r"model\.attention_dir = bidirectional: must be causal"):
        RunConfig(model=CONFIG)
