"""The page of a network on anybody's prompts."""

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from compo_mech.analyses import own_prompt_tables as texts
from compo_mech.analyses.own_prompts import PromptFindings, moving_positions
from compo_mech.circuits.circuit import Circuit
from compo_mech.circuits.selection import score_order
from compo_mech.plots.circuits import circuit_graph
from compo_mech.plots.faithfulness import faithfulness_by_size
from compo_mech.plots.patching import effect_maps
from compo_mech.report import thresholds
from compo_mech.report.document import document
from compo_mech.report.html_parts import again, table_html, verdict, wide

N_SHOWN = 24
"""Rows of a map or a table, and edges of a picture: those of largest effect."""

N_PROMPTS = 12
MAX_DRAWN = 400
"""Edges of a circuit beyond which only the largest are drawn: more are a blot."""

N_LETTERS = 80


def page(found: PromptFindings, title: str, command: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        found: on the prompts.
        title: above it.
        command: that makes it, after `python`; none: it was made by a call.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p class=quiet>{html.escape(_network(found))}</p>"]
    parts.append(verdict(texts.sentences(found), thresholds.CIRCUIT))
    parts += ["<h2>Prompts</h2>", table_html(_prompt_rows(found)), f"<p class=quiet>{_more_prompts(found)}</p>"]
    parts += ["<h2>Patching</h2>", wide(patching_map(found))]
    parts.append(f"<p class=quiet>{html.escape(_patching_note(found))}</p>")
    parts += ["<h2>Edges</h2>", table_html(_edge_rows(found))]
    parts.append(
        f"<p class=quiet>Rise of the logit difference of foil and answer when an edge carries what it does on the "
        f"corrupt prompts: by EAP with integrated gradients of {found.settings.n_steps} steps, and patched.</p>"
    )
    parts += ["<h2>Circuit</h2>", wide(circuit_picture(found))]
    if found.curve is not None:
        circuit = found.discovery.circuit if found.discovery else None
        parts.append(wide(faithfulness_by_size(found.curve, found.random, len(circuit) if circuit else None)))
    parts.append(f"<p class=quiet>{html.escape(texts.areas_sentence(found))}</p>")
    if command:
        parts += ["<h2>How to reproduce</h2>", again(command)]
    return document(title, "\n".join(parts))


def patching_map(found: PromptFindings) -> go.Figure:
    """Return the map of components and positions, those of largest effect."""
    unit, effects = ("logits", found.effects) if found.fractions is None else ("fraction", found.fractions)
    largest = effects.abs().max(1).values.argsort(descending=True, stable=True)[:N_SHOWN]
    shown = sorted(largest.tolist())  # deeper layers above
    labels, positions = texts.position_labels(found.pairs), list(moving_positions(found.pairs))
    columns = [labels[position] for position in positions]
    rows = effects[shown][:, positions].tolist()
    names = [str(found.sites[i]) for i in shown]
    figure = effect_maps({"": rows}, columns, names, "How far one component at one position goes", unit)
    figure.update_xaxes(tickangle=60 if max(map(len, columns)) > 4 else 0, automargin=True)
    return figure


def circuit_picture(found: PromptFindings) -> go.Figure:
    """Return the circuit as a graph, or, where there is none, the edges of largest score."""
    circuit = found.circuit
    order = [edge for edge in score_order(found.scores) if circuit is None or edge in circuit.edges]
    if circuit is not None and len(order) <= MAX_DRAWN:
        return circuit_graph(circuit, f"The circuit: {len(order)} of {len(found.scores.edges)} edges")
    n = N_SHOWN if circuit is None else MAX_DRAWN
    what = "No circuit" if circuit is None else f"A circuit of {len(order)} edges"
    return circuit_graph(Circuit.of(found.model.config, order[:n], found.scores), f"{what}: the {n} of largest score")


def _network(found: PromptFindings) -> str:
    config = found.model.config
    return (
        f"{config.n_layers} layers × {config.n_heads} heads, d_model {config.d_model}, {len(found.scores.edges)} "
        f"edges; {len(found.pairs.clean_tokens)} pairs of up to {found.pairs.clean_tokens.shape[1]} tokens."
    )


def _prompt_rows(found: PromptFindings) -> pd.DataFrame:
    table = texts.answers(found).head(N_PROMPTS)
    shown = {
        "clean": [_end(text) for text in table["clean"]],
        "answer": table["answer"].map(repr),
        "p(answer)": table["p_answer_clean"].map("{:.3f}".format),
        "p(foil)": table["p_foil_clean"].map("{:.3f}".format),
        "corrupt": [_end(text) for text in table["corrupt"]],
        "foil": table["foil"].map(repr),
        "p(foil), corrupt": table["p_foil_corrupt"].map("{:.3f}".format),
        "p(answer), corrupt": table["p_answer_corrupt"].map("{:.3f}".format),
    }
    return pd.DataFrame(shown)


def _end(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= N_LETTERS else f"…{text[-N_LETTERS:]}"


def _more_prompts(found: PromptFindings) -> str:
    n = len(found.pairs.target)
    return f"The first {N_PROMPTS} of {n} answers." if n > N_PROMPTS else "All answers."


def _patching_note(found: PromptFindings) -> str:
    heads = "z: heads, each by itself"
    if found.settings.by == "layers":
        heads = "attn_out: all heads of a layer together"
    what = "Rise of the logit difference of foil and answer"
    if found.fractions is not None:
        what = "Fraction of the way from the clean to the corrupt prompts' logit difference"
    return (
        f"{what} when one component carries what it does on the corrupt prompts, at one position; {heads}. Shown are "
        f"{min(N_SHOWN, len(found.sites))} of {len(found.sites)} components of largest effect, from the first token "
        "that differs to the last answer; a position is named by its token where all prompts have it, or by its span."
    )


def _edge_rows(found: PromptFindings) -> pd.DataFrame:
    by_edge = dict(zip(found.scores.edges, found.scores.scores.tolist(), strict=True))
    kept = found.discovery.kept if found.discovery else frozenset()
    rows: Sequence[dict[str, str]] = [
        {
            "edge": str(edge),
            "EAP-IG": _three_decimals(by_edge[edge]),
            "exact": _three_decimals(score),
            "in circuit": "●" if edge in kept else "",
        }
        for edge, score in zip(found.exact.edges, found.exact.scores.tolist(), strict=True)
    ]
    return pd.DataFrame(rows)


def _three_decimals(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"
