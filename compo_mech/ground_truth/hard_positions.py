"""Circuits that find t in other ways than the textbook's: by halves, by counting, in sinusoids, a layer later."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.builder import SPARE_POSITIONS, Neuron
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.steps import Steps
from compo_mech.interventions.edges import POS, TOK, Reader, Writer


def n_positions(data: DataConfig) -> int:
    """Return how many positions a build of this data knows."""
    return data.layout.n_tokens(data.max_length) + SPARE_POSITIONS


class HalfLookups(Steps):
    """Two heads attend to [EoI], and each brings one digit of its position: neither is the lookup alone.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, HalfLookups
        >>> [f"{head}: {HalfLookups(DataConfig(), BuildOptions()).roles[head]}" for head in ("L0H0", "L0H1")]
        ['L0H0: lookup, high digit', 'L0H1: lookup, low digit']
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        n_ctx = n_positions(data)
        base = math.isqrt(n_ctx) + 1
        spaces = {"high": n_ctx // base + 1, "low": base, "pointer": n_ctx, "value": len(data.vocabulary)}
        super().__init__(data, rungs, spaces, n_layers=2, n_heads=2)
        digits = {"high": lambda e: e // base, "low": lambda e: e % base}
        lookups = [Writer("head", 0, head) for head in range(2)]
        for head, (name, digit) in enumerate(digits.items()):
            found = [{self.at("position", e): 1.0 for e in range(n_ctx) if digit(e) == d} for d in range(spaces[name])]
            _, key = self.bring(0, head, f"lookup, {name} digit", found, name)
            self.ask(0, head, key, self.words.end_of_input_id)
            self.true(POS, Reader("v", 0, head))
        for i, e in self.pairs:
            reads = {self.at(name, digit(e)): 1.0 for name, digit in digits.items()}
            self.ramp(0, reads, (1.2, 1.8), (self.at("position", i),), {self.at("pointer", i - e + 1): 1.0})
        self.subtracts(0, lookups)
        self.edges.update(self.fetch(1, 0, "iteration", Writer("mlp", 0)))
        self.update(1, [Writer("head", 1, 0)])


class Counted(Steps):
    """t is counted: a head attends to every row from [EoI] on alike, and the weight that [EoI] gets is 1 / t.

    Layer 0 marks the rows that see [EoI]; layer 1 counts them; layer 2 iterates. No position is subtracted.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, Counted
        >>> Counted(DataConfig(), BuildOptions()).roles["mlp1"]
        'makes a pointer of 1 / t'
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        spaces = {"flag": 1, "share": 1, "pointer": n_positions(data), "value": len(data.vocabulary)}
        super().__init__(data, rungs, spaces, n_layers=3, n_heads=1)
        end = self.at("token", self.words.end_of_input_id)
        for layer, role, into in ((0, "marks rows from [EoI] on", "flag"), (1, "counts rows from [EoI] on", "share")):
            self.bring(layer, 0, role, [{end: 1.0}], into)
            self.true(TOK, Reader("v", layer, 0))
        self.ask(0, 0, self.heads[0]["K"][0], self.words.end_of_input_id)
        self.heads[1]["K"][0, self.at("flag"), 0] = 1.0
        self.ask_always.add((1, 0))
        self.true(Writer("head", 0, 0), Reader("k", 1, 0))
        self.hats()
        self.edges.update(self.fetch(2, 0, "iteration", Writer("mlp", 1)))
        self.update(2, [Writer("head", 2, 0)])

    def hats(self) -> None:
        """Make the pointer: at t it is a hat of the share with its top at 1 / t and its feet at its neighbours."""
        tops = {t: 1 / t for t in range(1, self.data.max_length + 4)}
        for t, bend in tops.items():
            writes: dict[int, float] = {}
            for peak in (t - 1, t, t + 1):  # the hats that bend here: at their lower foot, at the top, at the upper one
                if peak not in tops or peak + 1 not in tops:
                    continue
                rise = 1 / (tops[peak] - tops[peak + 1])
                fall = 1 / (tops[peak - 1] - tops[peak]) if peak > 1 else 0.0
                writes[self.at("pointer", peak)] = {t - 1: rise, t: -rise - fall, t + 1: fall}[peak]
            self.neurons[1].append(Neuron({self.at("share"): 1.0}, -bend, writes))
        self.roles["mlp1"] = "makes a pointer of 1 / t"
        self.true(Writer("head", 1, 0), Reader("mlp", 1))


class Sinusoidal(Steps):
    """The textbook circuit over sinusoidal positions: six waves, so that codes of different positions overlap.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, Sinusoidal
        >>> Sinusoidal(DataConfig(), BuildOptions()).positions.shape[1]
        12
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        n_ctx = n_positions(data)
        codes = waves(n_ctx)
        overlap = (codes @ codes.T).fill_diagonal_(-1).max().item()
        spaces = {"end": codes.shape[1], "pointer": n_ctx, "value": len(data.vocabulary)}
        super().__init__(data, rungs, spaces, n_layers=2, n_heads=1, positions=codes)
        self.look_up(0, 0)
        gap = 1 - overlap
        for i, e in self.pairs:
            reads = {self.at("position", c): weight for c, weight in enumerate(codes[i].tolist())}
            reads |= {self.at("end", c): weight for c, weight in enumerate(codes[e].tolist())}
            self.ramp(0, reads, (2 - 0.9 * gap, 2 - 0.2 * gap), (), {self.at("pointer", i - e + 1): 1.0})
        self.subtracts(0, [Writer("head", 0, 0)])
        query, key = self.head(1, 0, "iteration", "token", "value")
        key[self.space["position"], : codes.shape[1]] = torch.eye(codes.shape[1], dtype=torch.float64)
        query[self.space["pointer"], : codes.shape[1]] = codes * self.scale / gap
        self.edges.update(self.read_by_head(1, 0, Writer("mlp", 0)))
        self.update(1, [Writer("head", 1, 0)])


def waves(n_ctx: int) -> Float[Tensor, "position code"]:
    """Return sines and cosines of six wavelengths, from 2.5 to 1.5 n_ctx in equal ratios, as codes of length 1."""
    n_waves = 6
    lengths = torch.logspace(math.log10(2.5), math.log10(1.5 * n_ctx), n_waves, dtype=torch.float64)
    angles = 2 * torch.pi * torch.arange(n_ctx, dtype=torch.float64)[:, None] / lengths
    return torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(n_waves)


class IdleLayer(Steps):
    """The textbook circuit in layers 1 and 2; layer 0 does nothing, or what distractors do.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, IdleLayer
        >>> sorted(IdleLayer(DataConfig(), BuildOptions()).roles)
        ['L1H0', 'L2H0', 'mlp1', 'mlp2']
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        n_ctx = n_positions(data)
        spaces = {"end": n_ctx, "pointer": n_ctx, "value": len(data.vocabulary)}
        super().__init__(data, rungs, spaces, n_layers=3, n_heads=2)
        self.look_up(1, 0)
        self.subtract(1, [Writer("head", 1, 0)])
        self.edges.update(self.fetch(2, 0, "iteration", Writer("mlp", 1)))
        self.update(2, [Writer("head", 2, 0)])
