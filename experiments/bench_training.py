"""Training speed: (a) a step against HookedTransformer's and plain PyTorch's; (b) time to an iteration head.

python experiments/bench_training.py                 both, about half an hour
python experiments/bench_training.py --parts steps   (a) alone, about a minute
"""

from compo_mech.cli.command import call
from compo_mech.reference.training_bench import training_bench

if __name__ == "__main__":
    call(training_bench, description=__doc__)
