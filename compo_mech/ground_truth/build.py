"""Hand-built HookedTransformers that solve iterative tasks by a known circuit: the ground truth for grading methods.

The circuit is the iteration head's (Cabannes et al. 2024), in subspaces that do not overlap:

    layer 0 head 0   attends to [EoI] and copies its position from `pos` to `end`
    MLP 0            one neuron a pair (own position i, end e): writes t = i - e + 1 to `pointer`
    layer 1 head 0   its query is the pointer, its key the position: copies token x_t to `value`
    MLP 1            one neuron a pair (own token s_{t-1}, value x_t): writes F(s, x) to `answer`,
                     [EoS] where the value is [EoI]
    unembedding      reads `answer`

With `subtraction="difference"` MLP 0 is a rule instead of this table: layer 0 copies [EoI]'s position as a number, and
neurons have kinks where i - e is an integer. With `"gaps"` some pairs have no neuron. Head 1 of either layer is spare.
Without further options the build is *pristine*; `BuildOptions` describes what makes it harder. The truth is recorded
where the weights are set: the true edges, the role of every component, the subspaces of the variables. An edge is true
if the noise-free build changes its output on some string when that edge alone carries another value of its range, or
when it does so together with others of which none would have changed it; rows whose pair is missing, and whose output
is therefore undefined, do not count.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Task, TaskField
from compo_mech.ground_truth.builder import SPARE_POSITIONS, Sketch
from compo_mech.ground_truth.iteration_head import IterationHead
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.shortcut import SHORTCUT_TASKS, Shortcut
from compo_mech.interventions.edges import Edge
from compo_mech.model.params import Model


@dataclass(frozen=True)
class Constructed:
    """A build and what is true of it.

    Attributes:
        model: its parameters and configuration (`compo_mech.model.to_hooked` makes it a HookedTransformer).
        data: the task, lengths and layout that it solves.
        edges: the true edges of the noise-free build.
        alone: those of them that change the output on some string when they alone carry another value: all of them
            but where others make up for one.
        sets: sets of edges, at least one for each of the others, that change the output together when they carry the
            values of one other input, though no smaller set of them does.
        roles: what each active component does.
        subspaces: an orthonormal basis [d_model, dim] for each variable: `end`, `pointer` (t),
            `value` (x_t), `state` (s_{t-1} in the token embedding), `answer` (s_t); on other routes
            `carried` (x_t after layer 0); without chain of thought `count` or `value`, and `answer`.
            `end` has one dimension, a number, if the subtraction is by difference.
        gaps: pairs (own position, position of [EoI]) that the subtraction lacks.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build
        >>> built = build(Parity(), max_length=3)
        >>> built.roles["L1H0"], built.subspaces["answer"].shape[1] == built.model.d_vocab
        ('iteration', True)
    """

    model: Model
    data: DataConfig
    edges: frozenset[Edge]
    roles: dict[str, str]
    subspaces: dict[str, Float[Tensor, "d_model dim"]] = field(repr=False)
    gaps: frozenset[tuple[int, int]] = frozenset()
    alone: frozenset[Edge] = frozenset()
    sets: frozenset[frozenset[Edge]] = frozenset()

    @property
    def shifts(self) -> Shifts:
        """Shifts of position ids that it has room for; it makes something of them, though not the task's answers."""
        return Shifts(SPARE_POSITIONS, answered=False)


def solves(task: Task, rungs: BuildOptions) -> bool:
    """Whether there is a build of this task with these rungs.

    Example:
        >>> from compo_mech.data import Parity, Polynomial
        >>> from compo_mech.ground_truth import BuildOptions, solves
        >>> [solves(task, BuildOptions(chain_of_thought=False)) for task in (Parity(), Polynomial())]
        [True, False]
    """
    return rungs.chain_of_thought or task.name in SHORTCUT_TASKS


def build(task: TaskField, max_length: int = 8, rungs: BuildOptions | None = None) -> Constructed:
    """Build a network that solves a task by a known circuit.

    Raises:
        ValueError: the task has no build with these rungs, or strings are too short for gaps.

    Example:
        >>> from compo_mech.data import Copy
        >>> from compo_mech.ground_truth import build
        >>> sorted(str(edge) for edge in build(Copy(), max_length=3).edges if edge.reader.layer == 1)
        ['L1H0 → mlp1', 'mlp0 → L1H0.q', 'pos → L1H0.k', 'tok → L1H0.v']
    """
    rungs = rungs or BuildOptions()
    if not solves(task, rungs):
        raise ValueError(f"task = {task}: without chain of thought must be one of {', '.join(SHORTCUT_TASKS)}")
    data = DataConfig(tasks=(task,), max_length=max_length, chain_of_thought=rungs.chain_of_thought)
    sketch = IterationHead(data, rungs) if rungs.chain_of_thought else Shortcut(data, rungs)
    return constructed(sketch)


def constructed(sketch: Sketch) -> Constructed:
    """Finish a sketch: its network, and what is true of it.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, IterationHead, constructed
        >>> constructed(IterationHead(DataConfig(max_length=2), BuildOptions())).roles["mlp0"]
        'subtraction'
    """
    names = {variable: variable for variable in ("end", "pointer", "value", "carried", "count", "answer")}
    if sketch.data.chain_of_thought:
        names["state"] = "token"
    basis = sketch.basis
    return Constructed(
        model=sketch.finished(),
        data=sketch.data,
        edges=frozenset(sketch.edges.union(*sketch.sets)),
        roles=sketch.roles,
        subspaces={
            variable: basis[sketch.space[name]].T.float() for variable, name in names.items() if name in sketch.space
        },
        gaps=sketch.gaps if isinstance(sketch, IterationHead) else frozenset(),
        alone=frozenset(sketch.edges),
        sets=frozenset(sketch.sets),
    )
