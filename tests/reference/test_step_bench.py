"""What the bench of a training step counts; its times are nobody's to assert."""

import io

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from compo_mech.reference.libraries import ways_of_others
from compo_mech.reference.step_bench import bench_steps, operations_of


def test_fused_attention_is_counted_as_the_products_that_it_does():
    q, k, v = (torch.ones(2, 1, 5, 8, requires_grad=True) for _ in range(3))
    plain, fused = lambda: (q @ k.mT).softmax(-1) @ v, lambda: F.scaled_dot_product_attention(q, k, v)
    assert operations_of(fused) == operations_of(plain) == 2 * 2 * 2 * 5 * 5 * 8


def test_a_step_does_less_than_half_of_what_padded_networks_do_which_do_the_same():
    console = Console(width=120, record=True, file=io.StringIO())
    bench_steps("cpu", 1, console)
    lines = [line for line in console.export_text().splitlines() if line.count("│") > 5]
    ours, *others = (float(line.split("│")[4]) for line in lines)
    assert len(others) == 2 * len(ways_of_others())
    assert others == pytest.approx([others[0]] * len(others), rel=0.01)
    assert 0.3 * others[0] < ours < 0.5 * others[0]
