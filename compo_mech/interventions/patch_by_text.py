"""One patch, written as text, and what it does to the answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compo_mech.data.tokenizer import Tokenizer, decoded, pieces
from compo_mech.interventions.edges import Edge, all_readers, check_edges, writers_before
from compo_mech.interventions.graph import corrupt_logits, run_both, run_patched
from compo_mech.interventions.metrics import METRICS
from compo_mech.interventions.notation import Component, Patch, SitePatch, read_patches
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.traces import both_traces
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.stats.intervals import two_decimals

if TYPE_CHECKING:
    import pandas as pd

MIN_GAP = 1e-4
"""In the metric's units: where the corrupt input moves it by less, there is no way to go a fraction of."""

N_SHOWN_TOKENS = 8


@dataclass(frozen=True)
class Patched:
    """What a patch does to the answers of pairs.

    `str` says it in a line, `frame()` row by row.

    Attributes:
        patches: what carried the corrupt input's value.
        metric: its name.
        clean, corrupt, patched: the metric on the clean input, on the corrupt one, and with the patch.
        pairs: that were patched.
        clean_logits, corrupt_logits, patched_logits: at the scored positions.

    >>> from compo_mech import Copy, Switch, build, make_pairs
    >>> built = build(Copy(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> print(patch(built.model, pairs, "tok -> L1H0.v", "inaccuracy"))  # L1H0 carries x_t, which is the answer
    tok → L1H0.v: inaccuracy 0.000 clean, 0.250 corrupt, 0.250 patched: 1.00 of the way
    """

    patches: tuple[Patch, ...]
    metric: str
    clean: float
    corrupt: float
    patched: float
    pairs: Pairs
    clean_logits: Float[Tensor, "scored d_vocab"]
    corrupt_logits: Float[Tensor, "scored d_vocab"]
    patched_logits: Float[Tensor, "scored d_vocab"]

    @property
    def fraction(self) -> float | None:
        """How far the patch moves the metric from the clean input's to the corrupt one's; None where they agree."""
        gap = self.corrupt - self.clean
        return (self.patched - self.clean) / gap if abs(gap) >= MIN_GAP else None

    def frame(self) -> "pd.DataFrame":
        """Return what each scored position says: its prompt, the logit of the foil above the answer's, and the
        likeliest token, on the clean and the corrupt input and with the patch."""
        import pandas as pd

        pairs, runs = self.pairs, {"clean": self.clean_logits, "corrupt": self.corrupt_logits}
        runs["patched"] = self.patched_logits
        shown = pairs.tokenizer
        table: dict[str, Sequence[object]] = {
            "row": pairs.row.tolist(),
            "position": pairs.position.tolist(),
            "prompt": [
                _text(shown, pairs.clean_tokens[row, : place + 1].tolist())
                for row, place in zip(pairs.row.tolist(), pairs.position.tolist(), strict=True)
            ],
            "answer": pieces(shown, pairs.target.tolist()),
            "foil": pieces(shown, pairs.foil.tolist()),
        }
        for name, logits in runs.items():
            gap = logits.gather(1, pairs.foil[:, None]) - logits.gather(1, pairs.target[:, None])
            table[f"foil - answer, {name}"] = gap[:, 0].tolist()
            table[f"likeliest, {name}"] = pieces(shown, likeliest(logits).tolist())
        return pd.DataFrame(table)

    def __str__(self) -> str:
        way = self.fraction
        moved = "the corrupt input moves nothing" if way is None else f"{two_decimals(way)} of the way"
        name = self.metric.replace("_", " ")
        figures = f"{self.clean:.3f} clean, {self.corrupt:.3f} corrupt, {self.patched:.3f} patched"
        return f"{', '.join(map(str, self.patches))}: {name} {figures}: {moved}"


@torch.no_grad()
def patch(model: Model, pairs: Pairs, what: str | Iterable[str | Patch], metric: str = "logit_difference") -> Patched:
    """Give the clean run the corrupt run's value along edges, of components, or at one site, all else recomputed.

    Args:
        model: the network.
        pairs: clean and corrupt inputs.
        what: edges such as `L5H1 → L8H6.q` and `mlp3 -> logits`, components such as `L5H1` (all its edges), several
            with commas between them; or one site, such as `L5H1.z` or `resid_pre4`. Each may be narrowed to a span of
            the row, as in `L5H1 → L8H6.q @ subject`.
        metric: one of `METRICS`.

    Raises:
        ValueError: one line: what is not written like this, or that the network does not have; the model cannot read
            the pairs; there is no such metric.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edge, head = (patch(built.model, pairs, text) for text in ("L1H0 → mlp1", "L1H0"))
    >>> edge.fraction == head.fraction  # nothing else reads it
    True
    """
    if metric not in METRICS:
        raise ValueError(f"metric = {metric!r}: must be one of {', '.join(METRICS)}")
    patches = read_patches(what)
    sites = [one for one in patches if isinstance(one, SitePatch)]
    if sites and len(patches) > 1:
        raise ValueError(f"patch = {sites[0]}: must stand by itself; edges and components can be several")
    edges = [edge for one in patches if not isinstance(one, SitePatch) for edge in _edges(model, one)]
    if edges:
        check_edges(model, edges)
    runs = run_both(model, pairs)
    corrupt = corrupt_logits(model, pairs, runs)
    patched = _with_site(model, pairs, sites[0]) if sites else run_patched(model, pairs, runs, edges)
    clean, other, own = (float(METRICS[metric](x, runs.logits, pairs)) for x in (runs.logits, corrupt, patched))
    return Patched(tuple(patches), metric, clean, other, own, pairs, runs.logits, corrupt, patched)


def _edges(model: Model, patched: Edge | Component) -> list[Edge]:
    """The edges of a patch: of a component, all that begin there."""
    if isinstance(patched, Edge):
        return [patched]
    readers = [reader for reader in all_readers(model.config) if patched.writer in writers_before(reader, model.config)]
    if not readers:
        n_layers, n_heads = model.config.n_layers, model.config.n_heads
        raise ValueError(f"patch = {patched}: must be one of the network's, {n_layers} layers × {n_heads} heads")
    return [Edge(patched.writer, reader, patched.span) for reader in readers]


def _with_site(model: Model, pairs: Pairs, patched: SitePatch) -> Float[Tensor, "scored d_vocab"]:
    where: Bool[Tensor, "batch pos"] = pairs.both_read if patched.span is None else pairs.where(patched.span)
    return patched_logits(model, *both_traces(model, pairs), patched.site, where, pairs)


def _text(tokenizer: Tokenizer | None, ids: list[int]) -> str:
    """The end of a prompt."""
    shown = ids[-N_SHOWN_TOKENS:]
    text = decoded(tokenizer, shown)
    return text if len(shown) == len(ids) else f"…{text}"
