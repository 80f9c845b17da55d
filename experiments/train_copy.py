"""Train a small transformer on binary copy.

python experiments/train_copy.py --seed 1 --data.max-length 10
"""

from compo_mech.launch.main import main
from compo_mech.runs import recipes

if __name__ == "__main__":
    main(recipes.copy(), description=__doc__)
