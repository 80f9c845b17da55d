"""Does what was learnt on one task serve another, which parts of it, and does it survive short strings?

python experiments/transfer.py --n-workers 2
"""

from compo_mech.studies import study, transfer

if __name__ == "__main__":
    study.main(transfer.STUDY)
