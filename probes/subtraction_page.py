"""What was found of the subtraction of positions, in words and as a section of a run's page."""

import html

import pandas as pd

from compo_mech import charts
from compo_mech.report import table_html, wide
from compo_mech.weights import effective_dimension, fourier_power, position_gram, toeplitz_share
from probes import position_subtraction as subtraction
from probes.pieces import (
    CAVEAT,
    N_NEURONS,
    curve_rows,
    held_dots,
    probe_dots,
    probe_rows,
    probed,
    rounded,
    share,
    trajectories,
)
from probes.rule_or_table import Exposure
from probes.running import Probe, Seen


def subtraction_sentences(seen: "Seen[subtraction.Findings]") -> list[str]:
    """The verdict on the subtraction and what it rests on."""
    own, fresh = seen.own, seen.fresh
    mlp, next_layer = f"MLP {own.layer}", own.layer + 1
    out, query = own.best_held("mlp_out", "free"), own.best_held("q", "free")
    found = [f"{mlp} subtracts positions: {subtraction_verdict(own)}."]
    found.append(
        f"Used: with the layer-{next_layer} query of another string put in, "
        f"{share(query)} of the answers are those for its t (same-size change {query['placebo']:.0%}, values of other "
        f"strings {query['arbitrary']:.0%}, fresh network {fresh.best_held('q', 'free')['interchange']:.0%}); with "
        f"{mlp}'s output alone {share(out)} (fresh {fresh.best_held('mlp_out', 'free')['interchange']:.0%})."
    )
    probe, before = own.probe("MLP output"), own.probe("MLP input")
    found.append(
        f"Decodable: on pairs of positions left out, a probe tells t from {mlp}'s output in {probed(probe)} of cases, "
        f"from its input in {before['linear']:.0%}, from the position embeddings in "
        f"{own.probe('raw embeddings')['linear']:.0%}, with shuffled labels in {probe['shuffled']:.0%}, in the fresh "
        f"network in {fresh.probe('MLP output')['linear']:.0%}; from i alone at best {own.guess_from_i:.0%}."
    )
    rows = {name: (own.probe(name), fresh.probe(name)) for name in ("MLP input", "MLP output", "query")}
    shares = ", ".join(f"{name} {a['beyond']:.0%} (fresh {b['beyond']:.0%})" for name, (a, b) in rows.items())
    found.append(
        f"t alone explains {own.score} of the query's variance over pairs (fresh {fresh.score.mean:.2f}). Beyond every "
        f"sum of a function of i and one of j it explains, of the variance: {shares}."
    )
    cut = own.additive["MLP output"]
    found.append(
        f"Needed: with {mlp}'s output made such a sum {cut.additive.mean:.0%} of states are right, with as much taken "
        f"out at random {cut.placebo.mean:.0%}, as it is {cut.whole.mean:.0%}."
    )
    if own.kind is not None:
        words = {"rule": "a rule", "table": "a table", "neither": "neither a rule nor a table"}
        found.append(
            f"Rule or table, by the weights: {words[own.kind.verdict]}; i - j explains "
            f"{own.kind.by_difference:.0%} of an average neuron's variance, and it is active on "
            f"{own.kind.n_pairs:.0f} pairs (fresh {fresh.kind.by_difference if fresh.kind else 0:.0%})."
        )
    found.append(behaviour_sentence(own, next_layer))
    return found


def subtraction_verdict(own: "subtraction.Findings") -> str:
    """Yes, in part or no, and why."""
    if own.decodable and own.holds("mlp_out"):
        return "yes; t is decodable from its output and answers follow it"
    if own.followed and own.decodable and own.needed("MLP output"):
        return (
            "in part; t is decodable from its output, answers follow the next layer's query, and they need what it "
            "has beyond sums over i and j; but its output without the rest of the stream does not hold t"
        )
    missing = [
        said
        for said, fails in (
            ("t is not decodable from its output better than from its input or i alone", not own.decodable),
            ("answers do not follow the t of its output", not own.holds("mlp_out")),
            ("answers do not follow the t of the next layer's query", not own.followed),
            ("answers do not need what it has beyond sums over i and j", not own.needed("MLP output")),
        )
        if fails
    ]
    return "no; " + ", ".join(missing)


def behaviour_sentence(own: "subtraction.Findings", next_layer: int) -> str:
    """Rule or table, by pairs that were never trained on."""
    found = own.behaviour
    if found is None:
        return (
            "Rule or table, by behaviour: not testable, since training left out no pair of positions whose parts it "
            "had with others (leave out some lengths, with data.length_weights, and shift position ids)."
        )
    words = {
        "rule": "a rule: it does pairs that were never trained on",
        "table": "a table: it fails at pairs that were never trained on",
        "neither": "in between",
        "not able": "not to be told, since trained pairs fail as well",
    }
    text = (
        f"Rule or table, by behaviour: {words[found.verdict]}. At {len(found.unseen)} pairs of positions never trained "
        f"on together {found.unseen_accuracy} of states are right, at trained ones {found.seen_accuracy}; best guess "
        f"{found.guess:.2f}."
    )
    if found.rescued is not None:
        text += f" With the layer-{next_layer} query of a trained pair of the same t: {found.rescued}."
    return text


def subtraction_section(seen: "Seen[subtraction.Findings]") -> str:
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


def _geometry(seen: "Seen[subtraction.Findings]") -> str:
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
    figure = charts.table_map(gram.tolist(), names, names, "Inner products of centred position embeddings", "")
    return table_html(pd.DataFrame(rows)) + wide(figure)


def _subtraction_tables(found: "subtraction.Findings") -> dict[str, pd.DataFrame]:
    cuts = [
        {"site": site, "as it is": w.whole.mean, "additive": w.additive.mean, "placebo": w.placebo.mean}
        for site, w in found.additive.items()
    ]
    tables = {"probes": found.probes, "interchange": found.held, "additive": pd.DataFrame(cuts)}
    tables["scores"] = pd.DataFrame([{"score": found.score.mean, "low": found.score.low, "high": found.score.high}])
    if found.neurons is not None and found.curve is not None:
        tables |= {"neurons": found.neurons, "without-neurons": found.curve}
    return tables


SUBTRACTION = Probe(
    name="position-subtraction",
    layers_before=1,
    examine=lambda model, config, task, seed, layer, full: subtraction.examine(
        model, config.data, task, seed, layer, full, Exposure.of(config) if full else None
    ),
    measures=lambda found: list(found.measures()),
    sentences=subtraction_sentences,
    tables=_subtraction_tables,
    section=subtraction_section,
    trajectories=trajectories,
)
