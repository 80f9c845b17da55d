"""Train a small transformer on the polynomial task, s_t = s_{t-1} x_t + 1 mod p.

python experiments/train_polynomial.py --data.tasks "polynomial(modulus=7)"
"""

from compo_mech.launch.main import main
from compo_mech.runs import recipes

if __name__ == "__main__":
    main(recipes.polynomial(), description=__doc__)
