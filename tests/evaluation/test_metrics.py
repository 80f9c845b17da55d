import math

import pytest
import torch

from compo_mech.evaluation import accuracy
from compo_mech.stats import onset

LOGITS = torch.log(torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.5, 0.3], [0.3, 0.3, 0.4]]]))
TARGETS = torch.tensor([[0, 1], [0, 2]])


def test_accuracy_and_loss_by_hand():
    assert accuracy.token_accuracy(LOGITS, TARGETS) == 0.75
    assert accuracy.strings_right(LOGITS.argmax(-1), TARGETS).tolist() == [True, False]
    assert accuracy.share(torch.tensor([True, False])) == 0.5
    expected = -sum(map(math.log, (0.7, 0.8, 0.2, 0.4))) / 4
    assert accuracy.mean_loss(LOGITS, TARGETS) == pytest.approx(expected)


def test_grammar_is_values_then_one_end():
    end = 5
    written = torch.tensor([[0, 1, end], [0, end, end], [0, 1, 1], [4, 1, end], [end, end, end]])
    assert accuracy.grammatical(written, 2, end).tolist() == [True, False, False, False, False]


def test_reached_is_where_a_curve_stays_up():
    steps = [0, 1, 2, 4, 8]
    assert onset.reached(steps, [0.0, 0.95, 0.5, 0.9, 1.0], 0.9) == 4
    assert onset.reached(steps, [1.0] * 5, 0.9) == 0
    assert onset.reached(steps, [1.0, 1.0, 1.0, 1.0, 0.0], 0.9) is None
    assert onset.reached([], [], 0.9) is None
