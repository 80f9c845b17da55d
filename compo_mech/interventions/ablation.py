"""Ablation values of heads and MLPs, and the logits of the ablated network."""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compo_mech.interventions.edges import TOK, Writer
from compo_mech.interventions.graph import Rows, run_graph
from compo_mech.interventions.streams import Outputs
from compo_mech.model import blocks
from compo_mech.model.params import Model

Baseline = Literal["zero", "mean", "mean_over_positions", "resample", "resample_over_positions"]


@torch.no_grad()
def baseline_outputs(
    model: Model,
    inputs: Outputs,
    baseline: Baseline,
    generator: torch.Generator | None = None,
    read: Bool[Tensor, "batch pos"] | None = None,
) -> Outputs:
    """The ablation value of each writer: for ablating heads and MLPs, or as the value that patched edges carry.

    Args:
        model: the network.
        inputs: what `embeddings` puts out.
        baseline: `zero`; `mean`: over strings, at each position; `mean_over_positions`: over strings and positions;
            `resample`: of another string, at the same position; `resample_over_positions`: at any position of the
            batch.
        generator: draws what is resampled.
        read: the positions used, such as `Pairs.read`; None: all. Others keep their value.

    Raises:
        ValueError: there is no such baseline, or it draws and there is no generator.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.interventions.graph import embeddings
    >>> model = build(Parity(), max_length=3).model
    >>> inputs = embeddings(model, torch.tensor([[5, 0, 2, 0], [5, 1, 2, 1]]), torch.arange(4).expand(2, 4))
    >>> baseline_outputs(model, inputs, "mean")[TOK][0, 1, :3].tolist()  # between 0 and 1, each one-hot
    [0.5, 0.5, 0.0]
    """
    return ablation_values(model, run_graph(model, inputs)[0], baseline, generator, read)


@torch.no_grad()
def ablation_values(
    model: Model,
    outputs: Outputs,
    baseline: Baseline,
    generator: torch.Generator | None = None,
    read: Bool[Tensor, "batch pos"] | None = None,
) -> Outputs:
    """`baseline_outputs` given what every writer puts out.

    >>> from compo_mech import Parity, build
    >>> outputs = {TOK: torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])}
    >>> model = build(Parity(), max_length=3).model
    >>> [ablation_values(model, outputs, name)[TOK][0, :, 0].tolist() for name in ("mean", "mean_over_positions")]
    [[2.0, 3.0], [2.5, 2.5]]
    """
    known = get_args(Baseline)
    if not any(baseline == name for name in known):
        raise ValueError(f"baseline = {baseline!r}: must be one of {', '.join(known)}")
    if baseline.startswith("resample") and generator is None:
        raise ValueError("generator = None: resampling draws strings and needs one")
    everywhere = read is None
    if read is None:
        read = torch.ones(outputs[TOK].shape[:2], dtype=torch.bool, device=outputs[TOK].device)
    value_of = _ablation_value(baseline, read, generator)
    counted = read[..., None]
    values = {
        writer: value_of(out).expand_as(out) if everywhere else torch.where(counted, value_of(out), out)
        for writer, out in outputs.items()
    }
    if baseline == "zero" and model.config.biases:  # b_O, which the first head carries along, is no head's
        for layer in range(model.config.n_layers):
            writer, bias = Writer("head", layer, 0), blocks.attn_bias(model, layer)
            values[writer] = torch.where(counted, bias.expand_as(outputs[writer]), outputs[writer])
    return values


def _ablation_value(
    baseline: Baseline, read: Bool[Tensor, "batch pos"], generator: torch.Generator | None
) -> Callable[[Tensor], Tensor]:
    """The ablation value of an output [batch, pos, d_model], with the same draw for every writer."""
    counted = read[..., None]
    match baseline:
        case "zero":
            return torch.zeros_like
        case "mean":
            n = counted.sum(0, keepdim=True).clamp(min=1)
            return lambda out: (out * counted).sum(0, keepdim=True) / n
        case "mean_over_positions":
            return lambda out: out[read].mean(0)
        case "resample":
            # among the strings that have this position: the r-th of them is replaced by the next in a random order
            order = torch.rand(read.shape, generator=generator).to(read.device).masked_fill(~read, 2.0).argsort(0)
            n, rank = read.sum(0).clamp(min=1), torch.arange(len(read), device=read.device)[:, None]
            source = torch.empty_like(order)
            source.scatter_(0, order, order.gather(0, (rank + 1) % n))
            columns = torch.arange(read.shape[1], device=read.device)
            return lambda out: out[source, columns]
        case "resample_over_positions":
            rows, columns = read.nonzero(as_tuple=True)
            draw = torch.randint(0, len(rows), tuple(read.shape), generator=generator).to(read.device)
            return lambda out: out[rows[draw], columns[draw]]


@torch.no_grad()
def ablated_logits(
    model: Model, known: Outputs, ablated: Iterable[Writer], values: Outputs, at: Rows | None = None
) -> Float[Tensor, "*row d_vocab"]:
    """Logits when these heads and MLPs put out their ablation values instead.

    Args:
        model: the network.
        known: what `embeddings` puts out, and, to save time, any other writers' outputs of the whole network; those
            that an ablation can change are recomputed.
        ablated: heads and MLPs.
        values: the ablation values, as `baseline_outputs` gives them.
        at: rows and positions of the logits; None: all [batch, pos].

    >>> from compo_mech import Parity, build
    >>> from compo_mech.interventions.graph import embeddings
    >>> model = build(Parity(), max_length=3).model
    >>> inputs = embeddings(model, torch.tensor([[5, 0, 2, 0], [5, 1, 2, 1]]), torch.arange(4).expand(2, 4))
    >>> means = baseline_outputs(model, inputs, "mean")
    >>> ablated_logits(model, inputs, [], means)[:, 2].argmax(-1).tolist()  # s1 = x1
    [0, 1]
    >>> one, other = ablated_logits(model, inputs, [Writer("head", 1, 0)], means)[:, 2]  # without the iteration head
    >>> torch.equal(one, other)
    True
    """
    gone = set(ablated)
    layers = [writer.layer for writer in gone if writer.layer is not None]
    first = min(layers, default=model.config.n_layers)
    stays = {
        w: out
        for w, out in known.items()
        if w.layer is None or w.layer < first or (w.layer == first and w.kind == "head")
    }
    return run_graph(model, stays | {writer: values[writer] for writer in gone}, at=at)[1]
