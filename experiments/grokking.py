"""Does training on after accuracy is perfect clean the maps, and where is understanding late?

python experiments/grokking.py --n-workers 2
"""

from compo_mech.studies import grokking, study

if __name__ == "__main__":
    study.main(grokking.STUDY)
