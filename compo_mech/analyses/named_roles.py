"""Are heads named rightly? Names on networks whose truth is known, counted by true and by said role."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.ground_truth.build import Constructed
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import Ablations
from compo_mech.interventions.head_roles import name_heads
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import Heads
from compo_mech.model.params import Model

ABSTAINS = ("contributes", "cannot be told")
"""Said of a head of any role: nothing is claimed of what it brings."""

X, END, PREFIX = "x_t", "position of [EoI]", "x_1 .. x_t"
RIGHT: dict[str, tuple[str, ...]] = {
    X: ("iteration", "iteration, in part", "shares x"),
    END: ("lookup", "lookup, in part", "shares end"),
    PREFIX: ("accumulates", "accumulates, in part", "shares prefix"),
    "x_t, to a row before": ("relays x", "relays x, in part"),
    "takes back": ("takes back answer", "takes back x"),
    "one input": ("carries x_k", "carries x_k, in part", "iteration, in part"),
    "idle": ("idle",),
    "not known": (),
}
"""What may be said of a head, by what is true of it. A head that brings x_k carries x_t where t = k."""

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
    "shortcut": "not known",
}
"""What is true of a head, by how the role of a hand-built one begins; one without a role is idle. Where one brings all
inputs, the next MLP takes x_t alone, so that answers go with that."""


class Named(NamedTuple):
    """One head with what is true of it and what is said."""

    head: str
    true: str
    said: str

    @property
    def verdict(self) -> str:
        """Whether what is said is right, abstains, or is wrong."""
        if self.said in ABSTAINS:
            return "abstains"
        return "right" if self.said in RIGHT[self.true] else "wrong"


def heads_of(model: Model, data: DataConfig, task: Task, seed: int = 0, n_strings: int = 32) -> Heads:
    """What the heads of a network are named, by mean ablation and from one seed."""
    generator = torch.Generator().manual_seed(seed)
    sets = drawn_sets(data, task, n_strings, model.device)
    return name_heads(Ablations(model, sets, "mean", generator), data, generator, task=task)


def said_role(role: HeadRole) -> str:
    """The role as a table has it: with its content where that tells more, and whether it is in part."""
    name, content, _, in_part = role.role
    if content is not None and name in ("carries", "relays", "takes back", "shares"):
        digits = content.removeprefix("x_")
        name = f"{name} {'x_k' if digits.isdigit() else content}"
    return f"{name}, in part" if in_part else name


def true_role(built: Constructed, writer: Writer) -> str:
    """What is true of a head of a hand-built network."""
    own = built.roles.get(str(writer), "inert")
    return next((true for start, true in TRUE.items() if own.startswith(start)), "not known")


def named_of(built: Constructed, seed: int = 0) -> Iterator[Named]:
    """Name the heads of a hand-built network beside what is true of them."""
    for role in heads_of(built.model, built.data, built.data.tasks[0], seed).roles:
        yield Named(str(role.writer), true_role(built, role.writer), said_role(role))


def confusion(named: pd.DataFrame) -> pd.DataFrame:
    """Count heads by network kind, true role, said role and verdict."""
    columns = ["networks", "true", "said", "verdict"]
    return named.groupby(columns, as_index=False).size().rename(columns={"size": "n_heads"})
