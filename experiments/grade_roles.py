"""Name the heads and MLPs of networks whose truth is known, and count what is said by what is true.

python experiments/grade_roles.py

The table, figures/results/named_roles.csv, has a row for each kind of network, question, true and said role. It takes
about five minutes on one core.
"""

from compo_mech.cli.command import call
from compo_mech.cli.grade_roles import grade_roles

if __name__ == "__main__":
    call(grade_roles, description=__doc__)
