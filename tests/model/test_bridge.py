"""Bridges of TransformerLens, whatever its version: these tests are run with 3.9 and, apart, with 4.x."""

from functools import partial

import pytest
import torch
from helpers import generator, pairs_of, random_model

from compo_mech.data.config import DataConfig
from compo_mech.interventions.pairs import Switch
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.traces import both_traces
from compo_mech.model.bridge import from_bridge, hook_to_edit, to_bridge
from compo_mech.model.bridge_modules import empty_bridge
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.params import Model
from compo_mech.model.sites import HEAD_KINDS, Site
from compo_mech.reference import hooked_loops

DATA = DataConfig(max_length=4)
SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 12}
ROTARY = {"positional_embedding": "rotary", "n_ctx": 20}
LLAMA = {"normalization": "RMS", "gated_mlp": True, "act_fn": "silu", **ROTARY}
OPTIONS = {
    "GPT2LMHeadModel": (
        {"biases": True},
        {"act_fn": "gelu_new", "eps": 1e-3},
        {"tie_word_embeddings": True, "biases": True, "act_fn": "relu"},
        {"positional_embedding": "none", "n_ctx": 20},
    ),
    "LlamaForCausalLM": (LLAMA, LLAMA | {"n_key_value_heads": 1, "d_head": 6, "rotary_base": 500.0, "act_fn": "gelu"}),
    "TransformerLensNative": (
        {"normalization": "none", "biases": True, "d_head": 3},
        {"normalization": "RMS", "biases": True},
        {"normalization": "LNPre", "biases": True, "n_key_value_heads": 1, "attn_scale": 3.0},
        {"normalization": "RMSPre", "act_fn": "silu"},
        {"attn_only": True, "biases": True, "d_mlp": None},
        {"final_rms": True, "eps": 1e-2},
        LLAMA | {"rotary_adjacent_pairs": True, "rotary_dim": 2, "rotary_base": 77.5},
    ),
}
CASES = [(kind, options) for kind, many in OPTIONS.items() for options in many]


def model_of(options, dtype=torch.float32):
    return random_model(ModelConfig(**(SMALL | options)), DATA, dtype=dtype)


def assert_same(one: Model, other: Model):
    assert list(one.params) == list(other.params)
    for name, param in one.params.items():
        assert param.dtype == other.params[name].dtype
        assert torch.equal(param, other.params[name]), name


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_bridge_computes_the_same_and_gives_every_bit_back(kind, options):
    model = model_of(options)
    bridge = to_bridge(model)
    assert bridge.cfg.architecture == kind
    tokens = torch.randint(0, model.d_vocab, (3, 20), generator=generator())
    theirs = bridge(tokens).detach().flatten(0, 1)
    torch.testing.assert_close(forward(model, tokens), theirs, atol=1e-5, rtol=1e-5)
    back = Model.of(bridge)
    assert_same(back, model)
    told = {name: getattr(back.config, name) for name in ModelConfig.model_fields}
    filled_in = {"d_head": model.config.head_width, "init": "reference"}
    assert told == model.config.model_dump() | filled_in
    assert_same(from_bridge(bridge, model.config), model)
    assert from_bridge(bridge, model.config).config == model.config


@pytest.mark.parametrize("kind", OPTIONS)
def test_dtype_and_the_size_of_the_output_are_kept(kind):
    model = model_of(OPTIONS[kind][0], torch.float64)
    fewer = {name: param[..., :3] if name.startswith("unembed.") else param for name, param in model.params.items()}
    assert_same(Model.of(to_bridge(Model(fewer, model.config))), Model(fewer, model.config))


def test_a_bridge_is_a_copy_both_ways_and_disturbs_nothing():
    model = model_of({"biases": True})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    bridge = to_bridge(model)
    assert torch.equal(before, torch.get_rng_state())
    bridge.blocks[1].attn.original_component.train()
    was_training = [module.training for module in bridge.modules()]
    back = Model.of(bridge)
    assert [module.training for module in bridge.modules()] == was_training
    back.params["embed.W_E"].zero_()
    assert_same(Model.of(bridge), model)
    with torch.no_grad():
        bridge.tl_parameters()["blocks.1.mlp.W_in"].mul_(2)
    assert torch.equal(Model.of(bridge).params["blocks.1.mlp.W_in"], 2 * model.params["blocks.1.mlp.W_in"])


def test_dropout_of_a_module_in_training_is_no_part_of_the_network():
    bridge = to_bridge(model_of({"biases": True}))
    for module in bridge.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
            module.train()
    assert_same(Model.of(bridge), model_of({"biases": True}))


def test_a_module_in_training_is_taken_in_with_what_no_part_of_its_bridge_stands_for():
    """The dropout of its embeddings."""
    bridge = bridge_around("GPT2LMHeadModel", GPT | {"embd_pdrop": 0.5})
    module = bridge.original_model
    module.train()
    tokens = torch.arange(7)[None]
    seen = Model.of(bridge)
    assert all(one.training for one in module.modules())
    bridge.eval()
    module.eval()
    torch.testing.assert_close(forward(seen, tokens), bridge(tokens)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pre", [False, True])
def test_hooks_of_torch_on_a_module_inside_are_refused_by_name_but_not_those_of_the_bridge(pre):
    bridge = bridge_around("GPT2LMHeadModel", GPT)
    bridge(torch.arange(7)[None])  # with which a bridge sets hooks of its own
    Model.of(bridge)
    inside = bridge.original_model.transformer.h[1]
    add = inside.register_forward_pre_hook if pre else inside.register_forward_hook
    handle = add(lambda *_: None)
    with pytest.raises(ValueError, match=r"^model hooks = (\S*h|blocks)\.1\S*: must be none"):
        Model.of(bridge)
    handle.remove()
    Model.of(bridge)


ROPE = {"rope_type": "default", "rope_theta": 500.0}
SIZES = {"vocab_size": 11, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4}
NAMED = SIZES | {"max_position_embeddings": 7, "rope_parameters": ROPE, "pad_token_id": 0}
SHARED = NAMED | {"num_key_value_heads": 2}
HALF = NAMED | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}}
GPT = {"vocab_size": 11, "n_positions": 7, "n_embd": 16, "n_layer": 2, "n_head": 2}


def bridge_around(name, settings):
    """A bridge around a module of transformers, none of whose parameters is 0 or 1."""
    import transformers
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    kind = getattr(transformers, name)
    module = kind(kind.config_class(attn_implementation="eager", **settings)).eval()
    draws = generator()
    for param in module.parameters():
        torch.nn.init.normal_(param, std=0.4, generator=draws)
    return build_bridge_from_module(module, name, hf_config=module.config)


SLOW = {"marks": pytest.mark.slow}  # each imports a module of transformers


@pytest.mark.parametrize(
    ("name", "settings", "options"),
    [
        ("GPT2LMHeadModel", GPT, {"act_fn": "gelu_new", "tie_word_embeddings": True, "biases": True}),
        (
            "LlamaForCausalLM",
            SHARED | {"attention_bias": True, "head_dim": 6},
            {"n_key_value_heads": 2, "d_head": 6},
        ),
        pytest.param(
            "MistralForCausalLM", SHARED, {"gated_mlp": True, "normalization": "RMS", "biases": False}, **SLOW
        ),
        pytest.param("Qwen2ForCausalLM", SHARED, {"rotary_base": 500.0, "biases": True}, **SLOW),
        pytest.param("Qwen3ForCausalLM", SHARED, {"use_qk_norm": True}, **SLOW),
        ("GPTNeoXForCausalLM", HALF, {"parallel_attn_mlp": True, "rotary_dim": 2, "normalization": "LN"}),
        ("GPTNeoXForCausalLM", HALF | {"use_parallel_residual": False}, {"parallel_attn_mlp": False}),
        pytest.param(
            "GPTJForCausalLM",
            GPT | {"rotary_dim": 4},
            {"rotary_adjacent_pairs": True, "parallel_attn_mlp": True},
            **SLOW,
        ),
        pytest.param("PhiForCausalLM", HALF, {"parallel_attn_mlp": True, "biases": True}, **SLOW),
        pytest.param("Phi3ForCausalLM", SHARED, {"gated_mlp": True, "n_key_value_heads": 2}, **SLOW),
        pytest.param(
            "StableLmForCausalLM", SHARED | HALF, {"normalization": "LN", "gated_mlp": True, "rotary_dim": 2}, **SLOW
        ),
    ],
)
def test_bridges_around_modules_of_transformers_are_taken_in(name, settings, options):
    bridge = bridge_around(name, settings)
    model = Model.of(bridge)
    assert {option: getattr(model.config, option) for option in options} == options
    tokens = torch.randint(0, 11, (4, 7), generator=generator())
    theirs = bridge.original_model(tokens).logits.detach().flatten(0, 1)
    torch.testing.assert_close(forward(model, tokens), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "settings"), [("GPT2LMHeadModel", GPT), ("LlamaForCausalLM", SHARED)])
def test_processed_weights_are_taken_in_as_they_are(name, settings):
    bridge = bridge_around(name, settings)
    raw = Model.of(bridge)
    bridge.enable_compatibility_mode(disable_warnings=True)
    folded = Model.of(bridge)
    assert bool((folded.params["blocks.0.ln1.w"] == 1).all())
    assert not torch.equal(folded.params["blocks.0.attn.W_Q"], raw.params["blocks.0.attn.W_Q"])
    tokens = torch.randint(0, 11, (4, 7), generator=generator())
    both = [forward(model, tokens).log_softmax(-1) for model in (raw, folded)]
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)


SCALED = ROPE | {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("LlamaForCausalLM", NAMED | {"rope_parameters": SCALED}, "rope_type = 'linear': must be 'default'$"),
        ("LlamaForCausalLM", NAMED | {"mlp_bias": True}, "model logits = off by"),
        pytest.param(
            "MistralForCausalLM", SHARED | {"sliding_window": 6}, "window_size = 6: must be at least n_ctx = 7$", **SLOW
        ),
        pytest.param("GemmaForCausalLM", SHARED, r"model\.cfg\.rmsnorm_uses_offset = True: must be False$", **SLOW),
        pytest.param("Gemma2ForCausalLM", SHARED, "soft_cap = [0-9.]+: must be -1.0$", **SLOW),
        pytest.param("BloomForCausalLM", SIZES, "'alibi': must be 'standard' or 'rotary'$", **SLOW),
        pytest.param("MixtralForCausalLM", SHARED, "num_experts = 8: must be None$", **SLOW),
        ("GPT2LMHeadModel", GPT | {"activation_function": "tanh"}, "act_fn = 'tanh': must be 'gelu' or "),
        ("GPT2LMHeadModel", GPT | {"scale_attn_by_inverse_layer_idx": True}, "model logits = off by|inverse_layer_idx"),
        pytest.param(
            "MambaForCausalLM", {"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2}, "must be", **SLOW
        ),
        pytest.param(
            "T5ForConditionalGeneration",
            {"vocab_size": 11, "d_model": 16, "d_kv": 4, "num_layers": 2},
            "must be",
            **SLOW,
        ),
    ],
)
def test_modules_that_cannot_be_followed_are_refused_in_one_line(name, settings, complaint):
    with pytest.raises(ValueError, match=complaint) as refusal:
        Model.of(bridge_around(name, settings))
    assert "\n" not in str(refusal.value)


def doubled(value, hook):
    return 2 * value


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda bridge: bridge.add_hook("blocks.0.hook_mlp_out", doubled), "model hooks = .*mlp.*: must be none"),
        (
            lambda bridge: bridge.blocks[0].mlp.original_component.register_forward_hook(lambda *x: 2 * x[2]),
            r"model hooks = .*mlp.*: must be none",
        ),
        (lambda bridge: bridge.W_E.data.fill_(torch.nan), r"weight embed\.W_E = nan: must be finite"),
        (lambda bridge: bridge.to("meta"), r"^model\..* = on meta: must be a dense tensor with values$"),
        (lambda bridge: bridge.to(torch.bfloat16), "dtype = torch.bfloat16: must be torch.float32 or torch.float64"),
    ],
)
def test_what_no_option_tells_is_told_by_hooks_and_by_one_forward_pass(change, complaint):
    bridge = to_bridge(model_of({"biases": True}))
    change(bridge)
    with pytest.raises(ValueError, match=complaint):
        Model.of(bridge)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (ROTARY, "rotary_adjacent_pairs = False: must be True in a TransformerBridge"),
        ({"use_qk_norm": True}, "use_qk_norm = True: must be False"),
        ({"attention_dir": "bidirectional"}, "attention_dir = bidirectional: must be causal"),
        ({"parallel_attn_mlp": True}, "parallel_attn_mlp = True: must be False"),
        ({"act_fn": "solu"}, "act_fn = solu: must be gelu or"),
        ({"normalization": "none", "attn_scale": 1.0}, "attn_scale = 1.0: must be None"),
        ({"d_head": 2, "attn_scale": 1.0}, "attn_scale = 1.0: must be None"),
        (LLAMA | {"biases": True}, r"params\.blocks\.0\.mlp\.b_in = not 0: must be 0"),
        ({"gated_mlp": True, "biases": True}, r"params\.blocks\.0\.mlp\.b_in = not 0: must be 0"),
    ],
)
def test_a_network_that_no_bridge_can_be_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        to_bridge(model_of(options))


def test_a_bridge_that_computes_something_else_is_not_given_out(monkeypatch):
    model = model_of({"biases": True})
    other = Model(model.params, model.config.model_copy(update={"act_fn": "relu"}))
    monkeypatch.setattr("compo_mech.model.bridge.empty_bridge", lambda _: empty_bridge(other))
    with pytest.raises(ValueError, match="model logits = off by"):
        to_bridge(model)


def test_a_bridge_of_another_configuration_is_refused():
    bridge = to_bridge(model_of({"biases": True}))
    for options, complaint in (
        ({"biases": True, "act_fn": "relu"}, "logits = off by"),
        ({"biases": False}, "logits = off by"),
        ({"biases": True, "n_layers": 3}, r"without blocks\.2\.ln1\.w of shape"),
        ({"biases": True, "d_mlp": 13}, r"without blocks\.0\.mlp\.W_in of shape \(8, 13\)"),
    ):
        with pytest.raises(ValueError, match=complaint):
            from_bridge(bridge, ModelConfig(**(SMALL | options)))


def values_at(bridge, name, tokens):
    seen = []
    bridge.run_with_hooks(tokens, fwd_hooks=[(name, lambda value, hook: seen.append(value.detach().clone()))])
    return seen[0]


def edited_logits(bridge, name, site, clean, corrupt):
    """Logits of a bridge that reads the clean tokens, and at one site carries what it holds on the corrupt ones."""
    other = values_at(bridge, name, corrupt)

    def put(value, hook):
        where = slice(None) if site.head is None else (slice(None), site.head)
        if site.head is not None and site.kind != "pattern":
            where = (slice(None), slice(None), site.head)
        value = value.clone()
        value[where] = other[where]
        return value

    return bridge.run_with_hooks(clean, fwd_hooks=[(name, put)]).detach()


def is_taken(bridge, site):
    try:
        return bool(hook_to_edit(bridge, site))
    except ValueError:
        return False


EDITED = {
    "GPT2LMHeadModel": ({"biases": True}, set()),
    "LlamaForCausalLM": (LLAMA | {"n_heads": 4, "n_key_value_heads": 2}, set()),
    "TransformerLensNative": ({"biases": True, "d_head": 3}, {"result", "pattern"}),  # 4.x gives the pattern a seam
}


@pytest.mark.parametrize("kind", EDITED)
def test_edits_at_ten_kinds_of_site_are_ours_where_they_are_not_refused(kind):
    options, may_be_refused = EDITED[kind]
    model = model_of(options)
    pairs = pairs_of(DATA, Switch.TOKEN)
    clean, corrupt = both_traces(model, pairs)
    bridge = to_bridge(model)
    assert bridge.cfg.architecture == kind
    if "result" not in may_be_refused:
        bridge.set_use_attn_result(True)
    for site_kind in ("resid_pre", "resid_post", "attn_out", "mlp_out", *HEAD_KINDS):
        for layer in range(2):
            site = Site(site_kind, layer, 1 if site_kind in HEAD_KINDS else None)
            ours = patched_logits(model, clean, corrupt, site, torch.ones_like(pairs.read), pairs)
            assert not torch.equal(ours, clean.logits[pairs.row, pairs.position])
            if site_kind in may_be_refused and not is_taken(bridge, site):
                continue
            name = hook_to_edit(bridge, site)
            theirs = edited_logits(bridge, name, site, pairs.clean_tokens, pairs.corrupt_tokens)
            torch.testing.assert_close(ours, theirs[pairs.row, pairs.position], atol=1e-5, rtol=1e-5)


def test_editing_resid_mid_would_not_reach_the_stream_and_is_refused():
    model, pairs = model_of({"biases": True}), pairs_of(DATA, Switch.TOKEN)
    clean, corrupt = both_traces(model, pairs)
    site, everywhere = Site("resid_mid", 0), torch.ones_like(pairs.read)
    for options in ({"biases": True}, {"biases": True, "d_head": 3}):
        with pytest.raises(ValueError, match="site = resid_mid0: must not be edited in a TransformerBridge"):
            hook_to_edit(to_bridge(model_of(options)), site)
    bridge = to_bridge(model)
    for loop in (partial(hooked_loops.loop_route_scores, DATA), hooked_loops.loop_routes):  # which edit there
        with pytest.raises(ValueError, match="site = resid_mid1: must not be edited in a TransformerBridge"):
            loop([], False, bridge)
    theirs = edited_logits(bridge, site.hook_name, site, pairs.clean_tokens, pairs.corrupt_tokens)
    ours = patched_logits(model, clean, corrupt, site, everywhere, pairs)
    assert (theirs[pairs.row, pairs.position] - ours).abs().max() > 0.01
    read = values_at(bridge, site.hook_name, pairs.clean_tokens)
    torch.testing.assert_close(read, clean.resid_mid[0], atol=1e-5, rtol=1e-5)  # reads are right


def test_sites_that_a_network_does_not_have_are_refused():
    bridge = to_bridge(model_of({"biases": True, "d_head": 3}))
    for site, complaint in (
        (Site("z", 2, 0), r"site = L2H0\.z: must be one of the network's, which has no blocks\.2\.attn\.hook_z"),
        (Site("result", 0, 0), r"site = L0H0\.result: must be computed first"),
    ):
        with pytest.raises(ValueError, match=complaint):
            hook_to_edit(bridge, site)
    with pytest.raises(ValueError, match="network = a Model: must be a HookedTransformer or a TransformerBridge"):
        hook_to_edit(model_of({}), Site("z", 0, 0))
