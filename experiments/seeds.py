"""Train one recipe with many seeds and print a table, failures included.

python experiments/seeds.py parity --n-seeds 10
"""

from compo_mech.cli.command import call
from compo_mech.studies.seeds import seeds_command

if __name__ == "__main__":
    call(seeds_command, description=__doc__)
