"""What is no number is refused, however it adds up."""

import pytest
import torch

from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import NotFinite, check_finite, check_weights
from compo_mech.model.params import Model, init_params

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("bad", [(NAN, 1.0), (INF, 1.0), (INF, -INF), (-INF, 3e38), (NAN, 3e38, 3e38)])
def test_what_is_no_number_is_refused(bad):
    n_bad = sum(value in (INF, -INF) or value != value for value in bad)
    with pytest.raises(NotFinite, match=rf"^values = .*: must be finite, {n_bad} of {len(bad)} are not$"):
        check_finite("values", torch.tensor(bad))


@pytest.mark.parametrize("good", [(), (3e38, 3e38), (-3e38, -3e38), (1, 2)])
def test_numbers_whose_sum_overflows_are_numbers(good):
    check_finite("values", torch.tensor(good))


def test_weights_whose_sum_overflows_are_looked_at_one_by_one():
    config = ModelConfig(d_model=8)
    params = init_params(config, 6, 9, torch.Generator().manual_seed(0))
    params["ln_final.w"][:] = 3e38
    check_weights(Model(params, config))
    for value in (torch.nan, torch.inf, -torch.inf):
        params["embed.W_E"][0, 0] = value
        with pytest.raises(NotFinite, match=r"^weight embed\.W_E = -?(nan|inf): must be finite, 1 of 48 are not$"):
            check_weights(Model(params, config))
