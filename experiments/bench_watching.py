"""How much faster every measure of every checkpoint is than a loop over HookedTransformers with their caches.

python experiments/bench_watching.py runs/parity-seed0

The loop is what a user would write: load the checkpoint into a HookedTransformer, once for all measures, run with
cache, run with hooks for each thing that is replaced, the strings of a length in one batch. Its prompts are made once;
ours draws them again at each checkpoint. A careful loop caches only what it needs.
"""

from pathlib import Path
from typing import Annotated

import tyro

from compo_mech.cli.errors import one_line_errors
from compo_mech.reference import watching_bench


def main(path: Annotated[Path, tyro.conf.Positional], n_checkpoints: int = 12) -> None:
    """Compare on checkpoints spread over RUN; then time everything over all of them."""
    with one_line_errors():
        watching_bench.main(path, n_checkpoints)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
