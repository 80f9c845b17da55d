"""Trained on two tasks with a task token, is one iteration head shared and MLP 1 told the task?

python experiments/mix.py --n-workers 2
"""

from compo_mech.studies import mix, study

if __name__ == "__main__":
    study.main(mix.STUDY)
