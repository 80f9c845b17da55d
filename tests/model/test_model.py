import pytest
import torch

from compo_mech.model import same_logits
from compo_mech.model.config import ModelConfig, is_frozen, parameter_shapes
from compo_mech.model.forward import forward
from compo_mech.model.hooked import from_hooked, to_hooked
from compo_mech.model.params import Model, gradient_masks, init_params


def params_of(config, seed=0):
    return init_params(config, 9, 14, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "config",
    [ModelConfig(d_model=16), ModelConfig(d_model=16, n_layers=1, n_heads=4, biases=True, act_fn="relu"),
     ModelConfig(d_model=16, n_heads=2, d_head=5, d_mlp=7, normalization="none", act_fn="silu")],
)  # fmt: skip
def test_parameters_are_those_of_the_hooked_transformer(config):
    params = params_of(config)
    model = to_hooked(Model(params, config))
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, shape in parameter_shapes(config, 9, 14).items():
        assert own[name] == shape
    for name, parameter in model.named_parameters():
        if name not in params:
            assert name.split(".")[-1].startswith("b")
            assert not parameter.any()
    back = from_hooked(model, config).params
    assert list(back) == list(params)
    assert all(torch.equal(back[name], params[name]) for name in params)


def test_building_a_model_leaves_global_randomness_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    to_hooked(Model(params_of(ModelConfig(d_model=8)), ModelConfig(d_model=8)))
    assert torch.equal(before, torch.get_rng_state())


def test_reference_initialisation_is_torchs_own():
    config = ModelConfig(d_model=256, n_heads=4)
    params = init_params(config, 500, 500, torch.Generator().manual_seed(0))
    for name in ("embed.W_E", "pos_embed.W_pos"):
        assert params[name].std() == pytest.approx(torch.nn.Embedding(500, 256).weight.std().item(), rel=0.02)
    for name, fan_in in (("attn.W_Q", 256), ("attn.W_O", 256), ("mlp.W_in", 256), ("mlp.W_out", 1024)):
        expected = torch.nn.Linear(fan_in, 300).weight
        found = params[f"blocks.0.{name}"]
        assert found.std() == pytest.approx(expected.std().item(), rel=0.03)
        assert found.abs().max() == pytest.approx(expected.abs().max().item(), rel=0.01)


def test_transformer_lens_initialisation_is_its_own():
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = HookedTransformerConfig(
        n_layers=1, n_heads=4, d_model=256, d_head=64, d_mlp=512, n_ctx=300, d_vocab=300, act_fn="gelu"
    )
    params = init_params(
        ModelConfig(n_layers=1, n_heads=4, d_model=256, d_mlp=512, init="transformer_lens"), 300, 300,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    for name, parameter in HookedTransformer(cfg).named_parameters():
        if "W_" in name:
            assert params[name].std() == pytest.approx(parameter.std().item(), rel=0.03)


def test_positions_may_live_in_fewer_dimensions():
    config = ModelConfig(d_model=16, n_pos_dims=5)
    params = params_of(config)
    assert params["pos_embed.W_pos"][:, :5].all()
    assert not params["pos_embed.W_pos"][:, 5:].any()
    mask = gradient_masks(config, params)["pos_embed.W_pos"]
    assert torch.equal(mask != 0, params["pos_embed.W_pos"] != 0)


def test_parts_are_frozen_by_name():
    config = ModelConfig(freeze=("pos_embed", "blocks.0.attn", "blocks.1.mlp.W_in"))
    frozen = {name for name in parameter_shapes(config, 3, 3) if is_frozen(config, name)}
    assert frozen == {"pos_embed.W_pos", *(f"blocks.0.attn.W_{x}" for x in "QKVO"), "blocks.1.mlp.W_in"}


def test_logits_of_tied_embeddings_are_as_large_as_those_of_others():
    config = ModelConfig(d_model=256, n_layers=1)
    sizes = [
        forward(Model(init_params(one, 300, 9, torch.Generator().manual_seed(0)), one), torch.arange(9)[None]).std()
        for one in (config, config.model_copy(update={"tie_word_embeddings": True}))
    ]
    assert 0.3 < sizes[0] / sizes[1] < 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"rotary_dim": 2}, "rotary_dim = 2: goes with positional_embedding = rotary only"),
        ({"final_rms": True, "normalization": "RMS"}, "final_rms = True: goes with normalization = LN or LNPre"),
        ({"attn_only": True, "gated_mlp": True}, "gated_mlp = True: must be False with attn_only = True"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ModelConfig(d_model=8, **options)


def test_unknown_parts_cannot_be_frozen():
    with pytest.raises(ValueError, match=r"freeze = blocks\.2: must be one of embed, pos_embed"):
        ModelConfig(freeze=("blocks.2",))


PLAIN = {"n_layers": 2, "d_model": 8, "n_ctx": 6, "d_head": 4, "n_heads": 2, "d_vocab": 5, "d_mlp": 9, "act_fn": "gelu"}


def hooked(**options):
    """A HookedTransformer none of whose parameters is 0 or 1."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(HookedTransformerConfig(**(PLAIN | options)))
    draws = torch.Generator().manual_seed(0)
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.5, generator=draws)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_type": "LN", "act_fn": "gelu"},
        {"normalization_type": None, "act_fn": "relu"},
        {"dtype": torch.float64, "d_vocab_out": 3},
        {"use_attn_scale": False, "positional_embedding_type": "rotary", "rotary_base": 50},
        {"attn_only": True, "act_fn": None, "normalization_type": "LNPre", "final_rms": True},
        {"n_key_value_heads": 1, "ungroup_grouped_query_attention": True, "gated_mlp": True, "act_fn": "gelu_new"},
        {"use_attn_result": True, "use_split_qkv_input": True, "use_hook_mlp_in": True, "seed": 3, "model_name": "own"},
    ],
)
def test_any_hooked_transformer_that_can_be_followed_is_taken_in(options):
    model = hooked(**options)
    copied = from_hooked(model)
    tokens = torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(0))
    for theirs in (model, to_hooked(copied)):
        expected = theirs(tokens).flatten(0, 1).detach()
        torch.testing.assert_close(forward(copied, tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"positional_embedding_type": "alibi"}, "positional_embedding_type = 'alibi': must be 'standard' or 'rotary'"),
        ({"positional_embedding_type": "shortformer"}, "positional_embedding_type = 'shortformer'"),
        ({"use_local_attn": True, "window_size": 2, "attn_types": ["local", "global"]}, "use_local_attn = True"),
        ({"attn_scores_soft_cap": 5.0}, r"attn_scores_soft_cap = 5\.0"),
        ({"output_logits_soft_cap": 5.0}, r"output_logits_soft_cap = 5\.0"),
        ({"use_NTK_by_parts_rope": True, "positional_embedding_type": "rotary"}, "use_NTK_by_parts_rope = True"),
        ({"use_yarn_rope": True, "positional_embedding_type": "rotary"}, "use_yarn_rope = True"),
        ({"rotary_scaling_factor": 8.0, "positional_embedding_type": "rotary"}, r"rotary_scaling_factor = 8\.0"),
        ({"use_dynamic_ntk_rope": True, "positional_embedding_type": "rotary"}, "use_dynamic_ntk_rope = True"),
        ({"rotary_base_local": 50.0, "positional_embedding_type": "rotary"}, r"rotary_base_local = 50\.0"),
        ({"use_normalization_before_and_after": True, "normalization_type": "RMS"}, "use_normalization_before_and"),
        ({"num_experts": 2, "experts_per_token": 1}, "num_experts = 2"),
        (
            {"original_architecture": "Olmo2ForCausalLM", "normalization_type": "RMS"},
            r"with blocks\.0\.attn\.k_norm\.w",
        ),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True: must be False"),
        ({"post_embedding_ln": True}, "post_embedding_ln = True"),
        ({"attention_dir": "bidirectional"}, "attention_dir = 'bidirectional'"),
        ({"act_fn": "xielu"}, "act_fn = 'xielu': must be 'gelu' or 'gelu_new' or .* or 'solu'"),
        ({"act_fn": "solu_ln"}, "act_fn = 'solu_ln'"),
        ({"clip_qkv": 0.1}, r"model\.cfg\.clip_qkv = 0\.1: must be None"),
        ({"use_attention_sinks": True}, "use_attention_sinks = True: must be False"),
        ({"use_logn_attn": True, "train_seq_length": 2}, "use_logn_attn = True: must be False"),
        ({"dtype": torch.bfloat16}, "dtype = torch.bfloat16: must be torch.float32 or torch.float64"),
    ],
)
def test_a_hooked_transformer_with_an_option_that_cannot_be_followed_is_refused(option, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_hooked(hooked(**option))


def doubled(value, hook):
    return 2 * value


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda model: model.add_perma_hook("blocks.0.hook_mlp_out", doubled),
            "hooks = blocks.0.hook_mlp_out: must be",
        ),
        (lambda model: model.add_hook("hook_embed", doubled), "hooks = hook_embed: must be none"),
        (lambda model: model.blocks[0].attn.register_forward_pre_hook(lambda *_: None), "hooks = blocks.0.attn: must"),
        (lambda model: setattr(model.ln_final, "eps", 1.0), "logits = off by .*: must be those of a plain"),
        (lambda model: setattr(model.blocks[1].mlp, "act_fn", torch.tanh), "logits = off by"),
        (lambda model: setattr(model.blocks[1].attn, "attn_scale", 1.0), "logits = off by"),
        (lambda model: setattr(model.blocks[1], "mlp", torch.nn.Identity()), r"without blocks\.1\.mlp\.W_in"),
        (lambda model: model.W_E.data.fill_(torch.nan), r"weight embed\.W_E = nan: must be finite"),
    ],
)
def test_what_no_option_tells_is_told_by_hooks_and_by_one_forward_pass(change, complaint):
    model = hooked()
    from_hooked(model)
    change(model)
    with pytest.raises(ValueError, match=complaint):
        from_hooked(model)


def test_a_copy_under_another_configuration_is_refused():
    model = hooked()
    for change in ({"biases": False}, {"act_fn": "relu"}, {"normalization": "none"}):
        with pytest.raises(ValueError, match="model logits = off by"):
            from_hooked(model, from_hooked(model).config.model_copy(update=change))


def test_roundings_of_logits_that_cancel_are_no_difference():
    """Where large numbers cancel no more digits are asked for than these have."""
    logits = torch.zeros(50, 8)
    logits[7, 2] = 100  # at one place alone they do not
    allowed = same_logits._allowed(same_logits._apart(logits))[3]
    assert (allowed > 5e-6).all()
    assert (allowed < 5e-5).all()
    logits[:, 5] = -1e9  # a token that is never to come decides about no other
    others = [i for i in range(8) if i != 5]
    assert (same_logits._allowed(same_logits._apart(logits))[3, others] < 5e-5).all()
    logits[8, 1] = torch.inf
    assert (same_logits._allowed(same_logits._apart(logits))[3, others] < 5e-5).all()


def test_a_change_at_any_token_or_position_is_seen():
    for name in ("W_E", "W_pos"):
        model = hooked(d_vocab=11)
        for i in range(len(getattr(model, name))):
            seen = model.forward

            def elsewhere(tokens, seen=seen, name=name, i=i):
                place = tokens if name == "W_E" else torch.arange(tokens.shape[1]).expand(tokens.shape)
                return seen(tokens) + (place == i)[..., None]

            model.forward = elsewhere
            with pytest.raises(ValueError, match="off by 1:"):
                from_hooked(model)
            model.forward = seen


def test_a_logit_that_is_no_number_or_infinite_is_no_rounding():
    for value in (torch.inf, -torch.inf, torch.nan):
        model = hooked(d_vocab=11)

        def spoilt(tokens, seen=model.forward, value=value):
            logits = seen(tokens)
            logits[0, 2, 3] = value
            return logits

        model.forward = spoilt
        with pytest.raises(ValueError, match="model logits = off by"):
            from_hooked(model)


def test_double_precision_stays_so():
    config = ModelConfig(d_model=8)
    params = {name: param.double() for name, param in params_of(config).items()}
    back = from_hooked(to_hooked(Model(params, config)), config).params
    assert all(torch.equal(back[name], params[name]) and back[name].dtype == torch.float64 for name in params)
