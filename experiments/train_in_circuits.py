"""Train given circuits into thirty small networks, and verify each node by interchange and each edge by a patch.

python experiments/train_in_circuits.py --n-workers 2

Five tasks, three algorithms each, two seeds. The weights of those that are accepted and the table of all,
networks.json, lie in tests/data/trained_in, whose README.md says more.
"""

from compo_mech.cli.command import call
from compo_mech.cli.train_in_circuits import train_in_circuits_command

if __name__ == "__main__":
    call(train_in_circuits_command, description=__doc__)
