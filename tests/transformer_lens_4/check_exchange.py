"""Exchange with TransformerLens 4.x, which has no HookedTransformer.

To be run where 4.x is installed, as .ci/run does, and not collected elsewhere: it fails rather than be skipped.
HOOKED_STATE names the file that `hooked_state.py` wrote, SMOLLM2 where the language model is.
"""

import os
from importlib.metadata import version

import pytest
import torch
from helpers import pairs_of, random_model
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformer_lens.tools.analysis import EdgeAttributionConfig, attribution_patch
from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint
from transformers import AutoModelForCausalLM

from compo_mech.circuits.gradient_scorers import eap
from compo_mech.data.config import DataConfig
from compo_mech.interventions.edges import POS, Edge, Reader, Writer, all_edges
from compo_mech.interventions.metrics import cross_entropy
from compo_mech.interventions.pairs import Switch
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.model.bridge import from_bridge, to_bridge
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.params import Model
from compo_mech.pretrained.smollm2 import find_smollm2

DATA = DataConfig(max_length=4)
WRITTEN = load_file(os.environ["HOOKED_STATE"])


def test_this_is_4():
    assert version("transformer-lens").split(".")[0] == "4"


def test_a_state_dict_of_3_9_is_converted_and_taken_in():
    state = {name: value for name, value in WRITTEN.items() if not name.startswith("smollm2.")}
    tokens, logits = state.pop("tokens"), state.pop("logits")
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 12, "n_ctx": 6, "d_vocab": 7}
    config = TransformerBridgeConfig(**sizes, act_fn="gelu", normalization_type="LN")
    bridge = TransformerBridge.boot_native(config)
    bridge.load_state_dict(convert_tl_checkpoint(state, config), strict=True)
    torch.testing.assert_close(bridge(tokens).detach(), logits, atol=1e-5, rtol=1e-5)
    model = Model.of(bridge)
    torch.testing.assert_close(forward(model, tokens), logits.flatten(0, 1), atol=1e-5, rtol=1e-5)
    assert model.params.keys() == {name for name in state if not name.endswith((".mask", ".IGNORE"))}
    assert all(torch.equal(param, state[name]) for name, param in model.params.items())


@torch.no_grad()
def test_a_language_model_in_a_bridge_is_ours():
    """As transformers reads it, against what our reader gave to 3.9, and against our forward pass."""
    file = find_smollm2(os.environ["SMOLLM2"])
    module = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    )
    bridge = build_bridge_from_module(module.eval(), "LlamaForCausalLM", hf_config=module.config)
    tokens, expected = WRITTEN["smollm2.tokens"], WRITTEN["smollm2.logits"]
    theirs, model = bridge(tokens), Model.of(bridge)
    for found in (theirs, forward(model, tokens).view_as(theirs)):
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
    config = model.config
    assert (config.n_layers, config.n_heads, config.n_kv_heads, config.tie_word_embeddings) == (30, 9, 3, True)


@pytest.mark.parametrize("act_fn", ["gelu", "gelu_new"])
def test_a_checkpoint_goes_there_and_comes_back_to_the_bit(tmp_path, act_fn):
    given = {"data": DATA, "model": {"d_model": 16, "n_heads": 2, "act_fn": act_fn}, "train": {"n_steps": 20}}
    settings = Launch(**given, n_test_strings=16, runs_dir=tmp_path, name="one")
    run = launch(settings, Console(quiet=True))
    model = Model.of(run)
    bridge = to_bridge(model)
    own = {name: value.clone(memory_format=torch.contiguous_format) for name, value in bridge.state_dict().items()}
    save_file(own, tmp_path / "bridge.safetensors")
    other = to_bridge(Model(run.control(), model.config))
    other.load_state_dict(load_file(tmp_path / "bridge.safetensors"))
    back = from_bridge(other, run.config.model)
    assert back.params.keys() == model.params.keys()
    assert all(torch.equal(param, back.params[name]) for name, param in run.params(20).items())


def ours(node) -> Writer | Reader:
    """What TransformerLens calls a node, in our words."""
    if node.kind == "embed":
        return Writer("tok")
    if node.kind in ("q_input", "k_input", "v_input"):
        return Reader(node.kind[0], node.layer, node.head)
    if node.kind == "attn_head_out":
        return Writer("head", node.layer, node.head)
    kind, layer = {"mlp_out": (Writer, node.layer), "mlp_in": (Reader, node.layer), "logits": (Reader, None)}[node.kind]
    return kind(node.kind.split("_")[0], layer)


def test_edge_attribution_is_theirs_on_the_edges_that_both_have():
    """Their gradient is taken on the corrupt run, and their graph has no writer for positions."""
    model = random_model(ModelConfig(n_layers=2, n_heads=2, d_model=8, biases=True), DATA, dtype=torch.float64)
    pairs = pairs_of(DATA, Switch.TOKEN, n_rows=5)
    bridge, theirs = to_bridge(model), {}
    for row in range(len(pairs.clean_tokens)):
        scored = pairs.row == row

        def loss(logits, scored=scored):
            return torch.nn.functional.cross_entropy(
                logits[0, pairs.position[scored]], pairs.target[scored], reduction="sum"
            )

        clean, corrupt = pairs.clean_tokens[row, None], pairs.corrupt_tokens[row, None]
        found = attribution_patch(bridge, corrupt, clean, loss, EdgeAttributionConfig(granularity="edge"))
        for (writer, reader), score in found.edge_scores.items():
            edge = Edge(ours(writer), ours(reader))
            theirs[edge] = theirs.get(edge, 0.0) + score / len(pairs.target)
    edges = [edge for edge in all_edges(model.config) if edge.writer != POS]
    assert len(edges) == 46
    assert set(edges) == set(theirs)
    scores = eap(model, pairs, edges, cross_entropy).scores
    assert scores.abs().min() > 0
    torch.testing.assert_close(
        scores.double(), torch.tensor([theirs[edge] for edge in edges], dtype=torch.float64), atol=1e-8, rtol=1e-6
    )
