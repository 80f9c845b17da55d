"""High-level causal graphs: variables, the components that carry them, and what each is computed from.

A graph is run as the network is: every variable has a value at every position, and each component sees its parents'
values through edges of its own, which can carry those of another input. So what an interchange of edges should do to
the answer is computed, not assumed (interchange interventions: Geiger et al. 2021, arXiv 2106.02997).

Where other values make something that the algorithm says nothing of, such as a position that no token has, a variable
is `UNDEFINED`, and so is all that is computed from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer

Values = Int[Tensor, "row pos"]
"""Of one variable."""

UNDEFINED, NOTHING = -1, -2
"""What the algorithm does not say; and what it says to be nothing yet, which is a value like any other."""


@dataclass(frozen=True)
class Node:
    """A variable, and the head or MLP that carries it.

    Attributes:
        variable: its name.
        component: that writes it.
        reads: kinds of the component's readers (`q`, `k`, `v` or `mlp`), each with a variable that is read there; `tok`
            and `pos` are variables too, token ids and position ids.
        rule: from the values that are read, in their order, to those of the variable.

    Example:
        >>> import torch
        >>> from compo_mech.ground_truth import Node
        >>> from compo_mech.interventions import Writer
        >>> node = Node("sum", Writer("mlp", 0), (("mlp", "tok"), ("mlp", "pos")), lambda tok, pos: tok + pos)
        >>> node.rule(torch.tensor([[5, 1]]), torch.tensor([[0, 1]])).tolist()
        [[5, 2]]
    """

    variable: str
    component: Writer
    reads: tuple[tuple[str, str], ...]
    rule: Callable[..., Values]

    def reader(self, kind: str) -> Reader:
        """Return the reader of this kind that its component has."""
        return Reader(kind, self.component.layer, self.component.head)


@dataclass(frozen=True)
class CausalGraph:
    """Nodes in order of computation, and the variable that the logits read.

    Raises:
        ValueError: two nodes have one component or one variable, or one reads a variable that no earlier one has.

    Example:
        >>> from compo_mech.data import DataConfig, Parity
        >>> from compo_mech.ground_truth import textbook
        >>> graph = textbook(DataConfig(tasks=(Parity(),), max_length=3))
        >>> sorted(str(edge) for edge in graph.edges if edge.reader.layer == 0)
        ['L0H0 → mlp0', 'pos → L0H0.v', 'pos → mlp0', 'tok → L0H0.k']
    """

    nodes: tuple[Node, ...]
    answer: str

    def __post_init__(self) -> None:
        known = {"tok", "pos"}
        for node in self.nodes:
            for _, parent in node.reads:
                if parent not in known:
                    raise ValueError(f"reads = {parent}: must be one of {', '.join(sorted(known))} in {node.variable}")
            if node.variable in known or node.component in [other.component for other in self.nodes if other != node]:
                raise ValueError(f"node = {node.variable}, {node.component}: must be the only one of either")
            known.add(node.variable)
        if self.answer not in known:
            raise ValueError(f"answer = {self.answer}: must be one of {', '.join(sorted(known))}")

    @cached_property
    def writers(self) -> dict[str, Writer]:
        """What writes each variable."""
        return {"tok": TOK, "pos": POS} | {node.variable: node.component for node in self.nodes}

    @cached_property
    def edges(self) -> frozenset[Edge]:
        """The edges along which variables are read: those that are true of a network with this circuit."""
        found = {Edge(self.writers[name], node.reader(kind)) for node in self.nodes for kind, name in node.reads}
        return frozenset(found | {Edge(self.writers[self.answer], LOGITS)})

    def run(
        self,
        tokens: Values,
        position_ids: Values,
        other: Mapping[str, Values] | None = None,
        chosen: Mapping[Edge, Bool[Tensor, "row"]] | None = None,
    ) -> dict[str, Values]:
        """Compute every variable, and `logits`: the token that follows each position.

        Args:
            tokens, position_ids: of the input.
            other: variables of another input, as this function returns them, that chosen edges carry.
            chosen: the rows in which an edge carries them; an edge that is not named carries the input's own.
        """
        found = {"tok": tokens, "pos": position_ids}

        def seen(variable: str, reader: Reader) -> Values:
            where = None if chosen is None else chosen.get(Edge(self.writers[variable], reader))
            if other is None or where is None:
                return found[variable]
            return torch.where(where[:, None], other[variable], found[variable])

        for node in self.nodes:
            found[node.variable] = node.rule(*(seen(name, node.reader(kind)) for kind, name in node.reads))
        return found | {"logits": seen(self.answer, LOGITS)}


def fetched(wanted: Values | int, keys: Values, values: Values) -> Values:
    """Return for each position the value where the key is the wanted one, among the positions up to it.

    It is `NOTHING` where no key is, and `UNDEFINED` where several are or what is wanted is itself undefined.

    Example:
        >>> import torch
        >>> from compo_mech.ground_truth.causal_graph import fetched
        >>> fetched(2, torch.tensor([[5, 2, 7]]), torch.tensor([[10, 11, 12]])).tolist()
        [[-2, 11, 11]]
    """
    wanted = torch.full_like(keys, wanted) if isinstance(wanted, int) else wanted
    n_pos = keys.shape[1]
    found = (wanted[:, :, None] == keys[:, None]) & torch.ones(n_pos, n_pos, dtype=torch.bool).tril()
    n_found = found.sum(-1)
    value = values.gather(1, found.int().argmax(-1))
    value = torch.where(n_found == 0, NOTHING, value)
    return torch.where((n_found > 1) | (wanted < 0), UNDEFINED, value)
