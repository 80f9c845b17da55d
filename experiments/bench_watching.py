"""How much faster every measure of every checkpoint is than a loop over HookedTransformers with their caches.

python experiments/bench_watching.py runs/parity-seed0

The loop is what a user would write: load the checkpoint into a HookedTransformer, once for all measures, run with
cache, run with hooks for each thing that is replaced, the strings of a length in one batch. Its prompts are made once;
ours draws them again at each checkpoint. A careful loop caches only what it needs.
"""

from compo_mech.cli.command import call
from compo_mech.reference.watching_bench import watching_bench

if __name__ == "__main__":
    call(watching_bench, description=__doc__)
