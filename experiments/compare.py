"""Several runs on one page: the settings in which they differ, results, curves in one figure, attention.

python experiments/compare.py runs/parity-seed0 runs/parity-seed1 --out compare.html
"""

from compo_mech.cli.command import call
from compo_mech.cli.compare import compare_command

if __name__ == "__main__":
    call(compare_command, description=__doc__)
