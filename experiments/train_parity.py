"""Train a small transformer on parity, and see the iteration head that it forms.

python experiments/train_parity.py --seed 1
"""

from compo_mech.launch.main import main
from compo_mech.runs import recipes

if __name__ == "__main__":
    main(recipes.parity(), description=__doc__)
