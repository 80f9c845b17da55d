"""Grade every edge scorer on every family of networks whose circuit is known: one table and one page.

python experiments/grade_methods.py --n-workers 2

The table, compo_mech/ground_truth/method_card.csv, comes with the package, and every dissection tells what it says of
the method used; the page is figures/results/method_card.html. The picture of both is figures/method_card.py.
"""

from compo_mech.cli.command import call
from compo_mech.cli.grade_methods import grade_methods_command

if __name__ == "__main__":
    call(grade_methods_command, description=__doc__)
