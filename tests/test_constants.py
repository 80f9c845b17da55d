"""What stands in the code as a number or a promise, and is changed on purpose alone.

Thresholds of verdicts, sizes of samples and steps of searches decide what FINDINGS says: whoever changes one writes it
into constants.json (`python tests/test_constants.py`) and what became of the findings into LOG.md.
"""

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from compo_mech.runs import recipes
from compo_mech.settings import Settings

ROOT = Path(__file__).parents[1] / "compo_mech"
KNOWN = Path(__file__).with_name("constants.json")
PACKAGES = (
    *("analyses", "causal", "circuits", "data", "evaluation", "ground_truth", "interventions", "model", "probing"),
    *("routes", "runs", "stats", "studies", "training", "weights"),
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).glob("*.py")):
            yield f"{package}.{file.stem}", ast.parse(file.read_text(encoding="utf-8"))


def number(expression: ast.expr) -> float | None:
    """The value of an expression of numbers alone."""
    if not all(
        isinstance(part, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop)
        for part in ast.walk(expression)
    ):
        return None
    value = eval(compile(ast.Expression(expression), "constant", "eval"))
    return value if type(value) in (int, float) else None


def constants() -> dict[str, float]:
    found = {}
    for module, tree in modules():
        for line in tree.body:
            if not isinstance(line, ast.Assign) or len(line.targets) != 1:
                continue
            names, values = (
                part.elts if isinstance(part, ast.Tuple) else [part] for part in (line.targets[0], line.value)
            )
            for name, value in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and name.id.isupper() and (own := number(value)) is not None:
                    found[f"{module}.{name.id}"] = own
    return found


RECIPES = (recipes.parity, recipes.parity_alone, recipes.copy, recipes.polynomial, recipes.automaton, recipes.grokking,
           recipes.reference)  # fmt: skip


def settings(base: type[Settings] = Settings) -> set[type[Settings]]:
    """Every class of settings that a module holds."""
    found = {one for own in base.__subclasses__() for one in {own, *settings(own)}}
    return {one for one in found if getattr(sys.modules[one.__module__], one.__name__, None) is one}


def defaults() -> dict[str, Any]:
    for module, _ in modules():
        importlib.import_module(f"compo_mech.{module}")
    return {
        f"{one.__module__.removeprefix('compo_mech.')}.{one.__name__}.{name}": to_jsonable_python(field.get_default())
        for one in settings()
        if one.__module__.removeprefix("compo_mech.").split(".")[0] in PACKAGES
        for name, field in one.model_fields.items()
        if not field.is_required() and field.default_factory is None
    }


def known() -> dict[str, Any]:
    return {
        "numbers": constants(),
        "defaults": defaults(),
        "recipes": {recipe.__name__: recipe().model_dump(mode="json") for recipe in RECIPES},
    }


def test_numbers_and_recipes_that_findings_rest_on_are_what_they_were():
    assert known() == json.loads(KNOWN.read_text(encoding="utf-8"))


if __name__ == "__main__":
    KNOWN.write_text(json.dumps(known(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
