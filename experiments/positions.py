"""Do frozen or low-dimensional position embeddings change how positions are subtracted?

python experiments/positions.py --n-workers 2
"""

from compo_mech.studies import positions, study

if __name__ == "__main__":
    study.main(positions.STUDY)
