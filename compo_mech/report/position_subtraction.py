"""What was found of the subtraction of positions, as a section of a run's page."""

import html

from compo_mech.analyses.examine import Seen
from compo_mech.analyses.position_subtraction import SubtractionFindings
from compo_mech.analyses.subtraction_probe import subtraction_sentences
from compo_mech.plots import tables
from compo_mech.report.html_parts import table_html, wide
from compo_mech.report.probe_parts import CAVEAT, N_NEURONS, curve_rows, opening, rounded
from compo_mech.weights.positions import effective_dimension, fourier_power, position_gram, toeplitz_share


def subtraction_section(seen: Seen[SubtractionFindings]) -> str:
    """Write the section of one task."""
    trained = seen.trained
    parts = opening(
        "Positions subtracted?",
        seen,
        subtraction_sentences(seen),
        "Decoding t on pairs of positions left out",
        "Answers that follow t",
    )
    parts.append(f"<p class=quiet>{html.escape(CAVEAT)}</p>")
    if trained.neurons is not None and trained.curve is not None:
        parts.append(f"<h3>Which neurons of MLP {trained.layer}</h3>")
        parts.append(table_html(rounded(trained.neurons.head(N_NEURONS))))
        parts.append(table_html(curve_rows(trained.curve)))
        parts.append(
            "<p class=quiet>Added: norm of the output weights times the size of what the neuron has beyond sums over i "
            "and j. Below: fraction of states that are right when that part is taken out of so many neurons, in this "
            "order or at random.</p>"
        )
    parts.append("<h3>Position embeddings</h3>")
    parts.append(_geometry(seen))
    return "\n".join(parts)


def _geometry(seen: Seen[SubtractionFindings]) -> str:
    """Draw the Gram matrix and write the figures of the position embeddings that are read."""
    import pandas as pd

    data = seen.run.config.data
    positions = range(data.layout.n_read(data.max_length))
    rows = []
    for name, params in (("trained", seen.model.params), ("control", seen.control_model.params)):
        power = fourier_power(params, positions)
        top = power.argsort(descending=True)[:3].tolist()
        rows.append(
            {
                "network": name,
                "effective dimension": f"{effective_dimension(params, positions):.1f} of {len(positions) - 1}",
                "Gram by i - j alone": f"{toeplitz_share(params, positions):.2f}",
                "strongest frequencies (share of power)": ", ".join(f"{k} ({power[k]:.2f})" for k in top),
            }
        )
    gram = position_gram(seen.model.params, positions)
    names = [str(p) for p in positions]
    figure = tables.table_map(gram.tolist(), names, names, "Inner products of centred position embeddings", "")
    return table_html(pd.DataFrame(rows)) + wide(figure)
