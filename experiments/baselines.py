"""What is lost without a chain of thought, and with one layer?

python experiments/baselines.py --n-workers 2
"""

from compo_mech.studies import baselines, study

if __name__ == "__main__":
    study.main(baselines.STUDY)
