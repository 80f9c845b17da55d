"""What was found of the subtraction of positions, as a section of a run's page."""

import html

import pandas as pd

from compo_mech.analyses import position_subtraction
from compo_mech.analyses.examine import Seen
from compo_mech.analyses.subtraction_probe import subtraction_sentences
from compo_mech.plots import tables
from compo_mech.report.html_parts import table_html, wide
from compo_mech.report.probe_parts import (
    CAVEAT,
    N_NEURONS,
    curve_rows,
    held_dots,
    probe_dots,
    probe_rows,
    rounded,
)
from compo_mech.weights.positions import effective_dimension, fourier_power, position_gram, toeplitz_share


def subtraction_section(seen: "Seen[position_subtraction.SubtractionFindings]") -> str:
    """The section of one task."""
    own, fresh = seen.own, seen.fresh
    said = subtraction_sentences(seen)
    parts = [f"<h2>Positions subtracted? {html.escape(str(seen.task))}, step {seen.step}</h2>"]
    parts += [f"<p class=verdict>{html.escape(said[0])}</p>"]
    parts += ["<ul>", *(f"<li>{html.escape(text)}</li>" for text in said[1:]), "</ul>"]
    parts.append(wide(probe_dots(own.probes, fresh.probes, "Telling t on pairs of positions left out")))
    parts.append(wide(held_dots(own.held, fresh.held, "Answers that follow t")))
    parts.append(table_html(probe_rows(own.probes, fresh.probes)))
    parts.append(f"<p class=quiet>{html.escape(CAVEAT)}</p>")
    if own.neurons is not None and own.curve is not None:
        parts.append(f"<h3>Which neurons of MLP {own.layer}</h3>")
        parts.append(table_html(rounded(own.neurons.head(N_NEURONS))))
        parts.append(table_html(curve_rows(own.curve)))
        parts.append(
            "<p class=quiet>Added: norm of the output weights times the size of what the neuron has beyond sums over i "
            "and j. Below: share of states that are right when that part is taken out of so many neurons, in this "
            "order or at random.</p>"
        )
    parts.append("<h3>Position embeddings</h3>")
    parts.append(_geometry(seen))
    return "\n".join(parts)


def _geometry(seen: "Seen[position_subtraction.SubtractionFindings]") -> str:
    """Gram matrix and figures of the position embeddings that are read."""
    data = seen.run.config.data
    positions = range(data.layout.n_read(data.max_length))
    rows = []
    for name, params in (("network", seen.model.params), ("fresh network", seen.control.params)):
        power = fourier_power(params, positions)
        top = power.argsort(descending=True)[:3].tolist()
        rows.append(
            {
                "": name,
                "effective dimension": f"{effective_dimension(params, positions):.1f} of {len(positions) - 1}",
                "Gram by i - j alone": f"{toeplitz_share(params, positions):.2f}",
                "strongest frequencies (share of power)": ", ".join(f"{k} ({power[k]:.2f})" for k in top),
            }
        )
    gram = position_gram(seen.model.params, positions)
    names = [str(p) for p in positions]
    figure = tables.table_map(gram.tolist(), names, names, "Inner products of centred position embeddings", "")
    return table_html(pd.DataFrame(rows)) + wide(figure)
