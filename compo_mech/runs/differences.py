"""In which settings two runs differ."""

from collections.abc import Iterator

from compo_mech.runs.config import RunConfig
from compo_mech.runs.files import identity


def differences(stored: RunConfig, given: RunConfig) -> Iterator[tuple[str, object, object]]:
    """Yield the dotted name of each setting in which they differ, and both its values, as JSON has them."""
    starts = [config.start_from and identity(config.start_from) for config in (stored, given)]
    for name, ours, theirs in _nested(stored.model_dump(mode="json"), given.model_dump(mode="json")):
        if name != "start_from" or starts[0] != starts[1]:  # one folder can be spelled in many ways
            yield name, ours, theirs


def _nested(stored: dict, given: dict, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    for name in stored:
        if isinstance(stored[name], dict):
            yield from _nested(stored[name], given[name], f"{prefix}{name}.")
        elif stored[name] != given[name]:
            yield f"{prefix}{name}", stored[name], given[name]
