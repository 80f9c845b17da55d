"""With more heads and layers than are needed, how is the work shared, and which heads do it?

python experiments/capacity.py --n-workers 2
"""

from compo_mech.studies import capacity, study

if __name__ == "__main__":
    study.main(capacity.STUDY)
