"""Where the components of a network are drawn in the picture of a circuit."""

from collections import defaultdict
from collections.abc import Set

from compo_mech.interventions.edges import POS, TOK, Reader, Writer, all_readers, embedding_writers
from compo_mech.model.config import ModelConfig

MAX_HEADS = 32
"""Of a network that is drawn whole."""


def is_large(config: ModelConfig) -> bool:
    """Return whether only the components that edges touch are drawn."""
    return config.n_layers * config.n_heads > MAX_HEADS


def spots_of(config: ModelConfig, touched: Set[str]) -> dict[str, tuple[float, float]]:
    """Return where each component is drawn, by name: embeddings below, then heads and MLP of each layer, logits on top.

    Args:
        config: of the network.
        touched: names of those that an edge begins or ends at: of a large network only these are drawn.
    """
    spread = max(1.0, config.n_heads / 2)
    sides = {TOK: -0.5 * spread, POS: 0.5 * spread}
    spots = {component_name(writer): (sides[writer], 0.0) for writer in embedding_writers(config)}
    for reader in all_readers(config):
        stage = stage_of(reader, config.n_layers)
        x = 0.0 if reader.head is None else (reader.head - (config.n_heads - 1) / 2) * 1.2
        if reader.kind == "mlp":  # aside, so that edges past it can be distinguished from edges into it
            x = (config.n_heads - 1) / 2 * 1.2 + 0.9
        spots[component_name(reader)] = (x, float(stage))
    return _closer({name: spot for name, spot in spots.items() if name in touched}) if is_large(config) else spots


def _closer(spots: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Without the empty stages, and the components of each side by side."""
    stages: dict[float, list[str]] = defaultdict(list)
    for name, (_, y) in spots.items():
        stages[y].append(name)
    widest = max(map(len, stages.values()), default=1)
    found = {}
    for row, stage in enumerate(sorted(stages)):
        names = stages[stage]
        for place, name in enumerate(names):
            x = (place - (len(names) - 1) / 2) * 1.2
            found[name] = (widest * 0.6 + 0.6 if name.startswith("mlp") else x, float(row))
    return found


def component_name(end: Writer | Reader) -> str:
    """`tok`, `L0H1`, `mlp0`, `logits`: the component that an end of an edge belongs to."""
    return str(Writer("head", end.layer, end.head)) if end.head is not None else str(end)


def stage_of(end: Writer | Reader, n_layers: int) -> int:
    """Return in which row, from below, the component that an end of an edge belongs to is drawn."""
    if end.layer is None:
        return 2 * n_layers + 1 if end.kind == "logits" else 0
    return 2 * end.layer + (2 if end.kind == "mlp" else 1)
