"""Do the same analyses work on tasks that nobody tuned them for?

python experiments/groups.py --n-workers 2

Word problems of groups, and a counter with bounds, which is no group: nothing of the library is changed for them.
"""

from compo_mech.data.tasks import Automaton, Counter, Dihedral, Symmetric
from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import heads_needed
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study, short_config

TASKS = {
    "S3": Symmetric(n=3),
    "D5": Dihedral(n=5),
    "Z5": Counter(modulus=5),
    "S4": Symmetric(n=4),
    "bounded counter": Automaton(transitions=((1, 0), (2, 0), (2, 1))),
}
STUDY = Study(
    name="groups",
    question="do the same analyses say something on tasks that nobody tuned them for?",
    hypothesis="the iteration head forms for every group, whether it commutes or not, since only the state update is "
    "another",
    primary=measures.ITERATION,
    arms={name: Arm(short_config([task])) for name, task in TASKS.items()},
    scorer=heads_needed,
)


if __name__ == "__main__":
    main(STUDY)
