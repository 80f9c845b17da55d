"""How does MLP 1 make the exclusive or, and how many neurons does it take?

python experiments/state_rule.py --n-workers 2
"""

from compo_mech.studies import state_rule, study

if __name__ == "__main__":
    study.main(state_rule.STUDY)
