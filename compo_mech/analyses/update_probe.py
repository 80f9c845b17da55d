"""How an MLP updates the state: the verdict, the sentences and the tables of its probe."""

import pandas as pd

from compo_mech.analyses import state_update
from compo_mech.analyses.examine import (
    Probe,
    Seen,
    probed,
    share,
)


def update_sentences(seen: "Seen[state_update.UpdateFindings]") -> list[str]:
    """The verdict on the update and what it rests on."""
    own, fresh = seen.own, seen.fresh
    mlp = f"MLP {own.layer}"
    found = [f"{mlp} updates the state: {update_verdict(own)}."]
    held = own.held.set_index(["variable", "others"])
    out, other = (f.held[(f.held["variable"] == "answer") & (f.held["others"] == "free")].iloc[0] for f in (own, fresh))
    found.append(
        f"Used: with {mlp}'s output of another string put in, {share(out)} of the answers are that string's "
        f"(same-size change {out['placebo']:.0%}, values of other strings {out['arbitrary']:.0%}, fresh network "
        f"{other['interchange']:.0%})."
    )
    if ("x", "free") in held.index:
        x = own.held[(own.held["variable"] == "x") & (own.held["others"] == "free")].iloc[0]
        found.append(f"x_t comes through layer {own.layer}'s attention: {share(x)} of the answers follow it.")
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
        f"Decodable: on pairs (s, x) left out, a probe tells s_t from {mlp}'s output in {probed(probe)} of cases, from "
        f"the stream after it in {probed(own.probe('stream after'))}, from its input in {before['linear']:.0%}, with "
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


def update_verdict(own: "state_update.UpdateFindings") -> str:
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


def _neuron_sentence(own: "state_update.UpdateFindings") -> str:
    """How many neurons make what is beyond sums."""
    shares = own.neurons["share"].cumsum()
    half, most = (int((shares < level).sum()) + 1 for level in (0.5, 0.9))
    name = "the exclusive or" if len(own.neurons) and own.left_out is not None and own.guess_from_s <= 0.5 else "it"
    return (
        f"Neurons: of the right answer's lead by what is beyond sums, {half} of {len(own.neurons)} neurons make half "
        f"and {most} make 90%" + (f"; that is {name}." if name != "it" else ".")
    )


def _update_tables(found: "state_update.UpdateFindings") -> dict[str, pd.DataFrame]:
    cut = found.additive
    tables = {"probes": found.probes, "interchange": found.held, "subspaces": found.subspaces, "neurons": found.neurons}
    tables["activations"] = found.table
    tables["additive"] = pd.DataFrame(
        [{"as it is": cut.whole.mean, "additive": cut.additive.mean, "placebo": cut.placebo.mean}]
    )
    if found.left_out is not None:
        tables["left-out"] = found.left_out
    return tables if found.curve is None else tables | {"without-neurons": found.curve}


UPDATE = Probe(
    code=state_update.__name__,
    name="state-update",
    layers_before=0,
    examine=lambda model, config, task, seed, layer, full: state_update.examine_update(
        model, config.data, task, seed, layer, full
    ),
    measures=lambda found: list(found.measures()),
    sentences=update_sentences,
    tables=_update_tables,
)
