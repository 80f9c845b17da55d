"""Interchange interventions: where does a network hold the algorithm's variables?

An interchange puts the value of one site, at the row that predicts s_t, of a *source* string into a
*base* string, and asks whether the answer becomes what the algorithm says when that one variable alone
is the source's (Geiger et al. 2021, arXiv 2106.02997).

Interchange accuracy is the mean of two shares: of the pairs in which the answer has to change, those
that give the new answer, and of the others, those that keep theirs. A site that does nothing and a
site whose swap destroys a binary answer both score about one half. Every score has two controls of
its own: a *placebo*, a change of the same size in a random direction, and *arbitrary* labels, the
variable's value taken from another source. The third is the same on a freshly initialised network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.causal.row_patching import Traces, check_row_site, continued, swapped, trace_rows
from compo_mech.causal.rows import Variable, check_data
from compo_mech.causal.variables import Interchanges, Others, cell_pairs, make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.stats.intervals import Interval, wilson

HOLDS = 0.9
"""A site holds a variable from this interchange accuracy on."""

FOLLOWED = 0.75
"""Halfway from chance to always: more than half of the answers follow."""


@dataclass(frozen=True)
class InterchangeScore:
    """Interchange accuracy at one site and its controls.

    Attributes:
        accuracy: mean of `follows` and `keeps`, with the mean of their 95% Wilson bounds.
        follows: share of the answers that had to change and did so as the algorithm says; None: none had to.
        keeps: share of those that had to stay and did; None: none had to.
        placebo: accuracy after a change of the same size in a random direction.
        arbitrary: accuracy with the values of other sources.
        n: pairs.
    """

    accuracy: Interval
    follows: float | None
    keeps: float | None
    placebo: float
    arbitrary: float
    n: int

    @property
    def holds(self) -> bool:
        """Whether the site holds the variable, and neither control passes."""
        return self.accuracy.mean >= HOLDS > max(self.placebo, self.arbitrary)


def balanced_accuracy(
    predicted: Int[Tensor, "row"], answers: Int[Tensor, "row"], changes: Bool[Tensor, "row"]
) -> tuple[Interval, float | None, float | None]:
    """Mean over pairs that have to change and pairs that have to stay, of the share that is right; and the two."""
    right = predicted == answers
    shares: list[Interval | None] = []
    for stratum in (changes, ~changes):
        n = int(stratum.sum())
        shares.append(wilson(int((right & stratum).sum()), n) if n else None)
    known = [share for share in shares if share is not None]
    mean, low, high = (sum(parts) / len(known) for parts in zip(*known, strict=True))
    follows, keeps = (None if share is None else share.mean for share in shares)
    return Interval(mean, low, high), follows, keeps


def interchange_traces(model: Model, pairs: Interchanges) -> Traces:
    """Traces of the bases and of the sources."""
    return trace_rows(model, pairs.base), trace_rows(model, pairs.source)


@torch.no_grad()
def interchange(
    model: Model,
    pairs: Interchanges,
    site: Site,
    generator: torch.Generator,
    subspace: Float[Tensor, "dim k"] | None = None,
    traces: Traces | None = None,
) -> InterchangeScore:
    """Interchange accuracy of one variable at one site.

    Args:
        model: the network.
        pairs: pairs of rows.
        site: one of `ROW_KINDS`.
        generator: draws the placebo's directions.
        subspace: an orthonormal basis of the part of the site that is swapped; None: all of it.
        traces: of bases and sources, if they are known.

    Raises:
        ValueError: the network has no such site.
    """
    check_row_site(site, model.config)
    found, other = traces or interchange_traces(model, pairs)
    base, source = found.at(site), other.at(site)
    value = swapped(base, source, subspace)
    direction = torch.randn(base.shape, generator=generator, dtype=torch.float64).to(base)
    direction = direction * ((value - base).norm(dim=1) / direction.norm(dim=1))[:, None]
    answered, sham = (continued(model, found, site, v).argmax(-1) for v in (value, base + direction))
    accuracy, follows, keeps = balanced_accuracy(answered, pairs.answers, pairs.changes)
    placebo, _, _ = balanced_accuracy(sham, pairs.answers, pairs.changes)
    arbitrary, _, _ = balanced_accuracy(answered, pairs.arbitrary, pairs.arbitrary != pairs.base.answer)
    return InterchangeScore(accuracy, follows, keeps, placebo.mean, arbitrary.mean, len(pairs.base))


def row_sites(n_layers: int, n_heads: int) -> Iterator[Site]:
    """Every site of a row, in order of computation."""
    yield Site("resid_pre", 0)
    for layer in range(n_layers):
        yield from (Site("q", layer, head) for head in range(n_heads))
        if n_heads > 1:
            yield Site("q", layer)
        yield from (Site("z", layer, head) for head in range(n_heads))
        yield from (Site(kind, layer) for kind in ("attn_out", "resid_mid", "mlp_out", "resid_post"))


def interchange_map(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n: int = 512,
    task: Task | None = None,
    sites: Sequence[Site] | None = None,
) -> pd.DataFrame:
    """Interchange accuracy of every variable that the task uses at every site of a row, both kinds of sources.

    Returns:
        Columns variable, others, site, interchange, low, high, follows, keeps, placebo, arbitrary, n.

    Raises:
        ValueError: as `make_interchanges`.
    """
    task = check_data(data, task)
    sites = list(sites or row_sites(model.config.n_layers, model.config.n_heads))
    device, rows = model.device, []
    for variable in get_args(Variable):
        if not uses(task, variable):
            continue
        for others in get_args(Others):
            if not len(cell_pairs(data, variable, others)[0]):
                continue  # of one length, no two rows differ in t and nothing else
            pairs = make_interchanges(data, variable, others, n, generator, task).to(device)
            traces = interchange_traces(model, pairs)
            for site in sites:
                score = interchange(model, pairs, site, generator, traces=traces)
                named = {"variable": variable, "others": others, "site": str(site), "interchange": score.accuracy.mean}
                rows.append(
                    named
                    | {"low": score.accuracy.low, "high": score.accuracy.high}
                    | {name: getattr(score, name) for name in ("follows", "keeps", "placebo", "arbitrary", "n")}
                )
    return pd.DataFrame(rows)
