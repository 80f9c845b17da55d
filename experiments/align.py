"""Where a trained network holds the algorithm's variables t, x_t, s_{t-1} and s_t, each figure with its controls.

python experiments/align.py runs/parity-seed0
python experiments/align.py runs/parity-seed0 --all-steps

Writes tables into RUN/analysis/ and adds a section to RUN/report.html.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import align_command

if __name__ == "__main__":
    call(align_command, description=__doc__)
