"""A copy of the code as it was when jobs were submitted."""

import hashlib
import json
import shutil
from pathlib import Path

from compo_mech.runs.environment import GIT_FILE, git_state
from compo_mech.runs.folder import building_place


def snapshot(folder: Path) -> Path:
    """A copy of the package as it is now.

    Args:
        folder: to hold it, in `.code` under the hash of its contents. An equal copy is used again.
    """
    root = Path(__file__).parents[2]
    files = {
        str(file.relative_to(root)): file.read_bytes()
        for file in sorted((root / "compo_mech").rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    target = folder / ".code" / digest.hexdigest()[:16]
    if not target.exists():
        part = building_place(target)  # renamed, so that it is there whole or not
        for name, content in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
        (part / GIT_FILE).write_text(json.dumps(git_state()), encoding="utf-8")
        try:
            part.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(part)  # another process copied the same meanwhile
    return target
