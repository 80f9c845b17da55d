import pytest
import torch
from architectures import D_VOCAB, N_CTX, random_config, random_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compo_mech.model import blocks, norms
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.sites import kinds_of

NEAR = {"atol": 1e-6, "rtol": 1e-6}


configs = st.integers(0, 10**6).map(random_config)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs, st.integers(0, 99))
def test_composed_they_are_the_hooked_transformer(config, seed):
    model = random_network(config, seed, torch.float64)
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
        z = pattern @ blocks.by_query_head(model, v)
        same("attn.hook_z", z.transpose(1, 2))
        attn_out = blocks.attn_out(model, layer, blocks.merge_heads(z))
        same("hook_attn_out", attn_out)
        mid = stream + attn_out
        if "resid_mid" in kinds_of(config):
            same("hook_resid_mid", mid)
        mlp_in = blocks.mlp_input(model, stream, mid)
        if not config.attn_only:
            same("mlp.hook_pre", blocks.mlp_pre(model, layer, mlp_in))
            same("mlp.hook_post", blocks.neurons(model, layer, mlp_in))
            same("hook_mlp_out", blocks.mlp_out(model, layer, mlp_in))
        stream = blocks.resid_post(model, layer, stream, mid)
        same("hook_resid_post", stream)
    size = cache["ln_final.hook_scale"] if config.normalization != "none" else torch.ones(3, 8, 1)
    torch.testing.assert_close(norms.norm_size(model, "ln_final", stream), size.double(), **NEAR)
    torch.testing.assert_close(blocks.logits(model, stream), expected, **NEAR)


@pytest.mark.parametrize("seed", range(8))
def test_heads_one_by_one_are_the_heads_together(seed):
    config = random_config(seed)
    model, layer = random_network(config, seed, torch.float64), config.n_layers - 1
    stream = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normed = blocks.attention_input(model, layer, stream)
    together = blocks.qkv(model, layer, stream)
    for which, of_all in zip("QKV", together, strict=True):
        (alone,) = blocks.project(model, layer, which, normed)
        torch.testing.assert_close(blocks.split_heads(model, alone), of_all, **NEAR)
        for head in range(of_all.shape[1]):
            torch.testing.assert_close(blocks.project_head(model, layer, head, which, normed), of_all[:, head], **NEAR)
    z = blocks.by_query_head(model, together[2])
    results = blocks.result(model, layer, z)
    for head in range(config.n_heads):
        torch.testing.assert_close(blocks.head_result(model, layer, head, z[:, head]), results[:, head], **NEAR)
    total = results.sum(1) + (blocks.attn_bias(model, layer) if config.biases else 0)
    torch.testing.assert_close(total, blocks.attn_out(model, layer, blocks.merge_heads(z)), **NEAR)
    assert torch.equal(blocks.split_heads(model, blocks.merge_heads(z)), z)


@pytest.mark.parametrize("seed", range(8))
def test_scores_of_one_row_and_of_pairs_are_entries_of_the_scores(seed):
    config = random_config(seed)
    model = random_network(config, seed, torch.float64)
    stream = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, k, _ = (blocks.by_query_head(model, x) if i else x for i, x in enumerate(blocks.qkv(model, 0, stream)))
    scores, at = blocks.scores(model, 0, q, k), torch.tensor([4])
    torch.testing.assert_close(blocks.row_scores(model, 0, q[:, :, 4], k, at), scores[:, :, 4], **NEAR)
    torch.testing.assert_close(blocks.scores(model, 0, q[:, :, 4:], k, torch.arange(4, 6)), scores[:, :, 4:], **NEAR)
    for distance in (0, 2):
        pairs = blocks.paired_scores(model, 0, q[:, :, distance:], k[:, :, : 6 - distance], torch.tensor([distance]))
        torch.testing.assert_close(pairs[..., 0], scores.diagonal(-distance, -2, -1), **NEAR)
    for found in (
        blocks.scores(model, 0, q, k, None, 4.0)[:, :, 4],
        blocks.row_scores(model, 0, q[:, :, 4], k, at, 4.0),
    ):
        torch.testing.assert_close(found, scores[:, :, 4] / 4, **NEAR)


def test_an_mlp_in_parts_is_the_mlp():
    model = random_network(ModelConfig(d_model=12, biases=True), 0)
    for n_rows in (0, 1, blocks.ROWS_AT_ONCE, 2 * blocks.ROWS_AT_ONCE + 3):
        stream = torch.randn(n_rows, 1, 12, generator=torch.Generator().manual_seed(0))
        whole = blocks.mlp_out(model, 0, stream)
        torch.testing.assert_close(blocks.mlp_out_in_parts(model, 0, stream), whole, **NEAR)


def test_a_model_knows_its_sizes():
    model = random_network(ModelConfig(d_model=12), 0)
    assert (model.d_vocab, model.n_ctx, model.device) == (D_VOCAB, N_CTX, torch.device("cpu"))
