"""Both probes on many runs, with their controls: the table of what MLP 0 and MLP 1 do over seeds.

python probes/over_runs.py runs/parity-seed0 runs/parity-seed1 --out figures/results/mechanism.csv

Runs that cannot be analysed get a row that says why.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import over_runs_command

if __name__ == "__main__":
    call(over_runs_command, description=__doc__)
