"""Train a small transformer on binary copy.

python experiments/train_copy.py --seed 1 --data.max-length 10
"""

from compo_mech import launch, recipes

if __name__ == "__main__":
    launch.main(recipes.copy())
