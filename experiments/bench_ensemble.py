"""Training speed of many seeds at once against one by one, interleaved.

python experiments/bench_ensemble.py                 a minute or two on a CPU
python experiments/bench_ensemble.py --device cuda
"""

from compo_mech.cli.command import call
from compo_mech.reference.ensemble_bench import ensemble_bench

if __name__ == "__main__":
    call(ensemble_bench, description=__doc__)
