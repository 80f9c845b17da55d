"""Which heads and MLPs each row of a string needs: the first state, those in the middle, the last, the end."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import EvalSet, drawn_sets
from compo_mech.interventions.ablation import ablated_logits
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.last_row import end_scores
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore, beside_control

N_STRINGS = 64
"""Test strings of each length."""


def special_rows(run: AnyRun) -> list[RunScore]:
    """`run_scores`, `row_scores` and `end_scores` of the trained network and of its control."""
    return run_scores(run) + beside_control(run, _row_scores) + beside_control(run, end_scores)


def _row_scores(model: Model, data: DataConfig, task: Task, seed: int) -> list[RunScore]:
    return row_scores(model, drawn_sets(data, task, N_STRINGS, model.device))


@torch.no_grad()
def row_scores(model: Model, sets: Sequence[EvalSet]) -> list[RunScore]:
    """Accuracy of the rows that predict s_1, s_2 .. s_(L-1), s_L and [EoS], and with each component ablated.

    The ablation value, everywhere, is the component's mean over scored rows of strings of all lengths, which tells
    neither what a row holds nor where it or [EoI] is.

    Args:
        model: the network.
        sets: test strings, each set of one length.
    """
    config = model.config
    components = [Writer("head", layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    components += [] if config.attn_only else [Writer("mlp", layer) for layer in range(config.n_layers)]
    whole = [run_graph(model, embeddings(model, test.read, test.position_ids))[0] for test in sets]
    pairs = list(zip(whole, sets, strict=True))
    means = {
        component: torch.cat([_scored_rows(outputs[component], test) for outputs, test in pairs]).mean(0)
        for component in components
    }
    scores: list[RunScore] = []
    for ablated in (None, *components):
        removed = () if ablated is None else (ablated,)
        right: dict[str, list[Tensor]] = {}
        for outputs, test in pairs:
            rows = list(test.layout.scored(test.length))
            values = {component: means[component].expand_as(outputs[component]) for component in removed}
            correct = likeliest(ablated_logits(model, outputs, removed, values)[:, rows]) == test.targets
            indices = {"first": [0], "middle": list(range(1, len(rows) - 2)), "last": [-2], "end": [-1]}
            for position, columns in indices.items():
                right.setdefault(position, []).append(correct[:, columns].flatten())
        measure = measures.ROW_ACCURACY if ablated is None else measures.ABLATED_ROW_ACCURACY
        for position, found in right.items():
            if sum(map(len, found)):  # strings of one and two have no middle
                value = float(torch.cat(found).float().mean())
                scores.append(RunScore(measure, value, position=position, component=str(ablated or "")))
    return scores


def _scored_rows(output: Float[Tensor, "batch pos d_model"], test: EvalSet) -> Float[Tensor, "row d_model"]:
    return output[:, list(test.layout.scored(test.length))].flatten(0, 1)
