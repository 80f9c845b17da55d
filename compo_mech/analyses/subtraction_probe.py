"""How an MLP subtracts positions: the verdict, the sentences and the tables of its probe."""

from typing import TYPE_CHECKING

from compo_mech.analyses import examine, position_subtraction
from compo_mech.analyses.examine import Answer, Probe, ProbeVerdict, Seen
from compo_mech.analyses.position_subtraction import SubtractionFindings
from compo_mech.causal.interchange import FOLLOWED
from compo_mech.probing.unseen_pairs import MIN_PAIRS, ROOM, Exposure
from compo_mech.stats.intervals import counted, on_its_side, two_decimals
from compo_mech.weights.subtraction import FEW_PAIRS, RULE, RULE_MEDIAN, TABLE

if TYPE_CHECKING:
    import pandas as pd

ASKED = (
    "Asked: is t = i - j + 1 decodable from its output, and do answers become F(s_{t-1}, x_{t'}) with the t' of "
    "another string put in, and with another position i of the row alone?"
)


def subtraction_sentences(seen: Seen[SubtractionFindings]) -> list[str]:
    """Say the verdict on the subtraction and what it rests on."""
    trained, control = seen.trained, seen.control
    said = [
        f"MLP {trained.layer} subtracts positions: {subtraction_verdict(trained)}.",
        ASKED,
        _used(trained, control),
        _own_position(trained, control),
        _decodable(trained, control),
        _explained(trained, control),
        _needed(trained),
    ]
    if trained.kind is not None:
        said.append(_rule_or_table(trained, control))
    return [*said, behaviour_sentence(trained)]


def _used(trained: SubtractionFindings, control: SubtractionFindings) -> str:
    out, query = trained.best_site("mlp_out", "independent"), trained.best_site("q", "independent")
    control_out, control_query = (control.best_site(kind, "independent") for kind in ("mlp_out", "q"))
    return (
        f"Used: with the layer-{trained.layer + 1} query of another string put in, {examine.iia_text(query)} of the "
        f"answers are those for its t ({examine.beside_text(query, control_query)}); with MLP {trained.layer}'s "
        f"output alone {examine.iia_text(out)} ({examine.beside_text(out, control_out)})."
    )


def _own_position(trained: SubtractionFindings, control: SubtractionFindings) -> str:
    found, other = trained.own_position, control.own_position
    low = on_its_side(found.accuracy.low, FOLLOWED, percent=True)
    return (
        f"From the row's own position: with the row alone at the position of the row of another t, "
        f"{found.accuracy.mean:.0%} ({low} .. {found.accuracy.high:.1%}) of the answers are those for that t (an "
        f"interval above {FOLLOWED:.0%} needed; same-size change {found.placebo:.0%}, permuted labels "
        f"{found.permuted:.0%}, control {other.accuracy.mean:.0%}); a network that counts rows would not follow."
    )


def _decodable(trained: SubtractionFindings, control: SubtractionFindings) -> str:
    probe = trained.probe("MLP output")
    before, embedded = (trained.probe(site)["linear"] for site in ("MLP input", "raw embeddings"))
    return (
        f"Decodable: on pairs of positions left out, a probe decodes t from MLP {trained.layer}'s output in "
        f"{examine.with_interval(probe, 'linear')} of cases (decodable if the interval lies above all of these: from "
        f"its input {before:.0%}, from the position embeddings {embedded:.0%}, from i alone "
        f"{trained.guess_from_i:.0%}, by chance {probe['chance_high']:.0%} at most; permuted labels "
        f"{probe['permuted']:.0%}, control {control.probe('MLP output')['linear']:.0%})."
    )


def _explained(trained: SubtractionFindings, control: SubtractionFindings) -> str:
    rows = {name: (trained.probe(name), control.probe(name)) for name in ("MLP input", "MLP output", "query")}
    shares = ", ".join(f"{name} {a['beyond']:.0%} (control {b['beyond']:.0%})" for name, (a, b) in rows.items())
    return (
        f"t alone explains {trained.score} of the query's variance over pairs (control {control.score.mean:.2f}). "
        f"Beyond every sum of a function of i and one of j it explains, of the variance: {shares}."
    )


def _needed(trained: SubtractionFindings) -> str:
    cut = trained.additive["MLP output"]
    return f"Needed: with MLP {trained.layer}'s output made such a sum {examine.needed_text(cut)}."


def _rule_or_table(trained: SubtractionFindings, control: SubtractionFindings) -> str:
    kind, other = trained.kind, control.kind
    assert kind is not None
    words = {
        "rule": "a rule",
        "table": "a table",
        "neither": "neither a rule nor a table",
        "cannot be told": f"cannot be told, since i - j explains more than {TABLE:.0%} of anything on so few pairs",
    }
    mean = on_its_side(kind.by_difference, RULE if kind.by_difference > (RULE + TABLE) / 2 else TABLE, percent=True)
    median, few = on_its_side(kind.median_by_difference, RULE_MEDIAN, percent=True), FEW_PAIRS * kind.all_pairs
    explained, active = "no control", "no control"
    if other is not None:
        explained = f"control {other.by_difference:.0%} and {other.median_by_difference:.0%}"
        active = f"control {other.median_n_pairs:.1f}"
    return (
        f"Rule or table, by the weights: {words[kind.verdict]}; of neurons' variance i - j explains {mean} in the mean "
        f"and {median} in the median (a rule: {RULE:.0%} and {RULE_MEDIAN:.0%} or more; {explained}), and the median "
        f"neuron is active on {on_its_side(kind.median_n_pairs, few, decimals=1)} of {counted(kind.all_pairs, 'pair')} "
        f"(a table: at most {few:.1f}, and at most {TABLE:.0%} explained in the mean; {active})."
    )


def subtraction_verdict(found: SubtractionFindings) -> ProbeVerdict:
    """Answer whether the MLP subtracts positions, and why."""
    if found.decodable and not found.updates:
        reason = (
            "t is decodable from its output, but answers do not follow s_{t-1}, so that those that another t would "
            "make are not known"
        )
        return ProbeVerdict(Answer.CANNOT_BE_TOLD, (reason,))
    moves = found.own_position.followed
    if moves and not found.decodable:
        reason = "answers follow the row's own position, but t is not decodable from its output"
        return ProbeVerdict(Answer.CANNOT_BE_TOLD, (reason,))
    if found.decodable and found.holds("mlp_out") and moves:
        return ProbeVerdict(
            Answer.YES, ("t is decodable from its output, and answers follow it and the row's own position",)
        )
    if found.followed and found.decodable and found.additive["MLP output"].needed and moves:
        reason = (
            "t is decodable from its output, answers follow the next layer's query and the row's own position, and "
            "they need what it has beyond sums over i and j; but its output without the rest of the stream does not "
            "hold t"
        )
        return ProbeVerdict(Answer.IN_PART, (reason,))
    return ProbeVerdict.no(
        {
            "t is not decodable from its output better than from its input or i alone": not found.decodable,
            "answers do not follow the t of its output": not found.holds("mlp_out"),
            "answers do not follow the t of the next layer's query": not found.followed,
            "answers do not need what it has beyond sums over i and j": not found.additive["MLP output"].needed,
            "answers do not follow the row's own position": not moves,
        }
    )


def behaviour_sentence(trained: SubtractionFindings) -> str:
    """Say whether it is a rule or a table, by pairs that were never trained on."""
    found = trained.behaviour
    if found is None:
        return (
            "Rule or table, by behaviour: not testable, since training left out no pair of positions whose parts it "
            "had with others (leave out some lengths, with data.length_weights, and shift position ids)."
        )
    seen, guess, n = found.seen_accuracy.mean, found.guess, len(found.unseen)
    words = {
        "rule": "a rule: it does pairs that were never trained on",
        "table": "a table: it fails at pairs that were never trained on",
        "neither": "in between",
        "not able": f"cannot be told, since at trained pairs it does not exceed the best guess by {ROOM:.2f}",
        "cannot be told": f"cannot be told from {counted(n, 'pair')} ({MIN_PAIRS} needed)",
    }
    (rule, table), (mean, low, high) = found.levels, found.unseen_accuracy
    least, most = on_its_side(low, rule), on_its_side(high, table)
    text = (
        f"Rule or table, by behaviour: {words[found.verdict]}. At {counted(n, 'pair')} of positions never trained on "
        f"together {two_decimals(mean)} ({least} .. {most}) of states are right (a rule: an interval from {rule:.2f} "
        f"on; a table: up to {table:.2f}), at trained ones {on_its_side(seen, guess + ROOM)} "
        f"({two_decimals(found.seen_accuracy.low)} .. {two_decimals(found.seen_accuracy.high)}); best guess "
        f"{guess:.2f}."
    )
    if found.rescued is not None:
        text += f" With the layer-{trained.layer + 1} query of a trained pair of the same t: {found.rescued}."
    return text


def _subtraction_tables(found: SubtractionFindings) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    cuts = [
        {"site": site, "as it is": w.whole.mean, "additive": w.additive.mean, "placebo": w.placebo.mean}
        for site, w in found.additive.items()
    ]
    tables = {"probes": found.probes, "interchange": found.interchanges, "additive": pd.DataFrame(cuts)}
    tables["row-changes"] = _row_changes(found)
    tables["scores"] = pd.DataFrame([{"score": found.score.mean, "low": found.score.low, "high": found.score.high}])
    if found.neurons is not None and found.curve is not None:
        tables |= {"neurons": found.neurons, "without-neurons": found.curve}
    return tables


def _row_changes(found: SubtractionFindings) -> "pd.DataFrame":
    """A row for each change of the row itself: its position, and s_{t-1} in its embedding where the task uses it."""
    import pandas as pd

    scores = {"position": found.own_position, "state": found.state}
    rows = [
        {"changed": changed, "iia": score.accuracy.mean, "low": score.accuracy.low, "high": score.accuracy.high}
        | {name: getattr(score, name) for name in ("follows", "keeps", "placebo", "permuted", "n")}
        for changed, score in scores.items()
        if score is not None
    ]
    return pd.DataFrame(rows)


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
