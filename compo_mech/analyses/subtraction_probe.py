"""How an MLP subtracts positions: the verdict, the sentences and the tables of its probe."""

import pandas as pd

from compo_mech.analyses import position_subtraction
from compo_mech.analyses.examine import (
    Probe,
    Seen,
    probed,
    share,
)
from compo_mech.probing.unseen_pairs import Exposure


def subtraction_sentences(seen: "Seen[position_subtraction.SubtractionFindings]") -> list[str]:
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


def subtraction_verdict(own: "position_subtraction.SubtractionFindings") -> str:
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


def behaviour_sentence(own: "position_subtraction.SubtractionFindings", next_layer: int) -> str:
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


def _subtraction_tables(found: "position_subtraction.SubtractionFindings") -> dict[str, pd.DataFrame]:
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
    code=position_subtraction.__name__,
    name="position-subtraction",
    layers_before=1,
    examine=lambda model, config, task, seed, layer, full: position_subtraction.examine_subtraction(
        model, config.data, task, seed, layer, full, Exposure.of(config) if full else None
    ),
    measures=lambda found: list(found.measures()),
    sentences=subtraction_sentences,
    tables=_subtraction_tables,
)
