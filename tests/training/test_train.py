import pytest
import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.stream import TrainingStream
from compo_mech.launch.machine import repeating
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params
from compo_mech.training import loop
from compo_mech.training.loop import TrainConfig
from compo_mech.training.optim import OptimConfig
from compo_mech.training.schedule import is_snapshot

DATA = DataConfig(max_length=4, batch_size=16)
MODEL = ModelConfig(d_model=16)
NOISY = TrainConfig(n_steps=12, max_position_shift=2, embed_dropout=0.1)


def begin(model=MODEL, optim=None, seed=0):
    optim = optim or OptimConfig()
    generator = torch.Generator().manual_seed(seed)
    params = init_params(model, len(DATA.vocabulary), 14, generator)
    return loop.start(params, model, optim, generator)


def run(state, model=MODEL, optim=None, config=NOISY, until=None):
    optim = optim or OptimConfig()
    losses = []
    for step, loss in loop.train(state, TrainingStream(DATA, 0), model, optim, config):
        losses.append(float(loss))
        if step == until:
            break
    return losses


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adam", "sgd"])
def test_the_same_seed_gives_the_same_bits(optimizer):
    optim = OptimConfig(optimizer=optimizer)
    one, two = begin(optim=optim), begin(optim=optim)
    assert run(one, optim=optim) == run(two, optim=optim)
    assert all(torch.equal(one.params[n], two.params[n]) for n in one.params)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adam", "sgd"])
def test_a_stored_state_goes_on_to_the_bit(optimizer):
    optim = OptimConfig(optimizer=optimizer, weight_decay=0.01 if optimizer in ("muon", "adamw") else 0.0)
    whole, first = begin(optim=optim), begin(optim=optim)
    losses = run(whole, optim=optim)
    run(first, optim=optim, until=5)
    second = begin(optim=optim, seed=7)
    with torch.no_grad():
        for name, param in second.params.items():
            param.copy_(first.params[name])
    second.load_tensors({name: tensor.clone() for name, tensor in first.tensors().items()})
    second.step = first.step
    assert run(second, optim=optim) == losses[5:]
    assert all(torch.equal(whole.params[n], second.params[n]) for n in whole.params)


def test_a_step_is_that_of_the_hooked_transformer():
    """One AdamW step through our forward pass equals one through HookedTransformer on the padded batch."""
    optim = OptimConfig(optimizer="adamw", lr=1e-2, n_warmup_steps=0, decay_share=0, weight_decay=0.1)
    config = TrainConfig(n_steps=1)
    state = begin(optim=optim)
    model = to_hooked(Model(state.params, MODEL))
    twin = torch.Generator().manual_seed(0)
    init_params(MODEL, len(DATA.vocabulary), 14, twin)
    batch = TrainingStream(DATA, 0).batch(1, twin)
    weights = [p for n, p in model.named_parameters() if n in state.params]
    matrices, others = [p for p in weights if p.ndim > 1], [p for p in weights if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    logits = model(batch.tokens[:, :-1])[batch.packing.scored_row, batch.packing.scored_position]
    torch.nn.functional.cross_entropy(logits, batch.targets).backward()
    optimizer.step()
    run(state, optim=optim, config=config)
    for name, parameter in model.named_parameters():
        if name in state.params:
            torch.testing.assert_close(state.params[name], parameter, atol=1e-4, rtol=1e-4)


def test_the_loss_weighs_rows():
    batch = TrainingStream(DATA, 0).batch(1, torch.Generator().manual_seed(0))
    params = begin().params
    logits = forward(Model(params, MODEL), batch.tokens, batch.packing)
    weight = torch.rand(len(batch.weight), generator=torch.Generator().manual_seed(1))
    weighted = type(batch)(batch.tokens, batch.task, weight, batch.packing)
    by_hand = n = 0.0
    for i, (row, target) in enumerate(zip(batch.packing.scored_row.tolist(), batch.targets.tolist(), strict=True)):
        by_hand -= weight[row] * logits[i].log_softmax(-1)[target]
        n += weight[row]
    torch.testing.assert_close(loop.row_loss(logits, weighted), by_hand / n)


def test_noise_enters_the_loss_at_its_scale():
    generator, params = torch.Generator().manual_seed(0), begin().params
    batch = TrainingStream(DATA, 0).batch(1, generator)
    noise = loop.draw_noise(batch.packing, MODEL.d_model, NOISY, generator)
    kept = noise["embed_mask"]
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert float((kept > 0).float().mean()) == pytest.approx(0.9, abs=0.03)
    assert set(noise["position_shift"].tolist()) == {0, 1, 2}
    expected = loop.row_loss(forward(Model(params, MODEL), batch.tokens, batch.packing, **noise), batch)
    torch.testing.assert_close(loop.batch_loss(params, MODEL, batch, noise), expected)
    for name in noise:
        without = {other: value for other, value in noise.items() if other != name}
        assert abs(float(loop.batch_loss(params, MODEL, batch, without) - expected)) > 1e-3, name


def test_frozen_parts_and_dimensions_stay():
    model = ModelConfig(d_model=16, freeze=("blocks.0", "unembed"), n_pos_dims=3)
    state = begin(model)
    before = {name: param.detach().clone() for name, param in state.params.items()}
    run(state, model)
    for name, param in state.params.items():
        frozen = name.startswith(("blocks.0.", "unembed"))
        assert torch.equal(param, before[name]) == frozen, name
    assert not state.params["pos_embed.W_pos"][:, 3:].any()


def test_gradients_are_clipped():
    optim = OptimConfig(optimizer="sgd", lr=1.0, momentum=0.0, n_warmup_steps=0, decay_share=0, max_grad_norm=1e-3)
    state = begin(optim=optim)
    before = {name: param.detach().clone() for name, param in state.params.items()}
    run(state, optim=optim, config=TrainConfig(n_steps=1))
    moved = torch.cat([(state.params[n].detach() - before[n]).flatten() for n in before]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-3)


def test_snapshots_are_at_powers_of_two_then_even():
    assert [s for s in range(51) if is_snapshot(s, n_steps=50, snapshot_every=20)] == [0, 1, 2, 4, 8, 16, 20, 40, 50]


def test_training_learns():
    config = TrainConfig(n_steps=150)
    losses = run(begin(), config=config)
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_run_on_a_gpu_is_resumed_to_the_bit():
    def state():
        generator = torch.Generator("cuda").manual_seed(0)
        return loop.start(init_params(MODEL, len(DATA.vocabulary), 14, generator), MODEL, OptimConfig(), generator)

    def go_on(state, n_steps):
        config = NOISY.model_copy(update={"n_steps": 40})
        for step, _ in loop.train(state, TrainingStream(DATA, 0, "cuda"), MODEL, OptimConfig(), config):
            if step == n_steps:
                break

    with repeating("cuda"):
        whole, cut, resumed = state(), state(), state()
        go_on(whole, 40)
        go_on(cut, 17)
        for name, param in cut.params.items():
            resumed.params[name].data.copy_(param.data)
        resumed.load_tensors(cut.tensors())
        resumed.step = cut.step
        go_on(resumed, 40)
    assert all(torch.equal(param, resumed.params[name]) for name, param in whole.params.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_it_trains_on_a_gpu():
    generator = torch.Generator("cuda").manual_seed(0)
    params = init_params(MODEL, len(DATA.vocabulary), 14, generator)
    state = loop.start(params, MODEL, OptimConfig(), generator)
    stream = TrainingStream(DATA, 0, "cuda")
    losses = [loss for _, loss in loop.train(state, stream, MODEL, OptimConfig(), TrainConfig(n_steps=150))]
    assert all(loss.is_cuda for loss in losses)
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_as_many_labels_are_replaced_as_asked_by_any_value():
    stream = TrainingStream(DATA, 0)
    packing, generator = stream.batch(1, torch.Generator().manual_seed(0)).packing, torch.Generator().manual_seed(1)
    drawn = torch.stack([loop.draw_labels(packing, 2, 0.25, generator) for _ in range(200)])
    n = drawn.numel()
    assert abs((drawn >= 0).double().mean() - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5
    replaced = drawn[drawn >= 0]
    assert set(replaced.tolist()) == {0, 1}
    assert abs(replaced.double().mean() - 0.5) < 4 * 0.5 / len(replaced) ** 0.5


def test_a_replaced_label_is_learnt_in_place_of_the_right_one_and_not_read():
    state, stream = begin(), TrainingStream(DATA, 0)
    batch = stream.batch(1, state.generator)
    logits = torch.randn(len(batch.targets), len(DATA.vocabulary), generator=torch.Generator().manual_seed(2))
    label = torch.full_like(batch.targets, -1)
    assert torch.equal(loop.row_loss(logits, batch, label), loop.row_loss(logits, batch))
    label[3] = (batch.targets[3] + 1) % 2
    weight = batch.weight[batch.packing.scored_row]
    moved = logits.log_softmax(-1)[3, batch.targets[3]] - logits.log_softmax(-1)[3, label[3]]
    expected = loop.row_loss(logits, batch) + moved * weight[3] / weight.sum()
    torch.testing.assert_close(loop.row_loss(logits, batch, label), expected)


def test_without_label_noise_nothing_more_is_drawn():
    losses = {noise: run(begin(), config=NOISY.model_copy(update={"label_noise": noise})) for noise in (0.0, 0.5)}
    assert losses[0.0] == run(begin()) != losses[0.5]
