"""Every package from data to ground_truth lists its public names, and they explain themselves."""

import inspect
from importlib import import_module

import pytest

PACKAGES = (
    *("data", "model", "training", "evaluation", "stats", "runs", "interventions", "circuits", "routes", "causal"),
    *("weights", "ground_truth", "pretrained"),
)
WITH_EXAMPLES = ("data", "model", "interventions", "circuits", "ground_truth")
WITHOUT = {
    *("to_hooked", "to_bridge", "from_bridge", "hook_to_edit"),  # TransformerLens takes seconds to import
    "method_card",  # minutes
}


def public(package):
    module = import_module(f"compo_mech.{package}")
    return {name: getattr(module, name) for name in module.__all__}


def own(package):
    """Return the functions, classes and modules of a package: constants and types have no docstrings of their own."""
    return {
        name: found
        for name, found in public(package).items()
        if inspect.isroutine(found) or inspect.ismodule(found) or (inspect.isclass(found) and "[" not in repr(found))
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_once_and_has_a_docstring(package):
    names = import_module(f"compo_mech.{package}").__all__
    assert len(set(names)) == len(names)
    for name, found in own(package).items():
        assert inspect.getdoc(found), name
        home = found.__name__ if inspect.ismodule(found) else found.__module__
        assert home.startswith(f"compo_mech.{package}."), f"{name} is another package's"


@pytest.mark.parametrize("package", WITH_EXAMPLES)
def test_every_public_function_and_class_has_an_example(package):
    without = {
        name
        for name, found in own(package).items()
        if not inspect.ismodule(found) and ">>>" not in (found.__doc__ or "")
    }
    assert not without - WITHOUT
