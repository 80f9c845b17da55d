"""In which order do the components of the circuit come over many seeds, and do the maps get cleaner after accuracy?

python experiments/emergence.py train --recipe parity --n-seeds 20       trains with dense checkpoints, then watches
python experiments/emergence.py watch runs/a runs/b --out figures/mine   watches existing runs
python figures/emergence.py figures/results/emergence.csv --out figures/results/emergence.png

A run that was trained or watched before is read; failures are listed and counted.
"""

from compo_mech.cli.command import call_one
from compo_mech.studies.emergence_commands import EMERGENCE

if __name__ == "__main__":
    call_one(EMERGENCE, description=__doc__)
