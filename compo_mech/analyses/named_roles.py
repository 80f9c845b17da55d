"""Are heads named rightly? Names on networks whose truth is known, counted by true and by said role."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, get_args

import pandas as pd
import torch

from compo_mech.analyses.examine import Answer
from compo_mech.analyses.headline import N_STRINGS
from compo_mech.analyses.position_subtraction import examine_subtraction
from compo_mech.analyses.state_update import examine_update
from compo_mech.analyses.subtraction_probe import subtraction_verdict
from compo_mech.analyses.update_probe import update_verdict
from compo_mech.analyses.wrong_networks import Untaught, random_networks, wrongly_trained
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task, TaskField
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.ground_truth.build import Constructed, build
from compo_mech.ground_truth.families import RUNGS
from compo_mech.ground_truth.hard_cases import HARD_CASES, build_hard_case
from compo_mech.ground_truth.options import BuildOptions, Coordinate
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import Ablations
from compo_mech.interventions.head_roles import name_heads
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import Heads
from compo_mech.model.params import Model
from compo_mech.probing.sites import iteration_layer

ABSTAINS = ("contributes", "cannot be told")
"""Said of a head of any role: nothing is claimed of what it brings."""

X, END, PREFIX = "x_t", "position of [EoI]", "x_1 .. x_t"
UNKNOWN = "nothing"
RIGHT: dict[str, tuple[str, ...]] = {
    X: ("iteration", "iteration, in part", "shares x"),
    END: ("lookup", "lookup, in part", "shares end"),
    PREFIX: ("accumulates", "accumulates, in part", "shares prefix"),
    "x_t, to a row before": ("relays x", "relays x, in part"),
    "takes back": ("takes back answer", "takes back x"),
    "one input": ("carries x_k", "carries x_k, in part", "iteration, in part"),
    "idle": ("idle",),
    UNKNOWN: (),
}
"""What may be said of a head, by what is true of it: of a head whose work leads to nothing, nothing. A head that brings
x_k carries x_t where t = k."""

TRUE = {
    "lookup": END,
    "marks rows": END,
    "counts rows": END,
    "iteration": X,
    "backup of the iteration": X,
    "brings all inputs": X,
    "carries a token to the state": X,
    "carries the token to its neighbour": "x_t, to a row before",
    "accumulates": PREFIX,
    "brings the prefix": PREFIX,
    "takes back": "takes back",
    "brings position": "one input",
    "inert": "idle",
    "distractor": "idle",
}
"""What is true of a head, by how the role of a hand-built one begins; one without a role is idle. Where one brings all
inputs, the next MLP takes x_t alone, so that answers go with that."""


COMPUTES = {"update": "updates the state", "subtraction": "subtracts positions"}
"""What is asked of an MLP, by how its role in a hand-built network is called."""


class Named(NamedTuple):
    """A component, what is true of it, and what is said of it.

    Attributes:
        networks: hand-built, decoys, random or wrongly trained.
        kind: which of them.
        component: a head, or an MLP with what is asked of it.
        true, said: its role.
        verdict: right, abstains or wrong.
    """

    networks: str
    kind: str
    component: str
    true: str
    said: str
    verdict: str


def heads_of(model: Model, data: DataConfig, task: Task) -> Heads:
    """What the heads of a network are named, by mean ablation and from one seed."""
    generator = torch.Generator().manual_seed(0)
    sets = drawn_sets(data, task, N_STRINGS, model.device)
    return name_heads(Ablations(model, sets, "mean", generator, n_reference=128), data, generator, task=task)


def said_role(role: HeadRole) -> str:
    """The role as a table has it: with its content where that tells more, and whether it is in part."""
    name, content, _, in_part = role.role
    if content is not None and name in ("carries", "relays", "takes back", "shares"):
        name = f"{name} {'x_k' if content.removeprefix('x_').isdigit() else content}"
    return f"{name}, in part" if in_part else name


def true_role(built: Constructed, writer: Writer) -> str:
    """What is true of a head of a hand-built network."""
    own = built.roles.get(str(writer), "inert")
    return next((true for start, true in TRUE.items() if own.startswith(start)), UNKNOWN)


def head_verdict(true: str, said: str) -> str:
    """Whether what is said of a head is right, abstains, or is wrong.

    >>> head_verdict("x_t", "iteration"), head_verdict("x_t", "contributes"), head_verdict("x_t", "idle")
    ('right', 'abstains', 'wrong')
    """
    return "abstains" if said in ABSTAINS else "right" if said in RIGHT[true] else "wrong"


def named_heads(networks: str, kind: str, built: Constructed, broken: str | None = None) -> Iterator[Named]:
    """Name the heads of a hand-built network beside what is true of them; of a broken one nothing is."""
    for role in heads_of(built.model, built.data, built.data.tasks[0]).roles:
        own = built.roles.get(str(role.writer), "")
        true = UNKNOWN if broken is not None and own.startswith(broken) else true_role(built, role.writer)
        said = said_role(role)
        yield Named(networks, kind, str(role.writer), true, said, head_verdict(true, said))


def mlp_answers(model: Model, data: DataConfig, task: Task) -> Iterator[tuple[str, int, str]]:
    """What the probes answer of the MLPs of a network: what is asked, the layer, and the answer."""
    if model.config.n_layers < 2:
        return
    layer = iteration_layer(model, data, task, torch.Generator().manual_seed(0))
    update = examine_update(model, data, task, 0, layer, thorough=False)
    yield "update", layer, str(update_verdict(update).answer)
    subtraction = examine_subtraction(model, data, task, 0, layer - 1, thorough=False)
    yield "subtraction", layer - 1, str(subtraction_verdict(subtraction).answer)


def mlp_verdict(true: str, said: str) -> str:
    """Whether an answer is right, abstains, or is wrong.

    >>> [mlp_verdict("yes", said) for said in ("yes", "no", "cannot be told")]
    ['right', 'wrong', 'abstains']
    """
    if said in (Answer.CANNOT_BE_TOLD, Answer.NOTHING):
        return "abstains"
    return "right" if (said in (Answer.YES, Answer.IN_PART)) == (true == Answer.YES) else "wrong"


def named_mlps(networks: str, kind: str, built: Constructed, broken: str | None = None) -> Iterator[Named]:
    """Answer the questions about MLPs of a hand-built network beside what is true."""
    for asked, layer, said in mlp_answers(built.model, built.data, built.data.tasks[0]):
        does = asked in built.roles.get(f"mlp{layer}", "") and asked != broken
        true = str(Answer.YES if does else Answer.NO)
        verdict = mlp_verdict(true, said)
        if broken is not None and does and said == Answer.NO:  # in a broken circuit it is not used
            verdict = "abstains"
        yield Named(networks, kind, f"MLP {COMPUTES[asked]}", true, said, verdict)


def hand_built(task: TaskField) -> Iterator[tuple[str, Constructed]]:
    """Yield every kind of circuit that misleads, and every rung, as far as they are for a task."""
    for name, kind in HARD_CASES.items():
        if not kind.tasks or task.name in kind.tasks:
            yield name, build_hard_case(name, task)
    for name, rungs in RUNGS.items():
        if rungs.chain_of_thought:
            yield name, build(task, rungs=rungs)


def decoys(task: TaskField) -> Iterator[tuple[Coordinate, Constructed]]:
    """Yield builds of a task one component of which is broken."""
    for part in get_args(Coordinate):
        yield part, build(task, rungs=BuildOptions(broken=part))


def named(task: TaskField, n_random: int = 60, n_seeds: int = 6) -> Iterator[Named]:
    """Name the components of all networks whose truth is known.

    Args:
        task: of the hand-built ones.
        n_random: networks with random weights.
        n_seeds: networks trained wrongly in each way.
    """
    for kind, built in hand_built(task):
        yield from named_heads("hand-built", kind, built)
        yield from named_mlps("hand-built", kind, built)
    for part, built in decoys(task):
        yield from named_heads("decoys", f"broken {part}", built, part)
        yield from named_mlps("decoys", f"broken {part}", built, part)
    for networks, of in (("random", random_networks(n_random)), ("wrongly trained", wrongly_trained(n_seeds))):
        for network in of:
            yield from named_untaught(networks, network)


def named_untaught(networks: str, network: Untaught) -> Iterator[Named]:
    """Name the components of a network that has no circuit of its task."""
    kind, model, data, task = network
    for role in heads_of(model, data, task).roles:
        said = said_role(role)
        yield Named(networks, kind, str(role.writer), UNKNOWN, said, head_verdict(UNKNOWN, said))
    for asked, _, said in mlp_answers(model, data, task):
        yield Named(networks, kind, f"MLP {COMPUTES[asked]}", str(Answer.NO), said, mlp_verdict(Answer.NO, said))


def confusion(found: Iterable[Named]) -> pd.DataFrame:
    """Count components by networks, question, true role, said role and verdict."""
    table = pd.DataFrame(found)
    table["component"] = table["component"].where(table["component"].str.startswith("MLP"), "head")
    columns = ["networks", "component", "true", "said", "verdict"]
    return table.groupby(columns, as_index=False, observed=True).size().rename(columns={"size": "n"})
