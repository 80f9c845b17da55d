import pytest
import torch

from compo_mech.model.config import ModelConfig, is_frozen, parameter_shapes
from compo_mech.model.forward import forward
from compo_mech.model.hooked import (
    config_of,
    from_hooked,
    to_hooked,  # fmt: skip
)
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
    model = to_hooked(params, config)
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, shape in parameter_shapes(config, 9, 14).items():
        assert own[name] == shape
    for name, parameter in model.named_parameters():
        if name not in params:
            assert name.split(".")[-1].startswith("b")
            assert not parameter.any()
    back = from_hooked(model, config)
    assert list(back) == list(params)
    assert all(torch.equal(back[name], params[name]) for name in params)


def test_building_a_model_leaves_global_randomness_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    to_hooked(params_of(ModelConfig(d_model=8)), ModelConfig(d_model=8))
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


def test_unknown_parts_cannot_be_frozen():
    with pytest.raises(ValueError, match=r"freeze = blocks\.2: must be one of embed, pos_embed"):
        ModelConfig(freeze=("blocks.2",))


def test_any_hooked_transformer_that_can_be_followed_is_taken_in():
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    plain = {"n_layers": 2, "d_model": 16, "n_ctx": 12, "d_head": 8, "n_heads": 2, "d_vocab": 9, "d_mlp": 24}
    tokens = torch.randint(0, 9, (3, 10), generator=torch.Generator().manual_seed(0))
    for options in ({"normalization_type": "LN", "act_fn": "gelu"}, {"normalization_type": None, "act_fn": "relu"}):
        hooked = HookedTransformer(HookedTransformerConfig(**plain, **options))
        for param in hooked.parameters():
            torch.nn.init.normal_(param, std=0.3)
        config = config_of(hooked)
        found = forward(Model(from_hooked(hooked, config), config), tokens)
        torch.testing.assert_close(found, hooked(tokens).flatten(0, 1).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"positional_embedding_type": "rotary"}, "positional_embedding_type = 'rotary': must be 'standard'"),
        ({"normalization_type": "LNPre"}, "normalization_type = 'LNPre'"),
        ({"parallel_attn_mlp": True}, "parallel_attn_mlp = True: must be False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True: must be False"),
        ({"post_embedding_ln": True}, "post_embedding_ln = True"),
        ({"attention_dir": "bidirectional"}, "attention_dir = 'bidirectional'"),
        ({"act_fn": "gelu_new"}, "act_fn = 'gelu_new': must be 'gelu' or 'relu' or 'silu'"),
    ],
)
def test_a_hooked_transformer_with_an_option_that_cannot_be_followed_is_refused(option, complaint):
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    plain = {"n_layers": 1, "d_model": 8, "n_ctx": 6, "d_head": 8, "n_heads": 1, "d_vocab": 5, "act_fn": "gelu"}
    hooked = HookedTransformer(HookedTransformerConfig(**(plain | option)))
    with pytest.raises(ValueError, match=complaint):
        config_of(hooked)
