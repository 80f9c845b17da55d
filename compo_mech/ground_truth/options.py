"""Options that make a hand-built circuit harder to find."""

from typing import Literal

from pydantic import Field, model_validator

from compo_mech.settings import Settings

Coordinate = Literal["lookup", "subtraction", "iteration", "update"]


class BuildOptions(Settings):
    """Options that make a build harder to analyse. The defaults are the pristine build; options combine.

    Example:
        >>> from compo_mech.ground_truth import BuildOptions
        >>> BuildOptions(backup=True, split=True)
        Traceback (most recent call last):
        ValueError: split = True: goes without backup, since both need the second head
    """

    sharpness: float = Field(default=30.0, gt=0, description="attention score of the right key")
    rotated: bool = Field(default=False, description="residual stream in a random orthogonal basis")
    distractors: bool = Field(default=False, description="spare heads and neurons write what no one reads")
    backup: bool = Field(default=False, description="a second head does all that the iteration head does")
    split: bool = Field(default=False, description="two heads divide the iteration: odd and even t")
    layer_norm: bool = Field(default=False, description="LayerNorm before every component")
    three_layers: bool = Field(default=False, description="subtraction in MLP 1, iteration and update in layer 2")
    noise: float = Field(default=0.0, ge=0, description="standard deviation added to every matrix and bias")
    route: Literal["diagonal", "neighbour", "state"] = Field(
        default="diagonal",
        description="where the iteration head finds x_t: at its own position; at the next one, to which layer 0 "
        "carries it; at the state's own row, which reads it in layer 0",
    )
    chain_of_thought: bool = Field(
        default=True, description="the circuit of the iteration head, or a shortcut to the last state"
    )
    subtraction: Literal["table", "difference", "gaps"] = Field(
        default="table",
        description="how t is made of the own position i and the position j of [EoI]: one neuron a pair; neurons "
        "that are functions of i - j alone; one neuron a pair with some pairs missing",
    )
    broken: Coordinate | None = Field(default=None, description="a decoy: this component of the circuit is broken")
    seed: int = Field(default=0, ge=0, description="of the basis, the noise, the distractors, the gaps and the decoy")

    @model_validator(mode="after")
    def _possible(self) -> "BuildOptions":
        if self.backup and self.split:
            raise ValueError("split = True: goes without backup, since both need the second head")
        if self.route == "state" and (self.backup or self.split):
            raise ValueError("route = state: goes without backup and split, since its head attends to its own row")
        if self.route == "state" and self.layer_norm:
            raise ValueError("layer_norm = True: goes without route = state, whose slots make the stream's size vary")
        if self.subtraction != "table" and self.route == "state":
            raise ValueError(f"subtraction = {self.subtraction}: goes without route = state, which has no pointer")
        if self.subtraction == "difference" and self.layer_norm:
            raise ValueError("subtraction = difference: goes without layer_norm, which divides numbers by a size")
        if self.subtraction == "difference" and self.noise:
            raise ValueError("subtraction = difference: goes without noise, which n_ctx multiplies")
        if not self.chain_of_thought:
            for name, plain in (
                ("backup", False),
                ("split", False),
                ("layer_norm", False),
                ("three_layers", False),
                ("route", "diagonal"),
                ("subtraction", "table"),
            ):
                if getattr(self, name) != plain:
                    raise ValueError(f"{name} = {getattr(self, name)}: goes with chain of thought")
            if self.broken not in (None, "update"):
                raise ValueError(f"broken = {self.broken}: without chain of thought must be update")
        return self
