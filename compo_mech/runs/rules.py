"""The rules that a run was trained on, by which another rule of the same name is told apart."""

from compo_mech.data.rule import rule_checksum
from compo_mech.data.tasks import Task
from compo_mech.runs.config import RunConfig
from compo_mech.runs.stored import stored_environment
from compo_mech.runs.vouched import RunError, Vouched


def rules_of(config: RunConfig) -> dict[str, dict[str, str]]:
    """Return the checksum of each task's rule, as `rules` of environment.json."""
    return {"rules": {str(task): rule_checksum(task) for task in config.data.tasks}}


def rule_changed(run: Vouched, config: RunConfig) -> Task | None:
    """Return the first task whose rule is not what the run's folder says; None: there is none, or it says nothing."""
    try:
        rules = dict(stored_environment(run)["rules"])
    except (RunError, KeyError, TypeError, ValueError):
        return None
    return next((task for task in config.data.tasks if rules.get(str(task), own := rule_checksum(task)) != own), None)
