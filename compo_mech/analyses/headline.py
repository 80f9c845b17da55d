"""What the heads of a trained network do, in a clause: what a run's headline begins with."""

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.interventions.head_ablation import Ablations, best_guess
from compo_mech.interventions.head_roles import name_heads
from compo_mech.interventions.role_able import is_able
from compo_mech.interventions.role_headline import headline
from compo_mech.interventions.role_sentences import Heads
from compo_mech.model.params import Model
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run

N_STRINGS = 32
"""Test strings of each length."""


def cause(model: Model, data: DataConfig, task: Task) -> str:
    """Say in a clause which heads carry x_t, by intervention; it is the same each time.

    A network that is not right often enough is asked nothing more.
    """
    generator = torch.Generator().manual_seed(0)
    sets = drawn_sets(data, task, N_STRINGS, model.device)
    ablations = Ablations(model, sets, "mean", generator, N_STRINGS)
    guess = best_guess(task, sets)
    if not is_able(ablations.whole, guess):
        return headline(Heads((), None, None, ablations.whole, guess, ()))
    return headline(name_heads(ablations, data, generator, task=task))


def run_causes(run: Run) -> dict[str, str]:
    """Say for each measured task what the heads do at the run's last checkpoint, or why that cannot be told."""
    tasks = run.config.data.measured_tasks
    try:
        model = Model(run.params(None), run.config.model)
        return {str(task): cause(model, run.config.data, task) for task in tasks}
    except (RunError, ValueError) as error:  # a checkpoint that is damaged, or weights that are not finite
        return dict.fromkeys(map(str, tasks), f"what heads do cannot be told ({error})")
