"""How does MLP 1 make the exclusive or, and how many neurons does it take?

python experiments/state_rule.py --n-workers 2
"""

from dataclasses import replace

from compo_mech.studies import state_rule, study
from probes import studied

if __name__ == "__main__":
    study.main(replace(state_rule.STUDY, measure=studied.update))
