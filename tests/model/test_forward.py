import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.data.stream import TrainingStream
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.generate import Past, read_on
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params

D_VOCAB, N_CTX = 9, 16


def random_params(config, seed=0):
    """Parameters none of which is at its neutral value, so that a forgotten bias or gain shows."""
    generator = torch.Generator().manual_seed(seed)
    params = init_params(config, D_VOCAB, N_CTX, generator)
    for name, param in params.items():
        if param.ndim == 1 or name.split(".")[-1].startswith("b"):
            param += 0.3 * torch.randn(param.shape, generator=generator)
    return params


configs = st.builds(
    ModelConfig,
    n_layers=st.integers(1, 3),
    n_heads=st.sampled_from([1, 2, 4]),
    d_model=st.sampled_from([8, 16]),
    d_head=st.sampled_from([None, 3]),
    d_mlp=st.sampled_from([None, 5]),
    act_fn=st.sampled_from(["gelu", "relu", "silu"]),
    normalization=st.sampled_from(["LN", "none"]),
    biases=st.booleans(),
    init=st.sampled_from(["reference", "transformer_lens"]),
    n_pos_dims=st.sampled_from([None, 3]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs, st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans(), st.integers(0, 99))
def test_equal_to_hooked_transformer_in_values_and_gradients(config, lengths, chain_of_thought, seed):
    layout = DataConfig(chain_of_thought=chain_of_thought).layout
    packing = Packing.of_lengths(layout, lengths)
    params = random_params(config, seed)
    model = to_hooked(Model(params, config))
    tokens = torch.randint(0, D_VOCAB, (len(lengths), packing.n_pos + 1), generator=torch.Generator().manual_seed(seed))
    for param in params.values():
        param.requires_grad_()
    patterns = []
    logits = forward(Model(params, config), tokens, packing, patterns=patterns)
    expected, cache = model.run_with_cache(tokens[:, : packing.n_pos])
    expected = expected[packing.scored_row, packing.scored_position]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)

    targets = tokens[packing.scored_row, packing.scored_position + 1]
    F.cross_entropy(logits, targets).backward()
    F.cross_entropy(expected, targets).backward()
    for name, parameter in model.named_parameters():
        if name in params:
            torch.testing.assert_close(
                params[name].grad, parameter.grad, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )

    for layer, pattern in enumerate(patterns):
        of_model = cache[f"blocks.{layer}.attn.hook_pattern"]
        for row, length in enumerate(lengths):
            for query, position in enumerate(layout.scored(length)):
                torch.testing.assert_close(pattern[row, :, query], of_model[row, :, position], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("biases", [False, True])
def test_every_position_without_a_packing(biases):
    config = ModelConfig(d_model=16, n_heads=2, biases=biases)
    params = random_params(config)
    tokens = torch.randint(0, D_VOCAB, (3, 7))
    expected = to_hooked(Model(params, config))(tokens)
    torch.testing.assert_close(forward(Model(params, config), tokens).view(3, 7, -1), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99))
def test_reading_on_equals_reading_all_at_once(config, steps, seed):
    model = Model(random_params(config, seed), config)
    tokens = torch.randint(D_VOCAB, (3, sum(steps)), generator=torch.Generator().manual_seed(seed))
    whole = forward(model, tokens).unflatten(0, tokens.shape)
    past: Past = []
    done = 0
    for n_new in steps:
        logits = read_on(model, tokens[:, done : done + n_new], past)
        done += n_new
        torch.testing.assert_close(logits, whole[:, done - 1], atol=1e-4, rtol=1e-4)
    assert [key.shape[2] for key, _ in past] == [done] * config.n_layers


def test_shifted_positions_are_a_shifted_table():
    config = ModelConfig(d_model=16)
    params = random_params(config)
    tokens = torch.randint(0, D_VOCAB, (2, 6))
    logits = forward(Model(params, config), tokens, position_shift=torch.tensor([0, 3])).view(2, 6, -1)
    for row, shift in enumerate((0, 3)):
        shifted = params | {"pos_embed.W_pos": params["pos_embed.W_pos"].roll(-shift, 0)}
        torch.testing.assert_close(logits[row], forward(Model(shifted, config), tokens[row : row + 1]))


def test_the_embedding_mask_scales_the_embedding():
    config = ModelConfig(d_model=8)
    params = random_params(config)
    tokens = torch.randint(0, D_VOCAB, (2, 5))
    mask = torch.full((10, 8), 2.0)
    doubled = params | {name: 2 * params[name] for name in ("embed.W_E", "pos_embed.W_pos")}
    torch.testing.assert_close(
        forward(Model(params, config), tokens, embed_mask=mask), forward(Model(doubled, config), tokens)
    )


def test_stacked_parameters_under_vmap_and_grad():
    config = ModelConfig(d_model=16, n_heads=2, biases=True)
    members = [random_params(config, seed) for seed in range(3)]
    stacked = {name: torch.stack([m[name] for m in members]) for name in members[0]}
    packing = Packing.of_lengths(DataConfig().layout, [1, 3, 4])
    tokens = torch.randint(0, D_VOCAB, (3, 3, packing.n_pos + 1))  # each member has strings of its own

    def loss(params, rows):
        return forward(Model(params, config), rows, packing).logsumexp(-1).sum()

    together = torch.func.vmap(torch.func.grad(loss))(stacked, tokens)
    for i, member in enumerate(members):
        alone = torch.func.grad(loss)(member, tokens[i])
        for name in member:
            torch.testing.assert_close(together[name][i], alone[name], atol=1e-5, rtol=1e-5)


def test_nothing_is_computed_beyond_what_is_read():
    """What stands in the padding, and after the rows that are scored, cannot matter."""
    config = DataConfig(max_length=6, batch_size=12)
    batch = TrainingStream(config, 0).batch(1, torch.Generator().manual_seed(0))
    model = Model(random_params(ModelConfig(d_model=8)), ModelConfig(d_model=8))
    garbled = batch.tokens.clone()
    read = torch.zeros_like(garbled, dtype=torch.bool)
    read[batch.packing.row, batch.packing.position] = True
    garbled[~read] = 0
    assert not torch.equal(garbled, batch.tokens)
    one, two = (forward(model, t, batch.packing) for t in (batch.tokens, garbled))
    assert torch.equal(one, two)
    assert len(one) == len(batch.targets) == sum(n + 1 for n in TrainingStream(config, 0).lengths(1))
