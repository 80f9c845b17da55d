"""Which runs can share a stack: those of the same shapes and steps that are measured alike."""

from collections.abc import Mapping, Sequence

from compo_mech.runs.config import RunConfig
from compo_mech.runs.differences import differences
from compo_mech.runs.names import folder_problem
from compo_mech.runs.vouched import RunError
from compo_mech.settings import changed

OWN = (
    *("seed", "start_from", "model.init"),
    *("optim.lr", "optim.weight_decay", "optim.n_warmup_steps", "optim.decay_share", "train.label_noise"),
    *("data.task_weights", "data.task_loss_weights", "data.length_weights", "data.length_loss_weights"),
    "data.curriculum",
)
"""Settings that each run of a stack may have its own of, as long as the same tasks and lengths are measured."""


def of_seeds(config: RunConfig, seeds: Sequence[int]) -> dict[str, RunConfig]:
    """Return the members of a stack whose runs differ in their seed alone, by their names, seed0 and so on."""
    return {f"seed{seed}": config.model_copy(update={"seed": seed}) for seed in seeds}


def shared_settings(config: RunConfig) -> str:
    """Return what the runs of a stack have in common, as text: runs with the same can share one."""
    told = config.model_dump(mode="json")
    for name in OWN:
        group, _, setting = name.rpartition(".")
        del (told[group] if group else told)[setting]
    return f"{told} {_measured(config)}"


def check_members(members: Mapping[str, RunConfig]) -> None:
    """Refuse runs that cannot share a stack.

    Raises:
        RunError: one line that names the setting in which they differ, or the name that is none.
    """
    first = next(iter(members.values()))
    for name, config in members.items():
        if (problem := folder_problem(name)) is not None:
            raise RunError(f"run = {name!r}: {problem}")
        for setting, ours, theirs in differences(first, config):
            if setting not in OWN:
                raise RunError(f"{setting} = {theirs!r}: must be {ours!r}, as of the other runs of its stack")
        if _measured(config) != _measured(first):
            tasks, lengths = _measured(first)
            raise RunError(f"data of {name}: must ask about {tasks} at lengths {lengths}, as the others of its stack")


def own_settings(first: RunConfig, config: RunConfig) -> dict[str, object]:
    """Return the settings in which a run differs from the first of its stack, by dotted name, as JSON has them."""
    return {name: own for name, _, own in differences(first, config)}


def with_own(first: RunConfig, own: Mapping[str, object]) -> RunConfig:
    """Return the run that differs from the first in these settings, the inverse of `own_settings`.

    Raises:
        ValueError: there is no such setting, or it cannot have its value.
    """
    return changed(first, own)


def _measured(config: RunConfig) -> tuple[str, str]:
    """The tasks and lengths that a run is asked about."""
    return " ".join(map(str, config.data.measured_tasks)), " ".join(map(str, config.data.drawn_lengths))
