"""Which source code a function's figures depend on: the files that its module's imports reach."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "compo_mech"


@functools.cache
def source_checksum(module: str) -> str:
    """Return the SHA-256 of a module's source and that of all modules of this package that its imports reach.

    Args:
        module: dotted name, of this package or not.

    Raises:
        ValueError: the module has no source file.
    """
    found: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = _file(name)
        if file is None:
            if name == module:
                raise ValueError(f"module = {module}: has no source file")
            continue  # a name that a module holds, and no module
        found[name] = file.read_bytes()
        waiting += _imported(found[name])
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + found[name])
    return digest.hexdigest()


def _imported(source: bytes) -> Iterator[str]:
    """Names of this package that may be modules, wherever they are imported.

    The packages around a module are not among them: their `__init__` only lists names, and would reach every file.
    """
    for module, name in _import_lines(source):
        full = f"{module}.{name}" if module else name
        if full.split(".")[0] == PACKAGE:
            yield full if not module or _file(full) else module


@functools.cache  # most files are reached from many modules
def _import_lines(source: bytes) -> list[tuple[str, str]]:
    """What a source imports, wherever it does: `from module import name`, or `import name` with no module."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [("", alias.name) for alias in node.names]
    return found


def _file(module: str) -> Path | None:
    words = module.split(".")
    if words[0] == PACKAGE:
        stem = Path(__file__).parents[1].joinpath(*words[1:])
        return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
