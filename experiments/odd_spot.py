"""Is there another circuit for a special position: the first state, the last, the row that ends?

python experiments/odd_spot.py --n-workers 2
"""

from compo_mech.studies import odd_spot, study

if __name__ == "__main__":
    study.main(odd_spot.STUDY)
