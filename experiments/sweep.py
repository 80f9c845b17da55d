"""Train a grid of settings, many seeds each: in this process, in several, or on Slurm; only what is missing.

python experiments/sweep.py parity model.d_model=32,64 optim.lr=1e-3,3e-3 --n-seeds 5
python experiments/sweep.py parity model.d_model=32,64 --n-seeds 5 --on slurm --slurm.timeout-min 30
"""

from compo_mech.cli.command import call
from compo_mech.launch.sweep_command import sweep_command

if __name__ == "__main__":
    call(sweep_command, description=__doc__)
