"""Speed of the head-by-position patching sweep against TransformerLens' stock loop, interleaved.

python experiments/bench_patching.py
"""

from compo_mech.cli.command import call
from compo_mech.reference.patching_bench import patching_bench

if __name__ == "__main__":
    call(patching_bench, description=__doc__)
