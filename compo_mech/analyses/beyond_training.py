"""How often a network is right on strings of every length and with shifted position ids, in training and beyond it.

All other analyses ask about what training drew. What a network makes of lengths that were never drawn, or of position
ids shifted further, is a question of its own, which this alone asks.
"""

from typing import TYPE_CHECKING

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Task
from compo_mech.evaluation.accuracy import token_accuracy
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.model.finite import check_weights
from compo_mech.model.params import Model

if TYPE_CHECKING:
    import pandas as pd


@torch.no_grad()
def accuracy_table(model: Model, data: DataConfig, task: Task, shifts: Shifts, n_strings: int) -> "pd.DataFrame":
    """Measure accuracy at every length of the data, unshifted, at the largest shift of training and one beyond it.

    Args:
        model: the network.
        data: what it was trained on.
        task: one of the data's.
        shifts: of position ids, as in training or as built.
        n_strings: test strings of each length.

    Returns:
        Columns length, shift, trained (whether training draws both), accuracy (fraction of the scored tokens that is
        right, given the true ones before) and n (strings); shifts for which the network has no positions have no row,
        and none has one in a network that embeds no positions.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=2)
    >>> table = accuracy_table(built.model, built.data, Parity(), built.shifts, n_strings=8)
    >>> table.groupby("trained")["accuracy"].min().round(2).tolist()  # shifted strings are not what it is built for
    [0.25, 1.0]
    """
    import pandas as pd

    check_weights(model)
    rows = []
    largest = shifts.largest if shifts.answered else 0
    asked = {0, largest, largest + 1} if model.config.positional_embedding == "standard" else {0}
    for test in (one for one in eval_sets(data, n_strings, model.device) if one.task == task):
        for shift in sorted(asked):
            if data.layout.n_read(test.length) + shift <= model.n_ctx:
                trained = test.length in data.drawn_lengths and shift <= largest
                rows.append((test.length, shift, trained, _accuracy(model, test, shift), len(test.tokens)))
    return pd.DataFrame(rows, columns=pd.Index(["length", "shift", "trained", "accuracy", "n"]))


def _accuracy(model: Model, test: EvalSet, shift: int) -> float:
    _, logits = run_graph(model, embeddings(model, test.read, test.position_ids + shift))
    return float(token_accuracy(logits[:, list(test.layout.scored(test.length))], test.targets))


def beyond_sentence(table: "pd.DataFrame") -> str | None:
    """Say what a network makes of what it was not trained on; None where nothing of that kind was asked.

    >>> import pandas as pd
    >>> rows = [(3, 0, True, 1.0, 8), (4, 0, False, 0.5, 16), (3, 1, False, 0.75, 8)]
    >>> beyond_sentence(pd.DataFrame(rows, columns=["length", "shift", "trained", "accuracy", "n"]))
    'Beyond training: 50% of the tokens are right in strings of length 4; 75% with position ids shifted by 1.'
    """
    import pandas as pd

    beyond = pd.DataFrame(table[~table["trained"]])
    lengths, parts = beyond[beyond["shift"] == 0], []
    if len(lengths):
        named = ", ".join(map(str, lengths["length"]))
        parts.append(f"{lengths['accuracy'].mean():.0%} of the tokens are right in strings of length {named}")
    drawn = table.loc[table["trained"], "length"].unique()
    shifted = beyond[beyond["length"].isin(drawn)]
    if len(shifted):
        right = "" if parts else " of the tokens are right"
        shift = shifted["shift"].iloc[0]
        parts.append(f"{shifted['accuracy'].mean():.0%}{right} with position ids shifted by {shift}")
    return f"Beyond training: {'; '.join(parts)}." if parts else None
