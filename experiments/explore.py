"""A page to explore a run with, offline: type a string, move through training, switch heads off.

python experiments/explore.py runs/parity-seed0 --out explore.html

The run's networks are in the page and run in the browser: predictions, attention, routes and ablations of any string.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import explore_command

if __name__ == "__main__":
    call(explore_command, description=__doc__)
