"""Every architecture is HookedTransformer's in logits and gradients, and goes there and back.

The default tests draw a few configurations; the slow ones those of `SEEDS`, more than 200.
"""

from typing import get_args

import pytest
import torch
from architectures import D_VOCAB, HEADS, N_CTX, random_config, random_network

from compo_mech.model.config import ModelConfig, parameter_shapes
from compo_mech.model.forward import forward
from compo_mech.model.hooked import from_hooked, hooked_name, to_hooked

FEW, SEEDS = range(12), range(12, 240)
few_and_many = pytest.mark.parametrize("seed", [*FEW, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS)])


def tokens_of(seed, n_rows=3, n_pos=8):
    return torch.randint(D_VOCAB, (n_rows, n_pos), generator=torch.Generator().manual_seed(seed))


def test_few_configurations_have_every_value_of_every_option():
    values = [random_config(seed).model_dump() for seed in FEW]
    for name, field in ModelConfig.model_fields.items():
        known = (
            {True, False} if field.annotation is bool else set(get_args(field.annotation)) - {int, float, type(None)}
        )
        if name not in ("freeze", "attention_dir"):  # the other direction has a test of its own
            assert known <= {value[name] for value in values}, name
    assert {(value["n_heads"], value["n_key_value_heads"]) for value in values} == set(HEADS)


@few_and_many
def test_logits_and_gradients_are_the_hooked_transformers(seed):
    config = random_config(seed)
    model, tokens = random_network(config, seed, torch.float64), tokens_of(seed)
    hooked = to_hooked(model)
    for param in model.params.values():
        param.requires_grad_()
    own, theirs = forward(model, tokens[:, :-1]), hooked(tokens[:, :-1]).flatten(0, 1)
    torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-5)
    for logits in (own, theirs):
        torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
    expected = {name: parameter.grad for name, parameter in hooked.named_parameters()}
    if config.tie_word_embeddings:
        expected["embed.W_E"] = expected["embed.W_E"] + expected["unembed.W_U"].mT
    for name, param in model.params.items():
        torch.testing.assert_close(
            param.grad, expected[hooked_name(config, name)], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("seed", range(6))
def test_attention_both_ways_is_the_hooked_transformers(seed):
    config = random_config(seed).model_copy(update={"attention_dir": "bidirectional"})
    model, tokens = random_network(config, seed, torch.float64), tokens_of(seed)
    torch.testing.assert_close(forward(model, tokens), to_hooked(model)(tokens).flatten(0, 1))


@few_and_many
def test_a_hooked_transformer_is_taken_in_as_it_was_given_out(seed):
    config = random_config(seed)
    model = random_network(config, seed)
    own = from_hooked(to_hooked(model))
    assert set(model.params) <= set(own.params) == set(parameter_shapes(own.config, D_VOCAB, model.n_ctx))
    for name, param in own.params.items():
        assert torch.equal(param, model.params.get(name, torch.zeros_like(param)))
    tokens = tokens_of(seed)
    torch.testing.assert_close(forward(own, tokens), forward(model, tokens))
    rotary_dim = None if config.rotary_dim == config.head_width else config.rotary_dim
    n_ctx = None if config.positional_embedding == "standard" else N_CTX
    filled_in = {"d_head": config.head_width, "d_mlp": config.mlp_width, "n_ctx": n_ctx, "rotary_dim": rotary_dim}
    untold = {"biases", "init"} | ({"act_fn"} if config.attn_only else set())
    untold |= set() if config.positional_embedding == "rotary" else {"rotary_base", "rotary_adjacent_pairs"}
    assert own.config.model_dump(exclude=untold) == config.model_copy(update=filled_in).model_dump(exclude=untold)
