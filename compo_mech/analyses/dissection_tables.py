"""The findings of a dissection as tidy tables, whose columns say what each row is of."""

from collections.abc import Sequence

import pandas as pd

from compo_mech.analyses.network_findings import NetworkFindings, Patching, stages
from compo_mech.circuits.discovery import Discovery
from compo_mech.data.layout import WHOLE_SPANS, Layout
from compo_mech.interventions.head_ablation import Cost


def network_tables(found: NetworkFindings, layout: Layout) -> dict[str, pd.DataFrame]:
    """Every result on one network, by the table's name; what there is not is empty."""
    return {
        "heads": _heads_table(found),
        "ablations": _costs_table(found.ablations),
        "subsets": _costs_table(found.subsets),
        "greedy": _costs_table(found.greedy),
        "patching": _patching_table(found.patching, layout),
        "edges": _edges_table(found),
        "circuit": _circuit_table(found.discovery),
        "circuit_checks": pd.DataFrame() if found.checks is None else found.checks.table(),
        "accuracy": found.accuracy,
        "faithfulness": _curve_table(found),
        "routes": pd.DataFrame() if found.routes is None else found.routes.frame(),
    }


def _heads_table(found: NetworkFindings) -> pd.DataFrame:
    """A row a head: its role and the content that this is about, how many answers go with that and how many of those
    that need not change stay, and what logits and accuracy lose."""
    rows = []
    for role in found.heads.roles:
        counts, evidence = role.role.followed, role.evidence
        follows, stays = (None, None) if counts is None else (counts.follows, counts.stays)
        row = {
            "layer": role.writer.layer,
            "head": role.writer.head,
            "role": role.name,
            "content": role.role.content,
            "in_part": role.in_part,
            "with": " ".join(map(str, role.partners)),
        }
        for name, of in (("follows", follows), ("stays", stays)):
            bounds = (None,) * 3 if of is None else of
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))
        row |= {
            "n_changes": None if counts is None else counts.n_changes,
            "n_stays": None if counts is None else counts.n_stays,
            "permuted": None if counts is None else counts.permuted,
            "logits_moved": None if evidence is None else evidence.moved,
            "x_share": role.x,
            "end_share": role.end,
            "cost": role.cost,
        }
        rows.append(row)
    return pd.DataFrame(rows).astype({"n_changes": "Int64", "n_stays": "Int64"})


def _costs_table(costs: Sequence[Cost]) -> pd.DataFrame:
    rows = [
        {
            "components": " ".join(map(str, cost.components)),
            "n_components": len(cost.components),
            "baseline": cost.baseline,
            "accuracy": cost.accuracy,
            "cost": cost.cost,
        }
        for cost in costs
    ]
    return pd.DataFrame(rows)


def _patching_table(found: Patching, layout: Layout) -> pd.DataFrame:
    """A row an effect: of a stage or of one head, at a position of strings of one length or in a span of any."""
    labels, rows = layout.labels(found.length), list[dict[str, object]]()

    def by_position(effects: Sequence[float], component: str, layer: int | None, head: int | None) -> None:
        for position, (token, effect) in enumerate(zip(labels, effects, strict=True)):
            of: dict[str, object] = {"component": component, "layer": layer, "head": head}
            rows.append(
                of | {"position": position, "token": token, "span": None, "length": found.length, "effect": effect}
            )

    for (component, layer), effects in zip(stages(len(found.heads)), found.stages.tolist(), strict=True):
        by_position(effects, component, layer, None)
    for layer, heads in enumerate(found.heads.tolist()):
        for head, effects in enumerate(heads):
            by_position(effects, "head", layer, head)
            for span, effect in zip(WHOLE_SPANS, found.spans[layer, head].tolist(), strict=True):
                at = {"position": None, "token": None, "span": str(span), "length": None}
                rows.append({"component": "head", "layer": layer, "head": head} | at | {"effect": effect})
    return pd.DataFrame(rows).astype(dict.fromkeys(("layer", "head", "position", "length"), "Int64"))


def _edges_table(found: NetworkFindings) -> pd.DataFrame:
    scores, kept = found.discovery.scores, found.discovery.kept
    together = found.discovery.found.together if kept and found.discovery.found else frozenset()
    other = found.checks.alternative if found.checks else None
    first, second = (other.first, other.second or ()) if other else ((), ())
    flat = dict(zip(found.attribution.edges, found.attribution.zero_gradient, strict=True))
    attributed = dict(zip(found.attribution.edges, found.attribution.scores.tolist(), strict=True))
    rows = [
        {
            "writer": str(edge.writer),
            "reader": str(edge.reader),
            "exact": score,
            "eap_ig_20": attributed[edge],
            "in_circuit": edge in kept,
            "only_together": edge in together,
            "in_smallest": edge in first,
            "in_second": edge in second,
            "unidentifiable": hidden,
            "no_effect": idle,
            "zero_gradient": flat[edge],
        }
        for edge, score, hidden, idle in zip(
            scores.edges, scores.scores.tolist(), scores.unidentifiable, scores.no_effect, strict=True
        )
    ]
    return pd.DataFrame(rows)


def _circuit_table(found: Discovery) -> pd.DataFrame:
    row = {
        "verdict": found.verdict,
        "n_kept": len(found.kept),
        "n_edges": found.n_edges,
        "swap": found.swap,
        "held_out": found.held_out,
        "overlap": found.overlap,
        "clean_accuracy": found.accuracy.clean,
        "corrupt_accuracy": found.accuracy.corrupt,
    }
    return pd.DataFrame([row])


def _curve_table(found: NetworkFindings) -> pd.DataFrame:
    table = pd.DataFrame({"n_edges": found.curve.n_edges, "faithfulness": found.curve.faithfulness.tolist()})
    if found.random is not None:
        for name in ("mean", "low", "high"):
            table[f"random_{name}"] = getattr(found.random, name).tolist()
    return table
