"""Both probes on many runs, with their controls: the table of what MLP 0 and MLP 1 do over seeds.

python probes/over_runs.py figures/results/mechanism.csv runs/parity-seed0 runs/parity-seed1

Runs that cannot be analysed get a row that says why.
"""

import tyro

from compo_mech.cli.analyse import over_runs_main

if __name__ == "__main__":
    tyro.cli(over_runs_main, description=__doc__)
