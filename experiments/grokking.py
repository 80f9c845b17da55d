"""On few strings, is understanding later than learning by heart?

python experiments/grokking.py --n-workers 2
"""

from compo_mech.studies import grokking, study

if __name__ == "__main__":
    study.main(grokking.STUDY)
