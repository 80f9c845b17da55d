"""What was found of the update of states, as a section of a run's page."""

import html
from typing import TYPE_CHECKING

from compo_mech.analyses.examine import Seen
from compo_mech.analyses.state_update import UpdateFindings
from compo_mech.analyses.update_probe import update_sentences
from compo_mech.model.config import ModelConfig
from compo_mech.plots import tables
from compo_mech.report.html_parts import table_html, wide
from compo_mech.report.probe_parts import CAVEAT, N_NEURONS, curve_rows, opening, rounded, site_name

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

N_TABLE_NEURONS = 40
N_TABLE_PAIRS = 30


def update_section(seen: Seen[UpdateFindings]) -> str:
    """Write the section of one task."""
    trained = seen.trained
    parts = opening(
        "State updated?",
        seen,
        update_sentences(seen),
        "Decoding s<sub>t</sub> on pairs (s, x) left out",
        "Answers that follow each variable",
    )
    if trained.left_out is not None:
        named = _named(trained.left_out, trained.layer, seen.model.config)
        parts.append("<h3>Each pair left out in turn</h3>" + table_html(rounded(named)))
    parts.append(f"<p class=quiet>{html.escape(CAVEAT)}</p>")
    parts.append(f"<h3>Which neurons of MLP {trained.layer}</h3>")
    parts.append(table_html(rounded(trained.neurons.head(N_NEURONS))))
    if trained.curve is not None:
        parts.append(table_html(curve_rows(trained.curve)))
    parts.append(
        "<p class=quiet>Added: what the neuron's part beyond sums over s and x adds to the right answer's logit above "
        "the mean of the other states' by the direct path. Below: fraction of states that are right when that part is "
        "taken out of so many neurons, in this order or at random.</p>"
    )
    parts.append(wide(_neuron_map(trained)))
    return "\n".join(parts)


def _named(left_out: "pd.DataFrame", mlp: int, config: ModelConfig) -> "pd.DataFrame":
    """Return the table with its sites, a column each, under the names of all pages."""
    return left_out.rename(columns=lambda name: site_name(name, mlp, config))


def _neuron_map(found: UpdateFindings) -> "go.Figure":
    """Draw the activations of the first neurons over pairs."""
    first = found.neurons["neuron"].head(N_TABLE_NEURONS).tolist()
    table = found.activations.head(N_TABLE_PAIRS)
    n_states = found.activations["s"].max()
    start = len(found.activations[found.activations["s"] == n_states]) and found.starts
    names = [f"{'EoI' if start and s == n_states else s}, {x}" for s, x in zip(table["s"], table["x"], strict=True)]
    values = [[float(v) for v in table[str(neuron)]] for neuron in first]
    rows = [list(column) for column in zip(*values, strict=True)]
    return tables.table_map(rows, [str(n) for n in first], names, "Activation of the first neurons on pairs s, x", "")
