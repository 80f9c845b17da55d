"""What a network does on prompts, as sentences and as tables."""

import pandas as pd

from compo_mech.analyses.own_prompts import PromptFindings
from compo_mech.circuits.discovery import HELD_OUT
from compo_mech.data.tokenizer import decoded, pieces
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.finite import likeliest
from compo_mech.stats.intervals import Interval, on_its_side, two_decimals

N_NAMED = 3
"""Components that a sentence names."""

ROUNDING = 1e-5
"""An edge moves the answers by more than this fraction of what the edge does that moves them most."""


def position_labels(pairs: Pairs) -> list[str]:
    """Return what stands at each position: the token where all clean rows have it, else a name of a span, or a dot."""
    names = [str(position) for position in range(pairs.clean_tokens.shape[1])]
    for position in range(len(names)):
        tokens = pairs.clean_tokens[:, position][pairs.read[:, position]].unique().tolist()
        spans = [name for name, where in pairs.spans.items() if where[:, position].any()]
        if spans:
            names[position] += f" {spans[0]}"
        elif len(tokens) == 1 and pairs.tokenizer is not None:
            names[position] += f" {pieces(pairs.tokenizer, tokens)[0]!r}"[:14]
    return names


def sentences(found: PromptFindings) -> list[str]:
    """Return what was found, for people."""
    pairs, n = found.pairs, len(found.pairs.target)
    right = (likeliest(found.clean_logits) == pairs.target).double().mean()
    foils = (likeliest(found.corrupt_logits) == pairs.foil).double().mean()
    first = (
        f"On {len(pairs.clean_tokens)} pairs ({n} answers) the network's likeliest token is the answer to {right:.0%} "
        f"of the clean prompts and the foil to {foils:.0%} of the corrupt ones; the corrupt prompts raise the logit "
        f"difference of foil and answer by {two_decimals(found.gap)}."
    )
    said = [first]
    if found.fractions is not None:
        largest = found.fractions.max(1).values
        order = largest.argsort(descending=True)[:N_NAMED].tolist()
        named = ", ".join(f"{found.sites[i]} ({two_decimals(float(largest[i]))})" for i in order)
        said.append(
            f"Patched at one position, these go furthest of the way to the corrupt prompts' answers: {named}; the "
            f"median of all {len(largest)} components is {two_decimals(float(largest.quantile(0.5)))}."
        )
    said.append(agreement(found))
    if found.discovery is None:
        said.append("Whether there is a circuit cannot be told from one pair, which has no halves.")
    else:
        text = found.discovery.sentence
        said.append(text[0].upper() + text[1:])
        if found.circuit is not None and found.discovery.held_out is not None:
            moved = on_its_side(found.discovery.held_out, HELD_OUT)
            said.append(
                f"Circuits of half of the prompts move {moved} of the answers to the others ({HELD_OUT} needed)."
            )
    return said


def agreement(found: PromptFindings) -> str:
    """Return how far the scores of the largest edges are what patching them does."""
    by_edge = dict(zip(found.scores.edges, found.scores.scores.tolist(), strict=True))
    pairs = [(by_edge[e], s) for e, s in zip(found.exact.edges, found.exact.scores.tolist(), strict=True)]
    rounding = ROUNDING * max((abs(other) for _, other in pairs), default=0.0)
    moving = [(one, other) for one, other in pairs if abs(other) > rounding]
    same = sum(one * other > 0 for one, other in moving)
    text = (
        f"Of the {len(pairs)} edges of largest EAP-IG score {len(moving)} move the answers when patched, {same} in "
        f"that direction ({len(moving) / 2:g} would by chance"
    )
    table = pd.DataFrame(pairs, columns=["attributed", "patched"]).rank()
    if len(pairs) > 2 and (table.nunique() > 1).all():  # else nothing is correlated
        text += f"; rank correlation {two_decimals(float(table['attributed'].corr(table['patched'])))}, 0 by chance"
    return f"{text})."


def tables(found: PromptFindings) -> dict[str, pd.DataFrame]:
    """Return every result as a tidy table, by name."""
    labels = position_labels(found.pairs)
    effects = pd.DataFrame(
        [
            (str(site), position, labels[position], value)
            for site, row in zip(found.sites, found.effects.tolist(), strict=True)
            for position, value in enumerate(row)
        ],
        columns=["site", "position", "label", "effect"],
    )
    edges = pd.DataFrame(
        {
            "writer": [str(edge.writer) for edge in found.scores.edges],
            "reader": [str(edge.reader) for edge in found.scores.edges],
            "eap_ig": found.scores.scores.tolist(),
            "unidentifiable": found.scores.unidentifiable,
        }
    )
    patched = {
        (str(e.writer), str(e.reader)): s for e, s in zip(found.exact.edges, found.exact.scores.tolist(), strict=True)
    }
    edges["exact"] = [patched.get(ends) for ends in zip(edges["writer"], edges["reader"], strict=True)]
    kept = {(str(e.writer), str(e.reader)) for e in (found.discovery.kept if found.discovery else ())}
    edges["in_circuit"] = [ends in kept for ends in zip(edges["writer"], edges["reader"], strict=True)]
    curves = [] if found.curve is None else [("score", found.curve), *(("random", curve) for curve in found.random)]
    faithfulness = pd.DataFrame(
        [
            (name, k, n, value)
            for k, (name, curve) in enumerate(curves)
            for n, value in zip(curve.n_edges, curve.faithfulness.tolist(), strict=True)
        ],
        columns=["order", "n_order", "n_edges", "faithfulness"],
    )
    return {"answers": answers(found), "patching": effects, "edges": edges, "faithfulness": faithfulness}


def answers(found: PromptFindings) -> pd.DataFrame:
    """Return the prompts with the probabilities of answer and foil on both inputs."""
    pairs, shown = found.pairs, found.pairs.tokenizer
    rows, places = pairs.row.tolist(), pairs.position.tolist()

    table: dict[str, list] = {"row": rows, "position": places}
    for name, tokens in (("clean", pairs.clean_tokens), ("corrupt", pairs.corrupt_tokens)):
        read = [tokens[row, : place + 1].tolist() for row, place in zip(rows, places, strict=True)]
        table[name] = [decoded(shown, ids) for ids in read]
    table |= {"answer": pieces(shown, pairs.target.tolist()), "foil": pieces(shown, pairs.foil.tolist())}
    for name, logits in (("clean", found.clean_logits), ("corrupt", found.corrupt_logits)):
        chances = logits.softmax(-1)
        table[f"p_answer_{name}"] = chances.gather(1, pairs.target[:, None])[:, 0].tolist()
        table[f"p_foil_{name}"] = chances.gather(1, pairs.foil[:, None])[:, 0].tolist()
    return pd.DataFrame(table)


def areas_sentence(found: PromptFindings) -> str:
    """Return how faithful circuits of growing size are, beside random ones."""
    if found.curve is None or found.curve.cpr is None:
        return "The corrupt prompts move nothing, so that there is no faithfulness."
    random = Interval.of([curve.cpr for curve in found.random if curve.cpr is not None])
    return (
        "Faithfulness: how much of the way from the corrupt prompts' logit difference to the clean ones' a circuit "
        "goes when all other edges carry what they do on the corrupt prompts. Area under the curve "
        f"{two_decimals(found.curve.cpr)}, of edges in random order {random}."
    )
