"""What the probes found, in words and as sections of a run's page."""

import html
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from compo_mech import charts
from compo_mech.metrics import Interval
from compo_mech.report import table_html, wide
from compo_mech.weights import effective_dimension, fourier_power, position_gram, toeplitz_share
from probes import position_subtraction as subtraction
from probes import state_update as update
from probes.rule_or_table import Exposure
from probes.running import Probe, Seen

N_NEURONS = 12
N_TABLE_NEURONS = 40
N_TABLE_PAIRS = 30

CAVEAT = (
    "Interchange accuracy is about one half by chance: it is the mean over answers that have to change and answers "
    "that have to stay. “Same” sources share the other variables with the base, “free” ones do not. Placebo: a change "
    "of the same size in a random direction. Arbitrary: the value of another source. Probes are linear discriminants, "
    "tested on pairs that they were not trained on."
)


# ------------------------------------------------------------------ subtraction of positions


def subtraction_sentences(seen: "Seen[subtraction.Findings]") -> list[str]:
    """The verdict on the subtraction and what it rests on."""
    own, fresh = seen.own, seen.fresh
    mlp, next_layer = f"MLP {own.layer}", own.layer + 1
    out, query = own.best_held("mlp_out", "free"), own.best_held("q", "free")
    found = [f"{mlp} subtracts positions: {subtraction_verdict(own)}."]
    found.append(
        f"Used: with the layer-{next_layer} query of another string put in, "
        f"{_share(query)} of the answers are those for its t (same-size change {query['placebo']:.0%}, values of other "
        f"strings {query['arbitrary']:.0%}, fresh network {fresh.best_held('q', 'free')['interchange']:.0%}); with "
        f"{mlp}'s output alone {_share(out)} (fresh {fresh.best_held('mlp_out', 'free')['interchange']:.0%})."
    )
    probe, before = own.probe("MLP output"), own.probe("MLP input")
    found.append(
        f"Decodable: on pairs of positions left out, a probe tells t from {mlp}'s output in {_probe(probe)} of cases, "
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
    parts.append(wide(_probe_dots(own.probes, fresh.probes, "Telling t on pairs of positions left out")))
    parts.append(wide(_held_dots(own.held, fresh.held, "Answers that follow t")))
    parts.append(table_html(_probe_rows(own.probes, fresh.probes)))
    parts.append(f"<p class=quiet>{html.escape(CAVEAT)}</p>")
    if own.neurons is not None and own.curve is not None:
        parts.append(f"<h3>Which neurons of MLP {own.layer}</h3>")
        parts.append(table_html(_rounded(own.neurons.head(N_NEURONS))))
        parts.append(table_html(_curve_rows(own.curve)))
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


# ------------------------------------------------------------------------------ state update


def update_sentences(seen: "Seen[update.Findings]") -> list[str]:
    """The verdict on the update and what it rests on."""
    own, fresh = seen.own, seen.fresh
    mlp = f"MLP {own.layer}"
    found = [f"{mlp} updates the state: {update_verdict(own)}."]
    held = own.held.set_index(["variable", "others"])
    out, other = (f.held[(f.held["variable"] == "answer") & (f.held["others"] == "free")].iloc[0] for f in (own, fresh))
    found.append(
        f"Used: with {mlp}'s output of another string put in, {_share(out)} of the answers are that string's "
        f"(same-size change {out['placebo']:.0%}, values of other strings {out['arbitrary']:.0%}, fresh network "
        f"{other['interchange']:.0%})."
    )
    if ("x", "free") in held.index:
        x = own.held[(own.held["variable"] == "x") & (own.held["others"] == "free")].iloc[0]
        found.append(f"x_t comes through layer {own.layer}'s attention: {_share(x)} of the answers follow it.")
    for row in own.subspaces.to_dict("records"):
        name = {"s": "s_{t-1}", "x": "x_t"}[str(row["variable"])]
        found.append(
            f"In {mlp}'s input {row['dims']} direction{'s' * (row['dims'] > 1)} spanned by class means hold {name}: "
            f"{row['interchange']:.0%} of the answers follow what is swapped there (random directions "
            f"{row['random']:.0%}); they have {row['share']:.0%} of the variance."
        )
    if own.overlap is not None:
        found.append(f"The two subspaces overlap by {own.overlap:.2f} (mean squared cosine; 1: one within the other).")
    probe, before = own.probe("MLP output"), own.probe("MLP input")
    found.append(
        f"Decodable: on pairs (s, x) left out, a probe tells s_t from {mlp}'s output in {_probe(probe)} of cases, from "
        f"the stream after it in {_probe(own.probe('stream after'))}, from its input in {before['linear']:.0%}, with "
        f"shuffled labels in {probe['shuffled']:.0%}, in the fresh network in "
        f"{fresh.probe('MLP output')['linear']:.0%}; from s alone {own.guess_from_s:.0%} and from x alone "
        f"{own.guess_from_x:.0%} can be told at best."
    )
    if own.left_out is not None:
        told = ", ".join(
            f"({row['s']}, {row['x']}): {row['MLP output']:.0%}" for row in own.left_out.to_dict("records")
        )
        found.append(f"Each pair left out in turn, from {mlp}'s output: {told}.")
    if "separable" in own.probes:
        found.append(
            f"A line parts the states right in {before['separable']:.0%} of rows before {mlp} and in "
            f"{probe['separable']:.0%} of them after it."
        )
    if own.computed:
        cut = own.additive
        found.append(
            f"Needed: with its output made a sum of a function of s and one of x {cut.additive.mean:.0%} of states are "
            f"right, with as much taken out at random {cut.placebo.mean:.0%}, as it is {cut.whole.mean:.0%}."
        )
        found.append(_neuron_sentence(own))
    return found


def update_verdict(own: "update.Findings") -> str:
    """Yes or no, and why."""
    if not own.computed:
        return "nothing to compute; the new state is a sum of a function of s and one of x, which takes no MLP"
    if own.holds and own.decodable and own.needed:
        return (
            "yes; its output holds s_t, also of pairs left out, and answers need what it has beyond sums over s and x"
        )
    if own.followed and own.decodable and own.needed:
        return (
            "in part; its output holds s_t for most answers, also of pairs left out, and they need what it has beyond "
            "sums over s and x"
        )
    missing = [
        said
        for said, fails in (
            ("answers do not follow its output", not own.followed),
            ("s_t is not decodable from it better than before it", not own.decodable),
            ("answers do not need what it has beyond sums over s and x", not own.needed),
        )
        if fails
    ]
    return "no; " + ", ".join(missing)


def _neuron_sentence(own: "update.Findings") -> str:
    """How many neurons make what is beyond sums."""
    shares = own.neurons["share"].cumsum()
    half, most = (int((shares < level).sum()) + 1 for level in (0.5, 0.9))
    name = "the exclusive or" if len(own.neurons) and own.left_out is not None and own.guess_from_s <= 0.5 else "it"
    return (
        f"Neurons: of the right answer's lead by what is beyond sums, {half} of {len(own.neurons)} neurons make half "
        f"and {most} make 90%" + (f"; that is {name}." if name != "it" else ".")
    )


def update_section(seen: "Seen[update.Findings]") -> str:
    """The section of one task."""
    own, fresh = seen.own, seen.fresh
    said = update_sentences(seen)
    parts = [f"<h2>State updated? {html.escape(str(seen.task))}, step {seen.step}</h2>"]
    parts += [f"<p class=verdict>{html.escape(said[0])}</p>"]
    parts += ["<ul>", *(f"<li>{html.escape(text)}</li>" for text in said[1:]), "</ul>"]
    parts.append(wide(_probe_dots(own.probes, fresh.probes, "Telling s<sub>t</sub> on pairs (s, x) left out")))
    parts.append(wide(_held_dots(own.held, fresh.held, "Answers that follow each variable")))
    parts.append(table_html(_probe_rows(own.probes, fresh.probes)))
    if own.left_out is not None:
        parts.append("<h3>Each pair left out in turn</h3>" + table_html(_rounded(own.left_out)))
    parts.append(f"<p class=quiet>{html.escape(CAVEAT)}</p>")
    parts.append(f"<h3>Which neurons of MLP {own.layer}</h3>")
    parts.append(table_html(_rounded(own.neurons.head(N_NEURONS))))
    if own.curve is not None:
        parts.append(table_html(_curve_rows(own.curve)))
    parts.append(
        "<p class=quiet>Added: what the neuron's part beyond sums over s and x adds to the right answer's logit above "
        "the mean of the other states' by the direct way. Below: share of states that are right when that part is "
        "taken out of so many neurons, in this order or at random.</p>"
    )
    parts.append(wide(_neuron_map(own)))
    return "\n".join(parts)


def _neuron_map(own: "update.Findings") -> go.Figure:
    """Activations of the first neurons over pairs."""
    first = own.neurons["neuron"].head(N_TABLE_NEURONS).tolist()
    table = own.table.head(N_TABLE_PAIRS)
    n_states = own.table["s"].max()
    start = len(own.table[own.table["s"] == n_states]) and own.starts
    names = [f"{'EoI' if start and s == n_states else s}, {x}" for s, x in zip(table["s"], table["x"], strict=True)]
    values = [[float(v) for v in table[str(neuron)]] for neuron in first]
    rows = [list(column) for column in zip(*values, strict=True)]
    return charts.table_map(rows, [str(n) for n in first], names, "Activation of the first neurons on pairs s, x", "")


# ------------------------------------------------------------------------------------- both


def trajectories(frame: pd.DataFrame, title: str) -> str:
    """Figures over training, a panel a measure, with the control dotted."""
    panels: dict[str, dict] = {}
    control: dict[str, dict[str, float]] = {}
    for (measure, site), rows in frame.groupby(["measure", "site"], sort=False):
        own = rows[rows["step"] >= 0]
        if site == "raw embeddings":
            continue
        points = list(zip(own["value"], own["low"], own["high"], strict=True))
        panels.setdefault(str(measure), {})[str(site)] = (own["step"].tolist(), points)
        control.setdefault(str(measure), {})[str(site)] = float(rows[rows["step"] < 0]["value"].iloc[0])
    return "<h3>Over training</h3>" + wide(charts.by_step(panels, control, title))


def _share(row: Mapping | pd.Series) -> str:
    return f"{row['interchange']:.0%} ({row['low']:.0%} .. {row['high']:.0%})"


def _probe(row: pd.Series) -> str:
    return f"{row['linear']:.0%} ({row['low']:.0%} .. {row['high']:.0%})"


def _probe_dots(own: pd.DataFrame, fresh: pd.DataFrame, title: str) -> go.Figure:
    controls: dict[str, Sequence[float | None]] = {
        "fresh network": fresh["linear"].tolist(),
        "shuffled labels": own["shuffled"].tolist(),
        "small MLP as probe": own["mlp"].tolist(),
        "as a number": own["numeric"].tolist(),
    }
    values = list(zip(own["linear"], own["low"], own["high"], strict=True))
    return charts.dots(own["site"].tolist(), values, controls, title, "share told right")


def _held_dots(own: pd.DataFrame, fresh: pd.DataFrame, title: str) -> go.Figure:
    names = [f"{row.get('variable', 't')} at {row['site']}, {row['others']}" for row in own.to_dict("records")]
    controls = {
        "fresh network": fresh["interchange"].tolist(),
        "placebo": own["placebo"].tolist(),
        "arbitrary": own["arbitrary"].tolist(),
    }
    values = list(zip(own["interchange"], own["low"], own["high"], strict=True))
    return charts.dots(names, values, controls, title, "interchange accuracy")


def _probe_rows(own: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """The figures of each site, in brackets the fresh network's."""
    rows = []
    for mine, other in zip(own.to_dict("records"), fresh.to_dict("records"), strict=True):
        row = {"site": mine["site"], "probe": f"{Interval(mine['linear'], mine['low'], mine['high'])}"}
        row["fresh"] = f"{other['linear']:.2f}"
        row["shuffled (chance)"] = f"{mine['shuffled']:.2f} ({mine['chance_low']:.2f} .. {mine['chance_high']:.2f})"
        row |= {"small MLP": f"{mine['mlp']:.2f}", "as a number": f"{mine['numeric']:.2f}"}
        if "separable" in mine:
            row["line"] = f"{mine['separable']:.2f} [{other['separable']:.2f}]"
        for name, key in (("sum of both", "additive"), ("class", "label"), ("class beyond sum", "beyond")):
            row[name] = f"{mine[key]:.2f} [{other[key]:.2f}]".replace("-0.00", "0.00")
        rows.append(row)
    return pd.DataFrame(rows)


def _curve_rows(curve: pd.DataFrame) -> pd.DataFrame:
    counts = [str(n) for n in curve["n_neurons"]]
    return pd.DataFrame(
        [
            {"neurons": name} | dict(zip(counts, map("{:.2f}".format, curve[column]), strict=True))
            for name, column in (("in this order", "chosen"), ("at random", "random"))
        ]
    )


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    def shown(value: object) -> object:
        return f"{value:.3f}" if isinstance(value, float) else value

    return table.map(shown)


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


def _update_tables(found: "update.Findings") -> dict[str, pd.DataFrame]:
    cut = found.additive
    tables = {"probes": found.probes, "interchange": found.held, "subspaces": found.subspaces, "neurons": found.neurons}
    tables["activations"] = found.table
    tables["additive"] = pd.DataFrame(
        [{"as it is": cut.whole.mean, "additive": cut.additive.mean, "placebo": cut.placebo.mean}]
    )
    if found.left_out is not None:
        tables["left-out"] = found.left_out
    return tables if found.curve is None else tables | {"without-neurons": found.curve}


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

UPDATE = Probe(
    name="state-update",
    layers_before=0,
    examine=lambda model, config, task, seed, layer, full: update.examine(model, config.data, task, seed, layer, full),
    measures=lambda found: list(found.measures()),
    sentences=update_sentences,
    tables=_update_tables,
    section=update_section,
    trajectories=trajectories,
)
