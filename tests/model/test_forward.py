import pytest
import torch
import torch.nn.functional as F
from architectures import D_VOCAB, random_config, random_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.data.stream import TrainingStream
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.generate import Past, read_on
from compo_mech.model.hooked import hooked_name, to_hooked
from compo_mech.model.params import Model

NEAR = {"atol": 1e-9, "rtol": 1e-7}


def random_params(config, seed=0):
    return random_network(config, seed).params


configs = st.integers(0, 10**6).map(random_config)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs, st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans(), st.integers(0, 99))
def test_equal_to_hooked_transformer_in_values_and_gradients(config, lengths, chain_of_thought, seed):
    layout = DataConfig(chain_of_thought=chain_of_thought).layout
    packing = Packing.of_lengths(layout, lengths)
    params = random_network(config, seed, torch.float64).params
    model = to_hooked(Model(params, config))
    tokens = torch.randint(0, D_VOCAB, (len(lengths), packing.n_pos + 1), generator=torch.Generator().manual_seed(seed))
    for param in params.values():
        param.requires_grad_()
    patterns = []
    logits = forward(Model(params, config), tokens, packing, patterns=patterns)
    expected, cache = model.run_with_cache(tokens[:, : packing.n_pos])
    expected = expected[packing.scored_row, packing.scored_position]
    torch.testing.assert_close(logits, expected, **NEAR)

    targets = tokens[packing.scored_row, packing.scored_position + 1]
    F.cross_entropy(logits, targets).backward()
    F.cross_entropy(expected, targets).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if config.tie_word_embeddings:
        gradients["embed.W_E"] = gradients["embed.W_E"] + gradients["unembed.W_U"].mT
    for name, param in params.items():
        expected = gradients[hooked_name(config, name)]
        torch.testing.assert_close(param.grad, expected, **NEAR, msg=lambda m, n=name: f"{n}: {m}")

    for layer, pattern in enumerate(patterns):
        of_model = cache[f"blocks.{layer}.attn.hook_pattern"]
        for row, length in enumerate(lengths):
            for query, position in enumerate(layout.scored(length)):
                torch.testing.assert_close(pattern[row, :, query], of_model[row, :, position], **NEAR)


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
    model = random_network(config, seed, torch.float64)
    tokens = torch.randint(D_VOCAB, (3, sum(steps)), generator=torch.Generator().manual_seed(seed))
    whole = forward(model, tokens).unflatten(0, tokens.shape)
    past: Past = []
    done = 0
    for n_new in steps:
        logits = read_on(model, tokens[:, done : done + n_new], past)
        done += n_new
        torch.testing.assert_close(logits, whole[:, done - 1], **NEAR)
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


@pytest.mark.parametrize("lengths", [[5], [6, 6, 6], [1, 4, 2, 6] * 40], ids=["few", "even", "many"])
@pytest.mark.parametrize(
    "config",
    [ModelConfig(d_model=8, n_heads=2, n_layers=n_layers, **options)
     for n_layers in (1, 2)
     for options in ({}, {"positional_embedding": "rotary"}, {"attention_dir": "bidirectional"})],
    ids=str,
)  # fmt: skip
def test_what_tokens_have_in_common_is_as_if_computed_for_each(config, lengths):
    """A mask of ones keeps tokens apart."""
    model = random_network(config, 0, torch.float64)
    packing = Packing.of_lengths(DataConfig().layout, lengths)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, D_VOCAB, (len(lengths), packing.n_pos), generator=generator)
    shift = torch.randint(0, 3, (len(lengths),), generator=generator)
    ones = torch.ones(len(packing.row), config.d_model, dtype=torch.float64)
    for param in model.params.values():
        param.requires_grad_()
    found = []
    for mask in (None, ones):
        patterns = []
        logits = forward(model, tokens, packing, position_shift=shift, embed_mask=mask, patterns=patterns)
        gradients = torch.autograd.grad(logits.logsumexp(-1).sum(), list(model.params.values()))
        found.append((logits, *patterns, *gradients))
    torch.testing.assert_close(*found, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("n_rows", [1, 200])
def test_positions_that_there_are_not_are_refused(n_rows):
    model = random_network(ModelConfig(d_model=8), 0)
    tokens = torch.ones(n_rows, 3, dtype=torch.long)
    shift = torch.full((n_rows,), len(model.params["pos_embed.W_pos"]) - 2)
    with pytest.raises(IndexError):
        forward(model, tokens, position_shift=shift)


@pytest.mark.parametrize("config", [random_config(seed) for seed in (0, 2, 5, 6)])
def test_stacked_parameters_under_vmap_and_grad(config):
    members = [random_network(config, seed, torch.float64).params for seed in range(3)]
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
