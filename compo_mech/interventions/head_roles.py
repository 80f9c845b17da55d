"""What each head does, by intervention alone: what it carries, and what is lost without it.

Two interchanges read off what a head carries. Its output at the rows that predict states is replaced by that of another
run, and the answer is compared with what the algorithm would say:

    x      the other run has other inputs of the same length: s_t should become F(s_{t-1}, x'_t)
    end    the other run has its [EoI] at another position, so that the row at i would predict another t':
           s_t should become F(s_{t-1}, x_{t'})

In both, the other run holds the same states in the same rows, so that a head which carries s_{t-1} is not taken for one
of these, and answers that x' alone would explain do not count for `end`. The fraction of answers that do so, where that
is another answer, is the head's share of the variable: 1 for a head that alone carries it. A head that carries neither
is described by what its ablation costs.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Task
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.head_ablation import Ablations, best_guess, smallest_removal
from compo_mech.interventions.head_evidence import head_evidence
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.role_able import NEAR, is_able
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import Heads
from compo_mech.interventions.traces import both_traces
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site

CarriedVariable = Literal["x", "end"]
"""x_t, or the position of [EoI]."""


def carried_share(
    model: Model,
    data: DataConfig,
    variable: CarriedVariable,
    generator: torch.Generator,
    n_pairs: int = 64,
    task: Task | None = None,
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer"]]:
    """Fraction of the answers that follow a variable when one head alone, or a layer's heads together, carry another
    value of it.

    Counted are answers that would have to change, and that the clean run does not give already.

    Args:
        model: the network.
        data: tasks, lengths and layout, with chain of thought.
        variable: `x` or `end`.
        generator: source of the pairs.
        n_pairs: strings.
        task: one of the data's; None: its first.

    Raises:
        ValueError: there is no chain of thought; or, for `end`, only one length.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> heads, layers = carried_share(built.model, built.data, "x", torch.Generator().manual_seed(0), 16)
    >>> heads.tolist(), layers.tolist()  # L1H0 alone
    ([[0.0, 0.0], [1.0, 0.0]], [0.0, 1.0])
    """
    if not data.chain_of_thought:
        raise ValueError("chain_of_thought = False: what a head carries to a state needs states that are written")
    task, config = task or data.tasks[0], model.config
    switch = Switch.TOKEN if variable == "x" else Switch.LENGTH
    end_of_input = data.vocabulary.end_of_input_id
    pairs = _same_states(make_pairs(data, switch, n_pairs, generator, task=task), end_of_input)
    pairs = pairs.to(model.device)
    expected, counts = _expected(pairs, data.layout, task, variable, end_of_input)
    clean, corrupt = both_traces(model, pairs)
    counts &= likeliest(clean.logits[pairs.row, pairs.position]) != expected
    where = torch.zeros_like(pairs.read)
    where[pairs.row, pairs.position] = True

    def share(site: Site) -> Float[Tensor, ""]:
        logits = patched_logits(model, clean, corrupt, site, where, pairs)
        return ((likeliest(logits) == expected) & counts).sum() / counts.sum().clamp(min=1)

    layers, heads = range(config.n_layers), range(config.n_heads)
    alone = torch.stack([share(Site("z", layer, head)) for layer in layers for head in heads])
    together = torch.stack([share(Site("attn_out", layer)) for layer in layers])
    return alone.view(config.n_layers, config.n_heads), together


def _same_states(pairs: Pairs, end_of_input: int) -> Pairs:
    """The pairs with the clean states also in the corrupt rows, wherever both have come to states."""
    ends = [(tokens == end_of_input).int().argmax(1) for tokens in (pairs.clean_tokens, pairs.corrupt_tokens)]
    past = torch.arange(pairs.clean_tokens.shape[1]) > torch.maximum(*ends)[:, None]
    return replace(pairs, corrupt_tokens=torch.where(past, pairs.clean_tokens, pairs.corrupt_tokens))


def _expected(
    pairs: Pairs, layout: Layout, task: Task, variable: CarriedVariable, end_of_input: int
) -> tuple[Int[Tensor, "scored"], Bool[Tensor, "scored"]]:
    """What each scored row should answer with the other run's value, and where that tells something."""
    row, position = pairs.row, pairs.position
    length, own = pairs.lengths[row], pairs.clean_tokens[row, position]
    table = task.table.to(row.device)
    before = torch.where(own == end_of_input, len(table) - 1, own.clamp(max=len(table) - 2))

    def answer(tokens: Int[Tensor, "batch pos"], t: Int[Tensor, "scored"]) -> Int[Tensor, "scored"]:
        index = layout.input_position(t).clamp(0, tokens.shape[1] - 1)
        return table[before, tokens[row, index].clamp(max=table.shape[1] - 1)]

    t = layout.predicted(position, length)
    counts = (t <= length) & (pairs.corrupt_tokens[row, position] == own)  # the last row predicts [EoS]
    if variable == "x":
        found = answer(pairs.corrupt_tokens, t)
    else:
        other_length = layout.length_of((pairs.corrupt_tokens == end_of_input).int().argmax(1))[row]
        other = layout.predicted(position, other_length)
        found = answer(pairs.clean_tokens, other)
        counts &= (other >= 1) & (other <= length) & (other <= other_length)
        counts &= answer(pairs.corrupt_tokens, other) != found
    return found, counts & (found != pairs.target)


def name_heads(
    ablations: Ablations,
    data: DataConfig,
    generator: torch.Generator,
    n_pairs: int = 64,
    task: Task | None = None,
) -> Heads:
    """Every head's role, by causal effect alone: attention weights are not used.

    Args:
        ablations: of the network, on test strings of the task.
        data: tasks, lengths and layout.
        generator: source of the pairs.
        n_pairs: pairs for each interchange.
        task: one of the data's; None: its first.

    >>> from compo_mech import Parity, build, eval_sets
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> ablations = Ablations(built.model, eval_sets(built.data, 8), "mean", generator, n_reference=16)
    >>> str(name_heads(ablations, built.data, generator, 16).iteration.writer)
    'L1H0'
    """
    model = ablations.model
    task, config = task or data.tasks[0], model.config
    guess = best_guess(task, ablations.sets)
    shares: dict[CarriedVariable, Tensor] = {}
    together = None
    own = torch.Generator().set_state(generator.get_state())  # so that what is drawn next stays what it was
    if data.chain_of_thought:
        shares["x"], layers = carried_share(model, data, "x", generator, n_pairs, task)
        together = tuple(layers.tolist())
        if len(data.drawn_lengths) > 1:
            shares["end"], _ = carried_share(model, data, "end", generator, n_pairs, task)
    told = is_able(ablations.whole, guess)
    evidence = head_evidence(model, data, task, own) if told else None
    roles, removals = [], []
    for layer in range(config.n_layers):
        heads = [Writer("head", layer, head) for head in range(config.n_heads)]
        for writer in heads:
            found = {name: float(share[layer, writer.head]) for name, share in shares.items()}
            cost = ablations.cost(writer).cost
            known = None if evidence is None else evidence.heads[writer]
            roles.append(HeadRole(writer, found.get("x"), found.get("end"), cost, known))
        removals.append(smallest_removal(ablations, heads, guess + NEAR))
    fewest = min((r for r in removals if r is not None), key=lambda r: (len(r.components), r.accuracy), default=None)
    of_layers = () if evidence is None else tuple(evidence.layers)
    beside = None if evidence is None else evidence.beside
    return Heads(tuple(roles), together, fewest, ablations.whole, guess, of_layers, beside)
