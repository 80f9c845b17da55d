"""Train a small transformer on parity, and see the iteration head that it forms.

python experiments/train_parity.py --seed 1
"""

from compo_mech import launch, recipes

if __name__ == "__main__":
    launch.main(recipes.parity())
