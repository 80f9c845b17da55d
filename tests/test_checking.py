"""Annotations are checked in every other test; here, that the checks are there."""

from collections.abc import Callable

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from checking import check_anew, has_arrays
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from compo_mech.circuits.accuracy import PairAccuracy
from compo_mech.circuits.completeness import CircuitVerdict
from compo_mech.circuits.selection import node_name
from compo_mech.interventions.graph import Reader, embeddings
from compo_mech.model.blocks import token_embedding
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model


def test_arrays_are_found_inside_other_annotations():
    array = Float[Tensor, "a b"]
    for annotation in (array, array | None, dict[str, array], Callable[[array], int], Callable[[int], array], "Model"):
        assert has_arrays(annotation), annotation
    for annotation in (int, Tensor, dict[str, Tensor], Callable[..., int], None, tuple[int, ...], str | None):
        assert not has_arrays(annotation), annotation


def test_types_and_shapes_are_checked():
    with pytest.raises(BeartypeCallHintViolation):
        node_name("m0")
    with pytest.raises(BeartypeCallHintViolation):
        CircuitVerdict(PairAccuracy(1.0, None), 1, None, None, None)
    model = Model({}, ModelConfig())
    with pytest.raises(TypeCheckError):
        token_embedding(model, torch.zeros(2, 3))
    with pytest.raises(TypeCheckError):
        embeddings(model, torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.int64))
    assert node_name(Reader("mlp", 0)) == "m0"


def test_the_first_call_of_every_test_is_checked():
    model = Model({"embed.W_E": torch.eye(3)}, ModelConfig())
    right, wrong = torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, dtype=torch.float32)
    token_embedding(model, right)
    with pytest.raises(RuntimeError):  # torch's own complaint
        token_embedding(model, wrong)
    check_anew()
    with pytest.raises(TypeCheckError):
        token_embedding(model, wrong)
