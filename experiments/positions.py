"""Do frozen or low-dimensional position embeddings change how positions are subtracted?

python experiments/positions.py --n-workers 2
"""

from dataclasses import replace

from compo_mech.studies import positions, study
from probes import studied

if __name__ == "__main__":
    study.main(replace(positions.STUDY, measure=studied.positions))
