"""What is no number is refused, however it adds up."""

import pytest
import torch

from compo_mech.model.finite import NotFinite, check_finite

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("bad", [(NAN, 1.0), (INF, 1.0), (INF, -INF), (-INF, 3e38), (NAN, 3e38, 3e38)])
def test_what_is_no_number_is_refused(bad):
    n_bad = sum(value in (INF, -INF) or value != value for value in bad)
    with pytest.raises(NotFinite, match=rf"^values = .*: must be finite, {n_bad} of {len(bad)} are not$"):
        check_finite("values", torch.tensor(bad))


@pytest.mark.parametrize("good", [(), (3e38, 3e38), (-3e38, -3e38), (1, 2)])
def test_numbers_whose_sum_overflows_are_numbers(good):
    check_finite("values", torch.tensor(good))
