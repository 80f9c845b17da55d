import pytest
import torch
from helpers import generator
from other_device import DEVICE, OtherDevice, moved

from compo_mech.model.config import ModelConfig
from compo_mech.model.params import init_params
from compo_mech.training.optim import Muon, OptimConfig, is_matrix, make_optimizers, orthogonalized, step_each
from compo_mech.training.schedule import learning_rate


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16)])
def test_muon_is_torchs_muon_up_to_bfloat16(shape):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimizers = [
        Muon([ours], lr=0.01, momentum=0.9, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(5):
        grad = torch.randn(shape, generator=generator)
        for param, optimizer in zip((ours, theirs), optimizers, strict=True):
            param.grad = grad.clone()
            optimizer.step()
    distance = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * distance


def test_rates_of_members_may_lie_on_another_device_than_parameters():
    """By hand: SGD takes the gradient times the rate, and a matrix shrinks by rate times decay."""
    params = moved({"blocks.0.mlp.W_in": torch.ones(2, 3, 4), "blocks.0.mlp.b_in": torch.ones(2, 4)})
    for param in params.values():
        param.requires_grad_()
    with OtherDevice():
        for param in params.values():
            param.grad = torch.full_like(param, 2.0)
        optimizer = torch.optim.SGD(params.values(), lr=1.0, foreach=False)
        decay = torch.tensor([0.0, 0.5]).to(DEVICE)
        step_each(params, [optimizer], torch.tensor([0.1, 0.01]), decay)
        found = {name: param.detach().cpu() for name, param in params.items()}
    for name, values in (("blocks.0.mlp.W_in", (0.8, 0.975)), ("blocks.0.mlp.b_in", (0.8, 0.98))):
        for own, value in zip(found[name], values, strict=True):
            torch.testing.assert_close(own, torch.full_like(own, value))


def test_a_stack_is_updated_matrix_by_matrix():
    generator = torch.Generator().manual_seed(0)
    stacked = torch.randn(3, 2, 8, 12, generator=generator)
    grads = torch.randn(3, 2, 8, 12, generator=generator)
    together = stacked.clone().requires_grad_()
    together.grad = grads
    Muon([together], lr=0.1).step()
    for i in range(3):
        for j in range(2):
            alone = stacked[i, j].clone().requires_grad_()
            alone.grad = grads[i, j]
            Muon([alone], lr=0.1).step()
            torch.testing.assert_close(together[i, j], alone)


def test_orthogonalisation_keeps_the_singular_vectors_and_evens_the_values():
    matrix = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    for m, left, right in ((matrix, u, v), (matrix.T, v.T, u.T)):
        core = left.T @ orthogonalized([m])[0] @ right.T
        values = core.diagonal()
        assert ((values > 0.5) & (values < 1.4)).all()
        torch.testing.assert_close(core - values.diag(), torch.zeros_like(core), atol=1e-5, rtol=0)


def step_by_step(x):
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("columns", [8, 15, 16, 32])
@pytest.mark.parametrize("values", [torch.ones(8), torch.logspace(0, -7, 8), torch.arange(8) == 3, torch.zeros(8)])
def test_matrices_are_orthogonalised_as_step_by_step(columns, values):
    """Well and badly conditioned, of rank 1, and 0: in float32 fifty times as exactly as by torch's bfloat16."""
    u, _, v = torch.linalg.svd(torch.randn(3, 8, columns, generator=generator(), dtype=torch.float64), False)
    matrices = u * values.double() @ v
    truth = step_by_step(matrices)
    rounded = (step_by_step(matrices.bfloat16()) - truth).abs().max()
    for m, expected in ((matrices, truth), (matrices.mT, truth.mT)):
        torch.testing.assert_close(orthogonalized([m])[0], expected, atol=1e-9, rtol=0)
        assert (orthogonalized([m.float()])[0] - expected).abs().max() <= rounded / 50


def test_matrices_of_all_shapes_are_orthogonalised_each_by_itself():
    shapes = [(2, 8, 8), (2, 8, 32), (32, 8), (8, 8), (4, 6), (4, 8), (8, 32), (2, 8, 8)]
    matrices = [torch.randn(shape, generator=generator(i), dtype=torch.float64) for i, shape in enumerate(shapes)]
    for matrix, found in zip(matrices, orthogonalized(matrices), strict=True):
        is_tall = matrix.shape[-2] > matrix.shape[-1]
        expected = step_by_step(matrix.mT).mT if is_tall else step_by_step(matrix)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest():
    options = {"n_heads": 2, "n_key_value_heads": 1, "gated_mlp": True, "use_qk_norm": True, "biases": True}
    model = ModelConfig(d_model=8, freeze=("blocks.0.mlp", "unembed.W_U"), **options)
    params = init_params(model, 5, 6, torch.Generator().manual_seed(0))
    muon, adamw = make_optimizers(OptimConfig(weight_decay=0.1), model, params)
    names = {id(p): n for n, p in params.items()}
    on_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    decayed, free = ({names[id(p)] for p in group["params"]} for group in adamw.param_groups)
    assert on_muon == {n for n in params if n.startswith("blocks") and ".W_" in n and not n.startswith("blocks.0.mlp")}
    assert decayed == {"embed.W_E", "pos_embed.W_pos"}
    assert all(not is_matrix(name) for name in free)
    assert adamw.param_groups[1]["weight_decay"] == 0
    frozen = {n for n, p in params.items() if not p.requires_grad}
    assert frozen == {"unembed.W_U", *(f"blocks.0.mlp.{n}" for n in ("W_gate", "W_in", "b_in", "W_out", "b_out"))}
    assert on_muon | decayed | free | frozen == set(params)


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    config = OptimConfig(lr=1.0, n_warmup_steps=10, decay_share=0.5)
    factors = [learning_rate(config, step, 100) for step in range(1, 101)]
    assert factors[4] == 0.5
    assert factors[9:50] == [1.0] * 41
    assert factors[50] == 1.0
    assert factors[75] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.02)
    flat = OptimConfig(lr=0.5, n_warmup_steps=0, decay_share=0.0)
    assert {learning_rate(flat, step, 100) for step in range(1, 101)} == {0.5}


@pytest.mark.parametrize(
    ("optimizer", "kind", "settings"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.95}),
        ("adam", torch.optim.Adam, {"fused": True}),
        ("adamw", torch.optim.AdamW, {"fused": True, "weight_decay": 0.0}),
    ],
)
def test_a_step_is_that_of_torchs_own_to_the_bit(optimizer, kind, settings):
    model = ModelConfig(d_model=8, n_layers=1)
    params, same = (init_params(model, 5, 6, generator(0)) for _ in range(2))
    (ours,) = make_optimizers(OptimConfig(optimizer=optimizer), model, params)
    theirs = kind([param.requires_grad_() for param in same.values()], lr=ours.param_groups[0]["lr"], **settings)
    for seed in range(3):
        for of in (params, same):
            draws = generator(seed)
            for param in of.values():
                param.grad = torch.randn(param.shape, generator=draws)
        ours.step()
        theirs.step()
    assert isinstance(ours, kind)
    assert all(torch.equal(params[name], same[name]) for name in params)
    assert all(param.requires_grad and param.is_leaf for param in params.values())
