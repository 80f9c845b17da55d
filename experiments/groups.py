"""Do the same analyses say something on tasks that nobody tuned them for?

python experiments/groups.py --n-workers 2
"""

from compo_mech.studies import groups, study

if __name__ == "__main__":
    study.main(groups.STUDY)
