"""Pieces of a long analysis on disk: whoever presses Ctrl-C loses one of them, and a bar shows the time left."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.progress import Progress, TaskID

from compo_mech.analyses.pieces import tensors_checksum
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.params import Model
from compo_mech.runs.files import read_plain, write_whole
from compo_mech.runs.source import source_checksum

Value = TypeVar("Value")


class KeptPieces:
    """Keeps each piece as a file that says its name and its checksum; a damaged one is computed anew.

    Args:
        folder: of the pieces, of one network, pairs and settings.
        bar: that shows how far the analysis is.
    """

    def __init__(self, folder: Path, bar: Progress) -> None:
        self.folder, self.bar = folder, bar
        self.n_known = 0
        self._part: TaskID | None = None

    def part(self, what: str, n_pieces: int) -> None:
        if self._part is not None:
            self.bar.remove_task(self._part)
        self._part = self.bar.add_task(what, total=n_pieces)

    def piece(self, name: str, compute: Callable[[], Value]) -> Value:
        file = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
        known = _read(file, name)
        if known is None:
            value = compute()
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"name": name, "value": value})
            write_whole(file, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")
        else:
            value, self.n_known = known["value"], self.n_known + 1
        if self._part is not None:
            self.bar.advance(self._part)
        return value


def _read(file: Path, name: str) -> dict | None:
    """What a piece's file holds; None: there is none, or it is damaged."""
    try:
        checksum, _, text = read_plain(file).decode().rstrip("\n").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if checksum != hashlib.sha256(text.encode()).hexdigest():
        return None
    found = json.loads(text)
    return found if found["name"] == name else None


def key_of(model: Model, pairs: Pairs, settings: object, code: str) -> str:
    """Return what pieces are kept under: it is another for another network, other pairs, settings or source code."""
    plain = (model.config, settings, pairs.layout, pairs.corrupt_kind, source_checksum(code))
    sums = tensors_checksum(model.params), tensors_checksum(pairs.tensors)
    return hashlib.sha256(repr((*plain, *sums)).encode()).hexdigest()[:16]
