"""Dissect trained runs: heads, patching, ablation, edges, circuit, faithfulness and routes, each with its control.

python experiments/dissect.py runs/parity-seed0
python experiments/dissect.py runs/parity-seed0 runs/parity-seed1 --step 600

Writes tables and the circuit into RUN/analysis/ and adds a section to RUN/report.html; of several runs, a table says
what was found in each, and how alike their circuits are.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import dissect_command

if __name__ == "__main__":
    call(dissect_command, description=__doc__)
