"""Find the true edges of every compiled program; see README.md in this folder.

Runs in the project's own environment, after compile_programs.py: python tests/data/tracr/find_edges.py
"""

import json
from pathlib import Path

from compo_mech.ground_truth import read_tracr, tracr_programs, true_edges

HERE = Path(__file__).parent


def main() -> None:
    """Write edges.json."""
    found = {name: sorted(map(str, true_edges(read_tracr(HERE, name)))) for name in tracr_programs(HERE)}
    (HERE / "edges.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
