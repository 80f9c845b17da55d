"""Names of routes, and summaries of all routes of a network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Task
from compo_mech.evaluation.attention import MIN_LENGTH, SAME_KEY_SHARE
from compo_mech.routes.paths import Route
from compo_mech.routes.swaps import SwapVariable

if TYPE_CHECKING:
    import pandas as pd

FOLLOW_SHARE = 0.5  # a network at chance between two answers follows in a quarter of the strings
ADDITIVE_WITHIN = 0.05
SHARE_FLOOR = 0.01  # smaller fractions are left out of tables, and smaller differences are ties


class RouteName(StrEnum):
    """The name of a route, of a whole cell, or of a network."""

    TEXTBOOK = "textbook diagonal"  # x_t stays at t, where a layer-1 head reads it
    OFFSET = "offset"  # it is carried to another input or to [EoI], and read there
    STATE = "carried by a state position"  # to a position after [EoI] or the predicting row itself
    ACCUMULATED = "accumulated"  # a whole cell: the answer depends on the other inputs as well
    STRAIGHT = "straight from its row"  # s_{t-1} stays in the stream of the row that holds it
    ATTENTION = "by attention to its row"  # s_{t-1} is read by, or steers, a layer-1 head
    NO_ROUTE = "no route"  # a whole cell: the answer follows in fewer strings than FOLLOW_SHARE
    MIXED = "mixed"  # none of the above holds half


@dataclass(frozen=True)
class Cell:
    """All routes of x_t, or of s_{t-1}, to the prediction of s_t in strings of one length.

    Attributes:
        n_strings: strings that the means below are over.
        share: fraction of the effect by each route, patched alone.
        names: of each route.
        together: fraction of the effect by all routes of a name, patched at once.
        effect: by how much the whole corruption lowers the right answer's logit relative to the foil's.
        follows: fraction of strings that are right, and give the foil once the token is changed.
        agreement: fraction of strings whose strongest route is the one that is strongest on average.
        reliance: fraction of strings whose answer changes when x_j alone does, for j = 1 .. t (1 .. L
            without chain of thought); None for s_{t-1}.
    """

    length: int
    t: int
    variable: SwapVariable
    n_strings: int
    routes: tuple[Route, ...]
    share: Float[Tensor, "route"]
    names: tuple[RouteName, ...]
    together: dict[RouteName, float]
    effect: float
    follows: float
    agreement: float
    reliance: Float[Tensor, "input"] | None = None

    @property
    def accumulated(self) -> bool:
        """Whether the answer relies on the other inputs at least half as much as on x_t."""
        if self.reliance is None or len(self.reliance) == 1:
            return False
        own = self.reliance[self.t - 1]
        return bool((self.reliance.sum() - own) / (len(self.reliance) - 1) >= own / 2)

    @property
    def residual(self) -> float:
        """1 less the sum over single routes: what only routes together do."""
        return 1 - float(self.share.sum())

    @property
    def additive(self) -> bool:
        return abs(self.residual) <= ADDITIVE_WITHIN

    @property
    def shares(self) -> dict[RouteName, float]:
        """`together`, or 1 for a name given to the whole cell."""
        if self.follows < FOLLOW_SHARE:
            return {RouteName.NO_ROUTE: 1.0}
        return {RouteName.ACCUMULATED: 1.0} if self.accumulated else self.together

    @property
    def name(self) -> RouteName:
        return main_route(self.shares)


@dataclass(frozen=True)
class Summary:
    """Means over the cells of one variable, at lengths >= `attention.MIN_LENGTH` if there are any.

    Attributes:
        n_cells: 0 where no change of the variable changes an answer; all else is then 0.
        shares: mean fraction of the effect by routes of each name.
        name: that of the largest fraction, if it is half or more.
        heads: fraction by single routes through each layer-1 head, in cells that have a route (as below).
        residual: 1 less the sum over single routes.
        non_additive: fraction of cells in which that is more than `ADDITIVE_WITHIN`.
        effect: of the whole corruption, in logits.
        agreement: fraction of strings that agree on the strongest route.
        stable: fraction of cells in which at least `attention.SAME_KEY_SHARE` of the strings do.
    """

    variable: SwapVariable
    n_cells: int
    shares: dict[RouteName, float]
    name: RouteName
    heads: tuple[float, ...]
    residual: float
    non_additive: float
    effect: float
    agreement: float
    stable: float

    def __str__(self) -> str:
        text = {"x": "x_t", "s": "s_{t-1}"}[self.variable]
        if not self.n_cells:
            return f"{text}: no other value changes an answer"
        routes = [f"{route} {share:.2f}" for route, share in self.shares.items() if abs(share) >= SHARE_FLOOR]
        text += f": {self.name} ({', '.join(routes)})"
        if self.shares.get(RouteName.NO_ROUTE) == 1:
            return text
        heads = ", ".join(f"L1H{head} {share:.2f}" for head, share in enumerate(self.heads))
        text += f"; alone, {heads}; stable in {self.stable:.0%} of cells"
        if self.non_additive:
            text += f"; not additive in {self.non_additive:.0%} (single routes leave {self.residual:.2f} of 1)"
        return text


@dataclass(frozen=True)
class RouteMap:
    """All cells of one network on one task. `str(route_map)` is a summary in words."""

    task: Task
    layout: Layout
    n_heads: int
    cells: tuple[Cell, ...]

    def summary(self, variable: SwapVariable = "x") -> Summary:
        cells = long_cells([cell for cell in self.cells if cell.variable == variable])
        shares = mean_shares(cells)
        routed = [cell for cell in cells if cell.follows >= FOLLOW_SHARE]

        def through(cell: Cell, head: int) -> float:
            return float(cell.share[[route.head == head for route in cell.routes]].sum())

        return Summary(
            variable=variable,
            n_cells=len(cells),
            shares=shares,
            name=main_route(shares),
            heads=tuple(_mean(through(cell, head) for cell in routed) for head in range(self.n_heads)),
            residual=_mean(cell.residual for cell in routed),
            non_additive=_mean(not cell.additive for cell in routed),
            effect=_mean(cell.effect for cell in routed),
            agreement=_mean(cell.agreement for cell in routed),
            stable=_mean(cell.agreement >= SAME_KEY_SHARE for cell in routed),
        )

    def frame(self) -> "pd.DataFrame":
        """Return one row per route whose fraction is at least `SHARE_FLOOR` in size; `cell` names the whole cell."""
        import pandas as pd

        of_cell, measured = ["length", "t", "variable"], ["effect", "follows", "agreement", "residual", "additive"]
        hop_columns = ["first_hop", "carrier", "carrier_label", "second_hop", "key", "share", "route", "cell"]
        rows = []
        for cell in self.cells:
            values, labels = [getattr(cell, name) for name in of_cell + measured], self.layout.labels(cell.length)
            for route, share, name in zip(cell.routes, cell.share.tolist(), cell.names, strict=True):
                (first, second), key = route.hops, route.carrier if route.second == "key" else None
                names = str(name), str(cell.name)
                rows.append([*values, first, route.carrier, labels[route.carrier], second, key, share, *names])
        table = pd.DataFrame(rows, columns=[*of_cell, *measured, *hop_columns]).astype({"key": "Int64"})
        return pd.DataFrame(table[table["share"].abs() >= SHARE_FLOOR])[of_cell + hop_columns + measured]

    def __str__(self) -> str:
        variables: tuple[SwapVariable, ...] = ("x", "s") if self.layout.chain_of_thought else ("x",)
        return "\n".join([str(self.task), *(f"  {self.summary(variable)}" for variable in variables)])


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def long_cells(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Return the cells of lengths from `MIN_LENGTH` on, or all where there are none."""
    return [cell for cell in cells if cell.length >= MIN_LENGTH] or cells


def mean_shares(cells: Sequence[Cell]) -> dict[RouteName, float]:
    """Return the mean fraction of each name that occurs."""
    shares = {route: _mean(cell.shares.get(route, 0.0) for cell in cells) for route in RouteName}
    return {route: share for route, share in shares.items() if share}


def main_route(shares: dict[RouteName, float]) -> RouteName:
    """Return the route by which the largest fraction of the effect goes, if that is half of it or more.

    >>> main_route({RouteName.TEXTBOOK: 0.4, RouteName.OFFSET: 0.3})
    <RouteName.MIXED: 'mixed'>
    """
    largest = max(shares, key=lambda route: shares[route], default=RouteName.MIXED)
    return largest if shares.get(largest, 0.0) >= 0.5 else RouteName.MIXED
