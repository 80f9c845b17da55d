"""Networks into which circuits were trained: five tasks, three algorithms each, two seeds.

A folder of them has `NAME.safetensors`, parameters under TransformerLens' names, for each network that was accepted,
and `networks.json`, a row for each that was trained: what it is, what was found when it was verified, why it was not
accepted if so, its true edges, and the digest of its weights.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Polynomial, Task
from compo_mech.ground_truth.causal_graph import CausalGraph
from compo_mech.ground_truth.given_circuits import CIRCUITS
from compo_mech.ground_truth.interchange_training import train_in
from compo_mech.ground_truth.verification import MAX_SHIFT, Verification, verify
from compo_mech.interventions.edges import Edge
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model
from compo_mech.runs.files import read_plain
from compo_mech.runs.tensor_files import tensors_from_bytes

MAX_LENGTH = 4
N_STEPS, MAX_ROUNDS = 600, 4
"""Of a round of training, and rounds until a network is accepted or given up."""
TABLE = "networks.json"

CIRCUITS_OF: tuple[tuple[Task, tuple[str, str, str]], ...] = (
    (Copy(), ("textbook", "moved and split", "neighbour")),
    (Parity(), ("textbook", "moved and split", "prefix sums")),
    (Counter(modulus=3), ("textbook", "moved and split", "prefix sums")),
    (Polynomial(modulus=3), ("textbook", "moved and split", "neighbour")),
    (Automaton(transitions=((1, 0), (2, 0), (2, 1))), ("textbook", "moved and split", "neighbour")),
)
"""Each task and the algorithms that are trained in for it, by their names in `CIRCUITS`."""


@dataclass(frozen=True)
class Recipe:
    """What a network is trained to be.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import Recipe
        >>> recipe = Recipe(Parity(), "moved and split", seed=1)
        >>> recipe.name, recipe.config.n_layers
        ('parity-moved-and-split-1', 3)
    """

    task: Task
    circuit: str
    seed: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.task.name}-{self.circuit.replace(' ', '-')}-{self.seed}"

    @property
    def data(self) -> DataConfig:
        """Task and lengths."""
        return DataConfig(tasks=(self.task,), max_length=MAX_LENGTH)

    @property
    def graph(self) -> CausalGraph:
        """The circuit."""
        return CIRCUITS[self.circuit](self.data)

    @property
    def config(self) -> ModelConfig:
        """The network: with LayerNorm, biases, and heads and neurons that the circuit has no use for."""
        n_layers = 1 + max(node.component.layer or 0 for node in self.graph.nodes)
        return ModelConfig(n_layers=n_layers, n_heads=2, d_model=32, d_mlp=64, biases=True, init="transformer_lens")

    def train(self) -> tuple[Model, Verification, int]:
        """Train the network in rounds until it is verified; return it, what was found, and how many rounds it took."""
        rounds, n_rounds = train_in(self.graph, self.data, self.config, N_STEPS, self.seed), 0
        while True:
            model, _ = next(rounds)
            found, n_rounds = verify(model, self.graph, self.data), n_rounds + 1
            if not found.problems or n_rounds == MAX_ROUNDS:
                return model, found, n_rounds


def recipes() -> list[Recipe]:
    """Return all thirty, those of the first seed first.

    Example:
        >>> from compo_mech.ground_truth.trained_in import recipes
        >>> len(recipes())
        30
    """
    return [Recipe(task, circuit, seed) for seed in (0, 1) for task, circuits in CIRCUITS_OF for circuit in circuits]


@dataclass(frozen=True)
class TrainedIn:
    """A network into which a circuit was trained, and what is true of it.

    Attributes:
        recipe: what it was trained to be.
        model: the network.
        edges: those that are true, of the graph and verified in the network: each moves its answer by itself, and no
            other edge does.
        verified: what was found, as it stands in the table.

    Example:
        >>> from compo_mech import Parity, build
        >>> from compo_mech.ground_truth import Recipe, TrainedIn
        >>> built = build(Parity(), max_length=2)
        >>> TrainedIn(Recipe(Parity(), "textbook", 0), built.model, built.edges, {}).shifts.largest
        2
    """

    recipe: Recipe
    model: Model
    edges: frozenset[Edge]
    verified: dict[str, Any] = field(repr=False)

    @property
    def data(self) -> DataConfig:
        """The task and lengths that it solves."""
        return self.recipe.data

    @property
    def shifts(self) -> Shifts:
        """Shifts of position ids, with which it was interchanged but whose strings it need not answer."""
        return Shifts(MAX_SHIFT, answered=False)

    @property
    def roles(self) -> dict[str, str]:
        """The variable that each component of its circuit carries."""
        return {str(node.component): node.variable for node in self.recipe.graph.nodes}


def table_row(recipe: Recipe, weights: bytes, found: Verification, n_rounds: int) -> dict[str, Any]:
    """Return what the table of a folder says of a network whose weights are these bytes, after rounds of training."""
    figures = {name: round(getattr(found, name), 4) for name in ("accuracy", "outside_accuracy", "outside_change")}
    shares = {name: {v: round(x, 4) for v, x in getattr(found, name).items()} for name in ("follows", "keeps")}
    return {
        "name": recipe.name,
        "task": str(recipe.task),
        "circuit": recipe.circuit,
        "seed": recipe.seed,
        "n_steps": n_rounds * N_STEPS,
        "accepted": not found.problems,
        "problems": list(found.problems),
        **figures,
        **shares,
        "least_true_change": round(min(found.true_changes.values()), 4),
        "greatest_other_change": round(max(found.other_changes.values()), 4),
        "edges": sorted(map(str, recipe.graph.edges)),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }


def read_table(folder: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a folder's table; none if it has no table.

    Raises:
        ValueError: the table is damaged.

    Example:
        >>> from compo_mech.ground_truth.trained_in import read_table
        >>> read_table("/nowhere")
        []
    """
    file = Path(folder) / TABLE
    if not file.exists():
        return []
    try:
        return json.loads(read_plain(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} = damaged: must be JSON ({error})") from None


def written_table(rows: list[dict[str, Any]]) -> str:
    """Return the content of the file that a table is kept in."""
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def trained_in_networks(folder: str | Path) -> list[str]:
    """Return the names of the networks in a folder that were accepted; none if it has no table.

    Raises:
        ValueError: the table is damaged.

    Example:
        >>> from compo_mech.ground_truth import trained_in_networks
        >>> trained_in_networks("/nowhere")
        []
    """
    return [row["name"] for row in read_table(folder) if row["accepted"]]


def read_trained_in(folder: str | Path, name: str) -> TrainedIn:
    """Read a network that was accepted.

    Raises:
        ValueError: the table is damaged or has no such network, or weights are not those that it was written for.
        OSError: weights are missing.

    Example:
        >>> from compo_mech.ground_truth import read_trained_in
        >>> read_trained_in("/nowhere", "parity-textbook-0")
        Traceback (most recent call last):
        ValueError: name = parity-textbook-0: must be one of the accepted networks in /nowhere: none
    """
    accepted = {row["name"]: row for row in read_table(folder) if row["accepted"]}
    if name not in accepted:
        known = ", ".join(accepted) or "none"
        raise ValueError(f"name = {name}: must be one of the accepted networks in {folder}: {known}")
    row, file = accepted[name], Path(folder) / f"{name}.safetensors"
    content = read_plain(file)
    if hashlib.sha256(content).hexdigest() != row["weights_sha256"]:
        raise ValueError(f"{file.name} = other weights: must be those that {TABLE} was written for")
    recipe = Recipe(Task.read(row["task"]), row["circuit"], row["seed"])
    model = Model(tensors_from_bytes(content)[0], recipe.config)
    return TrainedIn(recipe, model, recipe.graph.edges, row)
