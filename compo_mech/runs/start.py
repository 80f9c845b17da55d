"""The weights that a run starts from, where they are another run's."""

from compo_mech.model.config import parameter_shapes
from compo_mech.model.params import Params
from compo_mech.runs.config import RunConfig
from compo_mech.runs.stack import is_stack
from compo_mech.runs.stacked_run import open_run
from compo_mech.runs.vouched import RunError


def starting_params(config: RunConfig) -> Params | None:
    """Read the weights that a run starts from, of the last checkpoint of `start_from`; None: random ones.

    Where that is a stack, they are those of its run of the same seed.

    Raises:
        RunError: there is no such run, it was not trained to its end, or its network or vocabulary is another.
    """
    if config.start_from is None:
        return None
    folder = config.start_from
    source = open_run(folder / f"seed{config.seed}" if is_stack(folder) else folder)
    what = f"start_from = {config.start_from}"
    for name, ours, theirs in (
        ("data.tasks", config.data.tasks, source.config.data.tasks),
        ("data.task_token", config.data.task_token, source.config.data.task_token),
    ):
        if ours != theirs:
            shown = (" ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in (ours, theirs))
            own, other = shown
            raise RunError(f"{what}: its vocabulary is another, {name} must be {other}, and is {own}")
    shapes = [parameter_shapes(c.model, len(c.data.vocabulary), c.n_ctx) for c in (config, source.config)]
    for name in dict.fromkeys((*shapes[0], *shapes[1])):
        own, other = (shape.get(name) for shape in shapes)
        if own != other:
            hint = f"; set model.n_ctx = {source.config.n_ctx}" if name == "pos_embed.W_pos" else ""
            own, other = own or "missing", other or "missing"
            raise RunError(f"{what}: its network is another, {name} is {other} there and {own} here{hint}")
    if not source.is_done:
        raise RunError(f"{what}: must be trained to its end, step {source.config.train.n_steps}")
    return source.params()
