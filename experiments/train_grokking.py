"""Train on 24 strings of parity far beyond memorisation: the network generalises late, if at all.

python experiments/train_grokking.py --name grokking-seed0
python figures/grokking.py runs/grokking-seed0 --out grokking.html
"""

from compo_mech.launch.main import main
from compo_mech.runs import recipes

if __name__ == "__main__":
    main(recipes.grokking(), description=__doc__)
