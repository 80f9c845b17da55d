"""The rules that a run was trained on, by which another rule of the same name is told apart."""

from compo_mech.data.rule import rule_checksum
from compo_mech.runs.config import RunConfig
from compo_mech.runs.stored import stored_environment
from compo_mech.runs.vouched import RunError, Vouched


def rules_of(config: RunConfig) -> dict[str, dict[str, str]]:
    """Return the checksum of each task's rule, as `rules` of environment.json."""
    return {"rules": {str(task): rule_checksum(task) for task in config.data.tasks}}


def check_rules(run: Vouched, config: RunConfig) -> None:
    """Refuse a folder whose tasks had other rules when it was made; one that says nothing of rules is let pass.

    Raises:
        RunError: a task has another rule now.
    """
    try:
        rules = dict(stored_environment(run)["rules"])
    except (RunError, KeyError, TypeError, ValueError):
        return
    for task in config.data.tasks:
        if rules.get(str(task), own := rule_checksum(task)) != own:
            raise RunError(f"data.tasks = {task}: must have the rule that {run.path} was trained on, and has another")
