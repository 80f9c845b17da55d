"""What multiplies matrices in training and watching is as exact as float32 allows, and is put back."""

import contextlib

import pytest
import torch
from helpers import generator
from rich.console import Console

from compo_mech import products
from compo_mech.data.stream import TrainingStream
from compo_mech.launch.ensemble import new_members
from compo_mech.launch.run import launch, new_state
from compo_mech.launch.settings import Launch
from compo_mech.model.blocks import ROWS_AT_ONCE
from compo_mech.model.params import Model
from compo_mech.runs import trajectory
from compo_mech.settings import changed
from compo_mech.training import loop


@pytest.fixture(autouse=True)
def anew():
    """Whether oneDNN is faster is asked again, in the test and after it."""
    products.is_onednn_faster.cache_clear()
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    yield
    products.is_onednn_faster.cache_clear()
    torch.backends.mkldnn.matmul.fp32_precision = "none"


def setting():
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((952, 64), (64, 256)),
        ((64, 952), (952, 256)),
        ((5, 952, 64), (5, 64, 256)),
        ((64, 2, 26, 32), (64, 2, 32, 26)),
        ((12, 64, 64), (12, 64, 64)),
        ((3, 7), (7, 1)),
    ],
)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_products_are_those_of_float32(left, right, transposed):
    """Against float64: an error of n roundings at most, where bfloat16 would make one of 2 ** 16 roundings."""
    one, other = (torch.randn(shape, generator=generator(i)) for i, shape in enumerate((left, right)))
    one, other = (m.mT.contiguous().mT if t else m for m, t in zip((one, other), transposed, strict=True))
    allowed = left[-1] * torch.finfo(torch.float32).eps * (one.double().abs() @ other.double().abs())
    truth = one.double() @ other.double()
    with products.fast_products():
        assert ((one @ other).double() - truth).abs().le(allowed).all()
    rounded = (one.bfloat16().float() @ other.bfloat16().float()).double()
    assert (rounded - truth).abs().gt(allowed).any()


def test_gradients_and_stacks_are_multiplied_as_exactly():
    """Sums of one term are that term, 24 bits long: by hand, and through autograd and vmap."""
    exact = torch.randint(2**23, 2**24, (4, 128, 64), generator=generator()).float()
    ones = torch.eye(64).expand(4, 64, 64).clone().requires_grad_()
    with products.fast_products():
        product = torch.func.vmap(torch.matmul)(exact, ones)
        (grad,) = torch.autograd.grad(product, ones, torch.eye(128, 64).expand(4, 128, 64))
    assert torch.equal(product.detach(), exact)
    assert torch.equal(grad, exact[:, :64].mT)


def test_the_setting_is_put_back(monkeypatch):
    monkeypatch.setattr(products, "is_onednn_faster", lambda: True)
    with products.fast_products():
        assert setting() == "bf16"
        with products.fast_products(products.LARGE - 1):
            assert setting() == "ieee"
        assert setting() == "bf16"
    assert setting() == "none"
    with pytest.raises(ZeroDivisionError, match="bf16"), products.fast_products(products.LARGE):
        raise ZeroDivisionError(setting())
    assert setting() == "none"
    assert torch.get_float32_matmul_precision() == "highest"  # which raises where settings contradict each other


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(products, "_is_amd", lambda: False),
        lambda patch: patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True),
        lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2"),
        lambda patch: patch.setattr(torch.backends.mkl, "is_available", lambda: False),
        lambda patch: patch.setattr(products, "_is_exact", lambda: False),
    ],
    ids=["not AMD", "AMX", "no AVX-512", "no MKL", "rounds"],
)
def test_other_processors_are_left_to_torch(change, monkeypatch):
    monkeypatch.setattr(products, "_is_amd", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(products, "_is_exact", lambda: True)
    assert products.is_onednn_faster()
    products.is_onednn_faster.cache_clear()
    change(monkeypatch)
    with products.fast_products():
        assert setting() == "ieee"


def tf32(x):
    """Cut to the ten bits of TF32's mantissa."""
    return (x.view(torch.int32) & -(2**13)).view(torch.float32)


@pytest.mark.parametrize(
    ("kept", "is_exact"), [(lambda x: x, True), (tf32, False), (lambda x: x.bfloat16().float(), False)]
)
def test_products_of_rounded_factors_are_found_out(kept, is_exact, monkeypatch):
    in_double = torch.Tensor.matmul
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: in_double(kept(a).double(), kept(b).double()).float())
    assert products._is_exact() == is_exact
    assert setting() == "none"


def test_steps_and_measures_of_checkpoints_say_how_large_their_products_are(tiny, monkeypatch):
    """By hand: 16 rows of 6 tokens, a stream of 16, an MLP of 64 neurons; of three networks; and of a measure."""
    asked, inside = [], []

    @contextlib.contextmanager
    def fast(n_operations):
        asked.append(n_operations)
        inside.append(True)
        yield
        inside.pop()

    def step(*given):
        assert inside
        return torch.tensor(0.0)

    monkeypatch.setattr(loop, "fast_products", fast)
    monkeypatch.setattr(loop, "train_step", step)
    monkeypatch.setattr(trajectory, "fast_products", fast)
    config = changed(tiny, {"data.min_length": 2, "data.max_length": 2})
    assert (config.data.batch_size, config.model.d_model, config.model.mlp_width) == (16, 16, 64)
    for n in (1, 3):
        members = new_members(config, range(n), "cpu") if n > 1 else new_state(config, "cpu")
        stream = TrainingStream(config.data, range(n) if n > 1 else 0)
        next(loop.train(members, stream, config.model, config.optim, config.train))
    model = Model(new_state(config, "cpu").params, config.model)
    seen = []
    assert trajectory.answers(lambda network: seen.extend(inside) or [], model) == []
    assert seen == [True]
    assert asked == [2 * 16 * 6 * 16 * 64, 2 * 3 * 16 * 6 * 16 * 64, 2 * ROWS_AT_ONCE * 16 * 64]


@pytest.mark.parametrize("large", [0, float("inf")])
def test_a_run_has_the_same_bits_whatever_the_process_multiplied_by_before(large, tiny, tmp_path, monkeypatch):
    """A notebook and a command train the same network, and go on with each other's."""
    monkeypatch.setattr(products, "LARGE", large)
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    weights = []
    for before in ("none", "bf16"):
        torch.backends.mkldnn.matmul.fp32_precision = before
        run = launch(Launch(**settings, runs_dir=tmp_path, name=before), Console(quiet=True))
        assert setting() == before
        weights.append(run.params())
    one, other = weights
    assert all(torch.equal(one[name], other[name]) for name in one)
