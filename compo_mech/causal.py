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

from compo_mech.data import DataConfig
from compo_mech.graph import Model
from compo_mech.hooks import Site, check_site
from compo_mech.metrics import Interval, wilson
from compo_mech.model import ModelConfig
from compo_mech.tasks import Task
from compo_mech.traces import RowTrace, attn_out_of, logits_of, mlp_out_of, project_qkv, row_trace
from compo_mech.variables import Interchanges, Others, Rows, Variable, cell_pairs, check_data, make_interchanges, uses

ROW_KINDS = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "q", "z")
"""Kinds of sites that one row has to itself. `Site("q", layer)`, without a head, is all heads' queries together."""

HEAD_ROW_KINDS = ("q", "z")
"""Those of them that belong to a head."""

HOLDS = 0.9
"""A site holds a variable from this interchange accuracy on."""


FOLLOWED = 0.75
"""Halfway from chance to always: more than half of the answers follow."""


def value_at(found: RowTrace, site: Site) -> Float[Tensor, "row dim"]:
    """What a site holds at each string's row."""
    values = getattr(found, site.kind)[site.layer]
    return values.flatten(1) if site.head is None else values[:, site.head]


def check_row_site(site: Site, config: ModelConfig) -> None:
    """Refuse what is no site of a row.

    Raises:
        ValueError: the network has no such site, or it is not one row's own.
    """
    if site.kind not in ROW_KINDS:
        raise ValueError(f"site.kind = {site.kind!r}: must be one of {', '.join(ROW_KINDS)}")
    check_site(site._replace(head=0) if site == Site("q", site.layer) else site, config)


def continued(
    model: Model,
    found: RowTrace,
    site: Site,
    value: Float[Tensor, "row dim"],
    heat: float = 1.0,
) -> Float[Tensor, "row d_vocab"]:
    """Logits at each string's row when a site holds another value there.

    Only that row is computed anew: no row before it sees it, and rows after it do not matter.
    Gradients flow to `value`.

    Args:
        model: the network.
        found: its trace on the strings.
        site: one of `ROW_KINDS`.
        value: what it holds instead.
        heat: divides that row's attention scores; 1 is the network as it is.

    Raises:
        ValueError: the network has no such site, or it is not one row's own.
    """
    check_row_site(site, model.config)
    layer = site.layer

    def own(kind: str) -> Tensor:
        return getattr(found, kind)[layer]

    if site.kind == "resid_pre":
        stream, layer = value, layer - 1
    elif site.kind == "resid_post":
        stream = value
    elif site.kind == "mlp_out":
        stream = own("resid_mid") + value
    else:
        if site.kind == "resid_mid":
            mid = value
        elif site.kind == "attn_out":
            mid = own("resid_pre") + value
        elif site.head is None:
            query = value.unflatten(1, (model.config.n_heads, -1))
            z = _attended(model, found, layer, query, heat, None)
            mid = own("resid_pre") + attn_out_of(model, layer, z[:, :, None])[:, 0]
        else:
            z = value if site.kind == "z" else _attended(model, found, layer, value[:, None], heat, site.head)[:, 0]
            change = z - found.z[layer][:, site.head]
            mid = own("resid_mid") + change @ model.params[f"blocks.{layer}.attn.W_O"][site.head]
        stream = mid + mlp_out_of(model, layer, mid)
    for later in range(layer + 1, model.config.n_layers):
        q, k, v = (x[:, :, 0] for x in project_qkv(model, later, stream[:, None]))
        z = _attended(model, found, later, q, heat, None, (k, v))
        mid = stream + attn_out_of(model, later, z[:, :, None])[:, 0]
        stream = mid + mlp_out_of(model, later, mid)
    return logits_of(model, stream)


def _attended(
    model: Model,
    found: RowTrace,
    layer: int,
    query: Float[Tensor, "row head d_head"],
    heat: float,
    head: int | None,
    own: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "row head d_head"]:
    """What heads fetch for one row of each string, its own key and value being `own` where they are new."""
    chosen = slice(None) if head is None else slice(head, head + 1)
    place, k, v = found.place, found.k[layer][:, chosen], found.v[layer][:, chosen]
    scores = (k @ query[..., None])[..., 0]
    here = torch.arange(k.shape[2], device=place.device) == place[:, None]
    after = torch.arange(k.shape[2], device=place.device) > place[:, None]
    if own is not None:
        scores = torch.where(here[:, None], (query * own[0]).sum(-1, keepdim=True), scores)
    scores = (scores / (heat * model.config.head_width**0.5)).masked_fill(after[:, None], -torch.inf)
    pattern = scores.softmax(-1)
    z = (pattern[:, :, None] @ v)[:, :, 0]
    if own is not None:
        weight = (pattern * here[:, None]).sum(-1, keepdim=True)
        at_row = v.gather(2, place[:, None, None, None].expand(-1, v.shape[1], 1, v.shape[3]))[:, :, 0]
        z = z + weight * (own[1] - at_row)
    return z


def swapped(
    base: Float[Tensor, "row dim"], source: Float[Tensor, "row dim"], subspace: Float[Tensor, "dim k"] | None
) -> Float[Tensor, "row dim"]:
    """The base's value with the source's part in a subspace (an orthonormal basis); None: the source's value."""
    if subspace is None:
        return source
    return base + (source - base) @ subspace @ subspace.mT


# -------------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Score:
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


def balanced(
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


Traces = tuple[RowTrace, RowTrace]


def trace_rows(model: Model, rows: Rows) -> RowTrace:
    """Their trace."""
    return row_trace(model, rows.tokens, rows.positions, rows.place)


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
) -> Score:
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
    base, source = value_at(found, site), value_at(other, site)
    value = swapped(base, source, subspace)
    direction = torch.randn(base.shape, generator=generator, dtype=torch.float64).to(base)
    direction = direction * ((value - base).norm(dim=1) / direction.norm(dim=1))[:, None]
    answered, sham = (continued(model, found, site, v).argmax(-1) for v in (value, base + direction))
    accuracy, follows, keeps = balanced(answered, pairs.answers, pairs.changes)
    placebo, _, _ = balanced(sham, pairs.answers, pairs.changes)
    arbitrary, _, _ = balanced(answered, pairs.arbitrary, pairs.arbitrary != pairs.base.answer)
    return Score(accuracy, follows, keeps, placebo.mean, arbitrary.mean, len(pairs.base))


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
    device, rows = model.params["embed.W_E"].device, []
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
