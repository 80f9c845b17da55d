"""Train a small transformer on a finite automaton: a transition table or a group's word problem.

python experiments/train_automaton.py --data.tasks 'symmetric(n=3)'
python experiments/train_automaton.py --data.tasks 'automaton(transitions=((1,0),(0,1)))'
"""

from compo_mech.launch.main import main
from compo_mech.runs import recipes

if __name__ == "__main__":
    main(recipes.automaton(), description=__doc__)
