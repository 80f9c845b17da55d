import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compo_mech.model import blocks
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params

D_VOCAB, N_CTX = 9, 12
NEAR = {"atol": 1e-5, "rtol": 1e-5}


def random_model(config, seed=0):
    """A network none of whose parameters is at its neutral value, so that a forgotten bias or gain shows."""
    generator = torch.Generator().manual_seed(seed)
    params = init_params(config, D_VOCAB, N_CTX, generator)
    for name, param in params.items():
        if param.ndim == 1 or name.split(".")[-1].startswith("b"):
            param += 0.3 * torch.randn(param.shape, generator=generator)
    return Model(params, config)


configs = st.builds(
    ModelConfig,
    n_layers=st.integers(1, 3),
    n_heads=st.sampled_from([1, 2, 3]),
    d_model=st.just(12),
    d_head=st.sampled_from([None, 5]),
    d_mlp=st.sampled_from([None, 7]),
    act_fn=st.sampled_from(["gelu", "relu", "silu"]),
    normalization=st.sampled_from(["LN", "none"]),
    biases=st.booleans(),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs, st.integers(0, 99))
def test_composed_they_are_the_hooked_transformer(config, seed):
    model = random_model(config, seed)
    tokens = torch.randint(D_VOCAB, (3, 8), generator=torch.Generator().manual_seed(seed))
    expected, cache = to_hooked(model).run_with_cache(tokens)
    position_ids = torch.arange(8)
    seen = blocks.causal(position_ids, 8)
    stream = blocks.embed(model, tokens, position_ids.expand(3, 8))
    for layer in range(config.n_layers):

        def same(name, value, layer=layer):
            torch.testing.assert_close(value, cache[f"blocks.{layer}.{name}"], **NEAR, msg=lambda m: f"{name}: {m}")

        same("hook_resid_pre", stream)
        q, k, v = blocks.qkv(model, layer, stream)
        for name, value in (("q", q), ("k", k), ("v", v)):
            same(f"attn.hook_{name}", value.transpose(1, 2))
        scores = blocks.scores(model, layer, q, blocks.by_query_head(model, k))
        same("attn.hook_attn_scores", scores.masked_fill(~seen, -torch.inf))
        pattern = blocks.pattern(scores, seen)
        same("attn.hook_pattern", pattern)
        z = pattern @ v
        same("attn.hook_z", z.transpose(1, 2))
        attn_out = blocks.attn_out(model, layer, blocks.merge_heads(z))
        same("hook_attn_out", attn_out)
        stream = stream + attn_out
        same("hook_resid_mid", stream)
        pre = blocks.mlp_pre(model, layer, stream)
        same("mlp.hook_pre", pre)
        same("mlp.hook_post", blocks.neurons(model, layer, stream))
        mlp_out = blocks.mlp_out(model, layer, stream)
        same("hook_mlp_out", mlp_out)
        stream = stream + mlp_out
    torch.testing.assert_close(blocks.logits(model, stream), expected, **NEAR)


@pytest.mark.parametrize("biases", [False, True])
def test_heads_one_by_one_are_the_heads_together(biases):
    model = random_model(ModelConfig(d_model=12, n_heads=3, d_head=5, biases=biases))
    stream = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0))
    normed = blocks.attention_input(model, 1, stream)
    together = blocks.qkv(model, 1, stream)
    for which, of_all in zip("QKV", together, strict=True):
        (alone,) = blocks.project(model, 1, which, normed)
        torch.testing.assert_close(blocks.split_heads(model, alone), of_all, **NEAR)
        for head in range(3):
            torch.testing.assert_close(blocks.project_head(model, 1, head, which, normed), of_all[:, head], **NEAR)
    z = together[2]
    results = blocks.result(model, 1, z)
    for head in range(3):
        torch.testing.assert_close(blocks.head_result(model, 1, head, z[:, head]), results[:, head], **NEAR)
    total = results.sum(1) + (blocks.attn_bias(model, 1) if biases else 0)
    torch.testing.assert_close(total, blocks.attn_out(model, 1, blocks.merge_heads(z)), **NEAR)
    assert torch.equal(blocks.split_heads(model, blocks.merge_heads(z)), z)


def test_scores_of_one_row_and_of_pairs_are_entries_of_the_scores():
    model = random_model(ModelConfig(d_model=12, n_heads=3))
    q, k, _ = blocks.qkv(model, 0, torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0)))
    scores, at = blocks.scores(model, 0, q, k), torch.tensor([4])
    torch.testing.assert_close(blocks.row_scores(model, 0, q[:, :, 4], k, at), scores[:, :, 4], **NEAR)
    diagonal = scores.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(blocks.paired_scores(model, 0, q, k, torch.zeros(6).long())[..., 0], diagonal, **NEAR)
    for found in (
        blocks.scores(model, 0, q, k, None, 4.0)[:, :, 4],
        blocks.row_scores(model, 0, q[:, :, 4], k, at, 4.0),
    ):
        torch.testing.assert_close(found, scores[:, :, 4] / 4, **NEAR)


def test_an_mlp_in_parts_is_the_mlp():
    model = random_model(ModelConfig(d_model=12, biases=True))
    for n_rows in (0, 1, blocks.ROWS_AT_ONCE, 2 * blocks.ROWS_AT_ONCE + 3):
        stream = torch.randn(n_rows, 1, 12, generator=torch.Generator().manual_seed(0))
        whole = blocks.mlp_out(model, 0, stream)
        torch.testing.assert_close(blocks.mlp_out_in_parts(model, 0, stream), whole, **NEAR)


def test_a_model_knows_its_sizes():
    model = random_model(ModelConfig(d_model=12))
    assert (model.d_vocab, model.n_ctx, model.device) == (D_VOCAB, N_CTX, torch.device("cpu"))
