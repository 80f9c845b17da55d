"""Interchange interventions: where does a network hold the algorithm's variables?

An interchange puts the value of one site, at the row that predicts s_t, of a *source* string into a
*base* string, and tests whether the answer becomes what the algorithm gives when that one variable alone is the
source's (Geiger et al. 2021, arXiv 2106.02997).

Interchange intervention accuracy (IIA) is the mean of two fractions: of the pairs in which the answer has to change,
those that give the new answer, and of the others, those that keep theirs. A site that does nothing and a site whose
swap destroys a binary answer both score about one half. Every score has two controls of its own: a *placebo*, a change
of the same size in a random direction, and *permuted* labels, the variable's values permuted among the sources. The
third is the same on a randomly initialised control network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.causal.row_patching import Traces, check_row_site, continued, swapped, trace_rows
from compo_mech.causal.rows import Variable, check_data, joined
from compo_mech.causal.variables import Context, Interchanges, has_pairs, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, kinds_of
from compo_mech.stats.intervals import Interval, wilson

if TYPE_CHECKING:
    import pandas as pd

HOLDS = 0.9
"""A site holds a variable from this IIA on."""

FOLLOWED = 0.75
"""Halfway from chance to always: more than half of the answers follow."""


@dataclass(frozen=True)
class InterchangeScore:
    """Interchange intervention accuracy (IIA) at one site, with its controls.

    Attributes:
        accuracy: mean of `follows` and `keeps`, with the mean of their 95% Wilson bounds.
        follows: fraction of the answers that had to change and did so as the algorithm says; None: none had to.
        keeps: fraction of those that had to stay and did; None: none had to.
        placebo: IIA after a perturbation of the same norm in a random direction.
        permuted: accuracy with permuted labels.
        n: pairs.
    """

    accuracy: Interval
    follows: float | None
    keeps: float | None
    placebo: float
    permuted: float
    n: int

    @property
    def holds(self) -> bool:
        """Whether the site holds the variable, and neither control passes."""
        return self.accuracy.mean >= HOLDS > self.placebo and self.permuted < HOLDS

    @property
    def followed(self) -> bool:
        """Whether more than half of the answers beyond chance follow the variable, and neither control passes."""
        return self.accuracy.low > FOLLOWED > self.placebo and self.permuted < FOLLOWED


def balanced_accuracy(
    predicted: Int[Tensor, "row"], answers: Int[Tensor, "row"], changes: Bool[Tensor, "row"]
) -> float:
    """Average the fractions that are right of the pairs that have to change and of those that have to stay."""
    counts = _counts(predicted, answers, changes)
    return sum(n_right / n for n_right, n in counts if n) / sum(n > 0 for _, n in counts)


def balanced_interval(
    predicted: Int[Tensor, "row"], answers: Int[Tensor, "row"], changes: Bool[Tensor, "row"]
) -> tuple[Interval, float | None, float | None]:
    """Return `balanced_accuracy` with the mean of both fractions' Wilson bounds, and the fractions."""
    fractions = [wilson(n_right, n) if n else None for n_right, n in _counts(predicted, answers, changes)]
    known = [fraction for fraction in fractions if fraction is not None]
    mean, low, high = (sum(parts) / len(known) for parts in zip(*known, strict=True))
    follows, keeps = (None if fraction is None else fraction.mean for fraction in fractions)
    return Interval(mean, low, high), follows, keeps


def _counts(
    predicted: Int[Tensor, "row"], answers: Int[Tensor, "row"], changes: Bool[Tensor, "row"]
) -> list[tuple[int, int]]:
    """How many are right, and how many there are, of those that have to change and of those that have to stay."""
    right = predicted == answers
    return [(int((right & stratum).sum()), int(stratum.sum())) for stratum in (changes, ~changes)]


def interchange_traces(model: Model, pairs: Interchanges) -> Traces:
    """Trace the bases and the sources, all at once."""
    found, n = trace_rows(model, joined(pairs.base, pairs.source)), len(pairs.base)
    return found[:n], found[n:]


@torch.no_grad()
def interchange(
    model: Model,
    pairs: Interchanges,
    site: Site,
    generator: torch.Generator,
    subspace: Float[Tensor, "dim k"] | None = None,
    traces: Traces | None = None,
) -> InterchangeScore:
    """Score the interchange of one variable at one site.

    Args:
        model: the network.
        pairs: pairs of rows.
        site: one of `ROW_KINDS`.
        generator: draws the placebo's directions.
        subspace: an orthonormal basis of the subspace that is swapped; None: the whole site.
        traces: of bases and sources, if they are known.

    Raises:
        ValueError: the network has no such site.
    """
    check_row_site(site, model.config)
    pairs = pairs.to(model.device)
    found, other = traces or interchange_traces(model, pairs)
    base, source = found.at(site), other.at(site)
    value = swapped(base, source, None if subspace is None else subspace.to(base))
    direction = torch.randn(base.shape, generator=generator, dtype=torch.float64).to(base)
    direction = direction * ((value - base).norm(dim=1) / direction.norm(dim=1))[:, None]
    answered, sham = (likeliest(continued(model, found, site, v)) for v in (value, base + direction))
    accuracy, follows, keeps = balanced_interval(answered, pairs.answers, pairs.changes)
    placebo = balanced_accuracy(sham, pairs.answers, pairs.changes)
    permuted = balanced_accuracy(answered, pairs.permuted, pairs.permuted != pairs.base.answer)
    return InterchangeScore(accuracy, follows, keeps, placebo, permuted, len(pairs.base))


def interchange_row(pairs: Interchanges, site: Site, score: InterchangeScore) -> dict[str, object]:
    """Lay out a score as a row of a table: variable, context, site, kind, layer, head, iia, low, high, placebo,
    permuted."""
    return {
        "variable": pairs.variable,
        "context": pairs.context,
        "site": str(site),
        **site._asdict(),
        "iia": score.accuracy.mean,
        "low": score.accuracy.low,
        "high": score.accuracy.high,
        "placebo": score.placebo,
        "permuted": score.permuted,
    }


def interchange_table(rows: Sequence[dict[str, object]]) -> "pd.DataFrame":
    """Make a table of `interchange_row`s; a head is missing where a site is of a whole layer."""
    import pandas as pd

    return pd.DataFrame(rows).astype({"head": "Int64"})


def row_sites(config: ModelConfig) -> Iterator[Site]:
    """Yield every site of a row, in order of computation."""
    n_heads, kinds = config.n_heads, kinds_of(config)
    yield Site("resid_pre", 0)
    for layer in range(config.n_layers):
        yield from (Site("q", layer, head) for head in range(n_heads))
        if n_heads > 1:
            yield Site("q", layer)
        yield from (Site("z", layer, head) for head in range(n_heads))
        of_layer = ("attn_out", "resid_mid", "mlp_out", "resid_post")
        yield from (Site(kind, layer) for kind in of_layer if kind in kinds)


def interchange_map(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n: int = 512,
    task: Task | None = None,
    sites: Sequence[Site] | None = None,
) -> "pd.DataFrame":
    """Score the interchange of every variable that the task uses at every site of a row, in both contexts.

    Returns:
        The columns of `interchange_row`, follows, keeps and n.

    Raises:
        ValueError: as `make_interchanges`.
    """
    task = check_data(data, task)
    sites = list(sites or row_sites(model.config))
    device, rows = model.device, []
    for variable in get_args(Variable):
        if not uses(task, variable):
            continue
        for context in get_args(Context):
            if not has_pairs(data, variable, context):
                continue  # of one length, no two rows differ in t and nothing else
            pairs = make_interchanges(data, variable, context, n, generator, task).to(device)
            traces = interchange_traces(model, pairs)
            for site in sites:
                score = interchange(model, pairs, site, generator, traces=traces)
                more = {"follows": score.follows, "keeps": score.keeps, "n": score.n}
                rows.append(interchange_row(pairs, site, score) | more)
    return interchange_table(rows)
