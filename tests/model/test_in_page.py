"""Weights for a page: what is rounded, in which order it is written, and what is refused."""

import struct

import pytest
import torch
from architectures import N_CTX, random_config, random_network

from compo_mech.model.config import ModelConfig
from compo_mech.model.in_page import described, halved, packed


def test_weights_are_written_network_by_network_in_the_order_of_the_description():
    config = random_config(3)
    networks = {step: halved(random_network(config, seed=step).params) for step in (0, 1)}
    written = packed(networks.values())
    values = torch.tensor(struct.unpack(f"<{len(written) // 2}e", written))
    shapes = described(config, networks[0])["shapes"]
    assert isinstance(shapes, list)
    for params in networks.values():
        for name, shape in shapes:
            n = torch.Size(shape).numel()
            assert torch.equal(values[:n].view(shape), params[name])
            values = values[n:]
    assert not len(values)


def test_rounded_weights_stay_as_they_are_when_rounded_again_and_keep_their_dtype():
    params = random_network(random_config(0), 0, torch.float64).params
    once = halved(params)
    assert all(torch.equal(once[name], halved(once)[name]) for name in params)
    assert all(once[name].dtype == torch.float64 for name in params)
    assert all(torch.allclose(once[name], params[name], rtol=2**-11, atol=2**-25) for name in params)


def test_what_a_page_cannot_hold_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^weight embed.W_E = 7e\+04: must be at most 65504 to be put into a page$"):
        halved({"embed.W_E": torch.tensor([[1.0, -70000.0]])})
    both_ways = ModelConfig(attention_dir="bidirectional", n_ctx=N_CTX)
    with pytest.raises(ValueError, match=r"^attention_dir = bidirectional: must be causal to be"):
        described(both_ways, {})
