"""Task-token patching: which components depend on the task, by interchange between rows that differ in the task token.

One component's activation is patched from a run of the same row under the other task's token; the answer F(s, x)
becomes the other task's or it does not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Span
from compo_mech.data.tasks import Task
from compo_mech.interventions.edges import LOGITS, POS, Edge, all_edges, all_readers, writers_before
from compo_mech.interventions.graph import Runs, run_both, run_patched
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.task_pairs import task_pairs
from compo_mech.interventions.traces import both_traces
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site, kinds_of
from compo_mech.stats.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

N_ROWS = 96


class TaskTokenPatching:
    """Fractions of the answers that become the foil when one component is patched from the other run.

    Scored positions count where the clean run does not give the foil already. The placebo is a perturbation of the same
    norm in a random direction.

    Args:
        model: the network.
        pairs: `task_pairs`.
        generator: draws the placebo.

    Raises:
        ValueError: the model cannot read the pairs.

    >>> from compo_mech import Copy, ModelConfig, Parity, init_params
    >>> data, generator = DataConfig(tasks=(Copy(), Parity()), max_length=2), torch.Generator().manual_seed(0)
    >>> config = ModelConfig(d_model=8, n_layers=1, n_heads=1)
    >>> model = Model(init_params(config, len(data.vocabulary), 8, generator), config)
    >>> patching = TaskTokenPatching(model, task_pairs(data, Copy(), Parity(), 8, generator), generator)
    >>> patching.edges([Edge(POS, LOGITS)])["follows"]  # positions are the same in both runs
    0.0
    """

    def __init__(self, model: Model, pairs: Pairs, generator: torch.Generator) -> None:
        self.model, self.pairs, self.generator = model, pairs, generator
        self.clean, self.corrupt = both_traces(model, pairs)
        with torch.no_grad():
            self.runs = run_both(model, pairs)
        noisy = {writer: self._noisy(own, self.runs.corrupt[writer]) for writer, own in self.runs.clean.items()}
        self.sham = Runs(self.runs.clean, noisy, self.runs.logits)
        self.row = torch.zeros_like(pairs.read)
        self.row[pairs.row, pairs.position] = True
        self.counts = likeliest(self.runs.logits) != pairs.foil

    def _noisy(self, own: Tensor, other: Tensor) -> Tensor:
        direction = torch.randn(own.shape, generator=self.generator).to(own)
        return own + direction * ((other - own).norm(dim=-1, keepdim=True) / direction.norm(dim=-1, keepdim=True))

    def answers(self) -> dict[str, float]:
        """Fraction of positions where the clean run gives the task's own answer, and where the other run gives the
        foil."""
        right = likeliest(self.runs.logits) == self.pairs.target
        other = likeliest(self.corrupt.logits[self.pairs.row, self.pairs.position]) == self.pairs.foil
        return {"own": float(right.double().mean()), "other": float(other.double().mean())}

    def site(self, site: Site, span: Span | None = None) -> dict[str, object]:
        """A site at the scored rows, or in a span."""
        where = self.row if span is None else self.pairs.where(span)
        whole = site._replace(head=None)
        noisy = self._noisy(self.clean.at(whole), self.corrupt.at(whole))
        others = self.corrupt, self.corrupt.replaced(whole, noisy)
        return self._shares(*(patched_logits(self.model, self.clean, o, site, where, self.pairs) for o in others))

    @torch.no_grad()
    def edges(self, edges: Sequence[Edge]) -> dict[str, object]:
        """Edges, all at once."""
        return self._shares(*(run_patched(self.model, self.pairs, runs, edges) for runs in (self.runs, self.sham)))

    def _shares(self, real: Tensor, sham: Tensor) -> dict[str, object]:
        n = int(self.counts.sum())
        followed, placebo = (
            int(((likeliest(logits) == self.pairs.foil) & self.counts).sum()) for logits in (real, sham)
        )
        if not n:  # every answer is the other task's already: nothing can follow
            return {"follows": 0.0, "low": 0.0, "high": 1.0, "placebo": 0.0, "n": 0}
        share = wilson(followed, n)
        return {"follows": share.mean, "low": share.low, "high": share.high, "placebo": placebo / n, "n": n}


def task_sites(model: Model) -> list[tuple[Site, Span | None]]:
    """Sites that may carry the task to a row, in order of computation, and where each is patched; None: at the row
    itself.

    >>> from compo_mech import ModelConfig, init_params
    >>> config = ModelConfig(d_model=8, n_layers=1, n_heads=1)
    >>> model = Model(init_params(config, 8, 8, torch.Generator().manual_seed(0)), config)
    >>> [str(site) for site, _ in task_sites(model)]
    ['L0H0.z', 'attn_out0', 'resid_mid0', 'mlp_out0']
    """
    config, sites = model.config, list[tuple[Site, Span | None]]()
    has = kinds_of(config)
    heads = range(config.n_heads)
    for layer in range(config.n_layers):
        if layer:
            sites.append((Site("resid_pre", layer), None))
            for span in (Span("first"), Span("inputs")):
                shared = range(config.n_kv_heads)
                sites += [(site, span) for head in shared for site in (Site("k", layer, head), Site("v", layer, head))]
        sites += [(Site("z", layer, head), None) for head in heads]
        of_layer = ("attn_out", "resid_mid", "mlp_out")
        sites += [(Site(kind, layer), None) for kind in of_layer if kind in has]
    return sites


def patch_task_token(model: Model, pairs: Pairs, generator: torch.Generator) -> "pd.DataFrame":
    """Every site, every reader that alone reads the other run's stream, and every edge.

    Keys and values of later layers are patched at the task token and at the inputs, other sites at the scored rows. The
    logits are no such reader: what they read holds the answer. Position embeddings are the same in both runs.

    Args:
        model: the network.
        pairs: `task_pairs`.
        generator: draws the placebo.

    Returns:
        Columns kind (site, reader, edge), site, writer, reader, span (what was patched, where the kind has it), own,
        other (fractions of positions where either run gives its own task's answer), follows, its 95% interval
        low .. high, placebo, n.

    >>> from compo_mech import Copy, ModelConfig, Parity, init_params
    >>> data, generator = DataConfig(tasks=(Copy(), Parity()), max_length=2), torch.Generator().manual_seed(0)
    >>> config = ModelConfig(d_model=8, n_layers=1, n_heads=1)
    >>> model = Model(init_params(config, len(data.vocabulary), 8, generator), config)
    >>> table = patch_task_token(model, task_pairs(data, Copy(), Parity(), 8, generator), generator)
    >>> table.groupby("kind").size().to_dict()
    {'edge': 5, 'reader': 4, 'site': 4}
    """
    import pandas as pd

    patching, config = TaskTokenPatching(model, pairs, generator), model.config
    rows: list[dict[str, object]] = []
    for site, span in task_sites(model):
        named = {"site": str(site), "writer": None, "reader": None, "span": None if span is None else str(span)}
        rows.append({"kind": "site"} | named | patching.site(site, span))
    for reader in all_readers(config)[:-1]:
        edges = [Edge(writer, reader) for writer in writers_before(reader, config)]
        rows.append({"kind": "reader", "reader": str(reader)} | patching.edges(edges))
    for edge in all_edges(config):
        if edge.reader != LOGITS and edge.writer != POS:
            named = {"writer": str(edge.writer), "reader": str(edge.reader)}
            rows.append({"kind": "edge"} | named | patching.edges([edge]))
    return pd.DataFrame(rows).assign(**patching.answers())


def patch_task_token_both_ways(
    model: Model, control: Model, data: DataConfig, one: Task, other: Task, seed: int = 0, n_rows: int = N_ROWS
) -> "pd.DataFrame":
    """`patch_task_token` from either task to the other.

    Args:
        model: the network.
        control: a randomly initialised network.
        data: tasks, lengths and layout.
        one, other: two of its tasks.
        seed: of rows and placebos.
        n_rows: rows in each direction.

    Returns:
        The columns of `patch_task_token`, with base and source (names of tasks) and control (`follows` of the
        control).

    Raises:
        ValueError: as `task_pairs`.

    >>> from compo_mech import Copy, ModelConfig, Parity, init_params
    >>> data = DataConfig(tasks=(Copy(), Parity()), max_length=2)
    >>> config = ModelConfig(d_model=8, n_layers=1, n_heads=1)
    >>> draws = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    >>> model, control = (Model(init_params(config, len(data.vocabulary), 8, draw), config) for draw in draws)
    >>> table = patch_task_token_both_ways(model, control, data, Copy(), Parity(), n_rows=8)
    >>> table[["base", "source"]].drop_duplicates().values.tolist()
    [['copy', 'parity'], ['parity', 'copy']]
    """
    import pandas as pd

    tables, device = [], model.device
    for base, source in ((one, other), (other, one)):
        generator = torch.Generator().manual_seed(seed)
        pairs = task_pairs(data, base, source, n_rows, generator).to(device)
        trained, untrained = (patch_task_token(network, pairs, generator) for network in (model, control))
        tables.append(trained.assign(base=str(base), source=str(source), control=untrained["follows"]))
    return pd.concat(tables, ignore_index=True)


def carried_across(
    model: Model, data: DataConfig, one: Task, other: Task, generator: torch.Generator, n_rows: int = N_ROWS
) -> Float[Tensor, "layer head"]:
    """Fraction of the answers F_one(s, x) that become F_one(s, x') when one head's output is patched from a run of the
    other task with inputs x': whether the head represents x_t in the same form for both tasks.

    Raises:
        ValueError: as `task_pairs`.

    >>> from compo_mech import ModelConfig, Polynomial, init_params
    >>> one, other, generator = Polynomial(modulus=5), Polynomial(modulus=7), torch.Generator().manual_seed(0)
    >>> data, config = DataConfig(tasks=(one, other), max_length=2), ModelConfig(d_model=8, n_heads=1)
    >>> model = Model(init_params(config, len(data.vocabulary), 8, generator), config)
    >>> carried_across(model, data, one, other, generator, n_rows=8).shape == (config.n_layers, config.n_heads)
    True
    """
    pairs = task_pairs(data, one, other, n_rows, generator, inputs=True).to(model.device)
    patching, config = TaskTokenPatching(model, pairs, generator), model.config
    sites = [[Site("z", layer, head) for head in range(config.n_heads)] for layer in range(config.n_layers)]
    return torch.tensor([[patching.site(site)["follows"] for site in layer] for layer in sites])
