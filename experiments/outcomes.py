"""Parity alone: how often does it end in a textbook head, and how early is that decided?

python experiments/outcomes.py --device cuda --out figures/results/outcomes.csv    600 seeds, under two minutes
python experiments/outcomes.py --n-seeds 4 --n-steps 100                           anywhere
"""

from compo_mech.cli.command import call
from compo_mech.studies.outcomes import outcomes

if __name__ == "__main__":
    call(outcomes, description=__doc__)
