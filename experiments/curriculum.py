"""Does a curriculum over lengths or tasks change what is learnt? Is the head learnt from parity alone?

python experiments/curriculum.py --n-workers 2
"""

from compo_mech.studies import curriculum, study

if __name__ == "__main__":
    study.main(curriculum.STUDY)
