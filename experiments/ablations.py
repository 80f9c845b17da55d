"""What do batch size, optimiser, learning rate and fresh data change? Is attention sparser for any?

python experiments/ablations.py --n-workers 2
"""

from compo_mech.studies import ablations, study

if __name__ == "__main__":
    study.main(ablations.STUDY)
