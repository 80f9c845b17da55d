"""How do accuracy, speed of learning and cleanliness scale with string length and d_model?

python experiments/scaling.py --n-workers 2
"""

from compo_mech.studies import scaling, study

if __name__ == "__main__":
    study.main(scaling.STUDY, scaling.told)
