"""One offline HTML page for a run: what came of it in a sentence, tables, curves, attention maps."""

import html
import json
import shlex
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from compo_mech import emergence, plotting
from compo_mech.attention import MIN_LENGTH, TEXTBOOK_SCORE, Verdict
from compo_mech.config import RunConfig
from compo_mech.evaluate import CONTROL, EvalSet
from compo_mech.forward import forward
from compo_mech.layout import Packing
from compo_mech.model import Params

ACCURACY_LEVEL = 0.99

_POINTER_COLUMNS = {"iteration": "iteration", "pointer_sharp_rows": "sharp"}

_STYLE = """
body { font-family: system-ui, sans-serif; color: #202124; max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid #4c5fd5; padding: .6rem 1rem; background: #f4f5fc; }
.quiet { color: #5f6368; font-size: .9rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e5e8; }
th { border-bottom: 2px solid #9aa0a6; vertical-align: bottom; } td.low { color: #b23a3a; }
code, pre { background: #f1f3f4; border-radius: 4px; padding: .1rem .3rem; overflow-x: auto; }
pre { padding: .7rem; }
"""


def sentence(metrics: pd.DataFrame, task: str) -> str:
    """What came of one task: the verdict on its heads, and when accuracy was there to stay."""
    last = metrics.step.max()
    of_task = metrics[(metrics.task == task) & (metrics.split != CONTROL)]
    means = of_task[of_task.split == "mean"]
    verdicts = means[(means.metric == "verdict") & (means.step == last)]
    pointers = verdicts[verdicts.layer > 0] if (verdicts.layer > 0).any() else verdicts
    if not len(pointers):
        found = f"{task}: no verdict on heads, which takes chain of thought and a length of {MIN_LENGTH} or more"
    else:
        final = means[(means.metric == "iteration") & (means.step == last)].set_index(["layer", "head"]).value
        ranked = pointers.assign(score=[final.get((r.layer, r["head"])) for _, r in pointers.iterrows()])
        best = ranked.sort_values(["value", "score"]).iloc[-1]
        where = f"layer {best.layer} head {best['head']}"
        curve = means[(means.metric == "iteration") & (means.layer == best.layer) & (means["head"] == best["head"])]
        if best.value == Verdict.TEXTBOOK:
            step = emergence.reached(curve.step.tolist(), curve.value.tolist(), TEXTBOOK_SCORE)
            found = f"{task}: an iteration head formed in {where} by step {step} (score {best.score:.2f})"
        else:
            found = (
                f"{task}: no textbook iteration head; {where} comes nearest, a {Verdict(int(best.value))} "
                f"pattern with score {best.score:.2f}"
            )
    accuracy = of_task[of_task.metric == "generated_accuracy"].groupby("step").value.min()
    step = emergence.reached(accuracy.index.tolist(), accuracy.tolist(), ACCURACY_LEVEL)
    if step is None:
        return f"{found}; accuracy did not reach 99% at every length (lowest at the end: {accuracy.iloc[-1]:.1%})."
    return f"{found}; accuracy reached 99% at every length at step {step}."


def length_table(metrics: pd.DataFrame, task: str) -> pd.DataFrame:
    """Final figures by length; each head's score beside the same score of a fresh model.

    Columns: split; accuracy generated and teacher-forced, grammar; then for each head its lookup
    (layer 0), or its iteration score and share of sharp rows (other layers, or a lone one), the
    control's in brackets.
    """
    of_task = metrics[(metrics.task == task) & metrics.length.notna()]
    last = of_task[(of_task.step == metrics.step.max()) & (of_task.split != CONTROL)]
    control = of_task[of_task.split == CONTROL].set_index(["length", "layer", "head", "metric"]).value.to_dict()
    heads = list(dict.fromkeys(last[last["head"].notna()][["layer", "head"]].itertuples(index=False, name=None)))
    several = any(layer > 0 for layer, _ in heads)
    rows = []
    for length, of_length in last.groupby("length"):
        plain = of_length[of_length["head"].isna()].set_index("metric").value
        row: dict[str, object] = {"length": length, "split": of_length.split.iloc[0]}
        row |= {"free": plain["generated_accuracy"], "forced": plain["accuracy"], "grammar": plain["grammar"]}
        values = of_length.set_index(["layer", "head", "metric"]).value.to_dict()
        for layer, head in heads:
            shown = {"lookup": "lookup"} if layer == 0 and several else _POINTER_COLUMNS
            for metric, column in shown.items():
                value, fresh = values.get((layer, head, metric)), control.get((length, layer, head, metric))
                row[f"L{layer}H{head} {column}"] = "–" if value is None else f"{value:.2f} [{fresh:.2f}]"
        rows.append(row)
    return pd.DataFrame(rows)


def page(
    name: str,
    config: RunConfig,
    params: Params,
    metrics: pd.DataFrame,
    sets: Sequence[EvalSet],
    command: Sequence[str],
) -> str:
    """The whole page. plotly's script is embedded once; nothing is fetched.

    Args:
        name: of the run.
        config: its settings.
        params: its final parameters.
        metrics: its long rows, the control's among them.
        sets: its test strings; the longest of each task is shown.
        command: that started it.
    """
    parts = [f"<h1>{html.escape(name)}</h1>"]
    model = config.model
    parts.append(
        f"<p class=quiet>{model.n_layers} layers × {model.n_heads} heads, d_model {model.d_model}; "
        f"{html.escape(', '.join(map(str, config.data.tasks)))}, lengths {config.data.min_length} to "
        f"{config.data.max_length}; {config.train.n_steps} steps of {config.data.batch_size} rows; "
        f"seed {config.seed}</p>"
    )
    tasks = [str(task) for task in config.data.measured_tasks]
    for task in tasks:
        parts.append(f"<p class=verdict>{html.escape(_capital(sentence(metrics, task)))}</p>")
    for task in tasks:
        of_task = f": {task}" if len(tasks) > 1 else ""
        parts.append(f"<h2>By length and head{html.escape(of_task)}</h2>")
        parts.append(f"<div class=wide>{_html_table(length_table(metrics, task))}</div>")
        parts.append(
            "<p class=quiet>Free, forced: share of test strings with every state and the end right, generated freely and "
            "teacher-forced; grammar: share that ends in time, once; split “all”: too few strings to hold any out. Scores: mean attention weight. "
            "Sharp: share of rows whose strongest key has weight ≥ 0.9 and is the same key for ≥ 95% of strings. "
            "In brackets the same figure of a freshly initialised model. Attention alone does not show that a head "
            "is used.</p>"
        )
        parts.append(f"<h2>Training{html.escape(of_task)}</h2>")
        parts.append(_figure(plotting.training_curves(metrics[metrics.split != CONTROL], task)))
        longest = max((s for s in sets if str(s.task) == task), key=lambda s: s.length)
        parts.append(f"<h2>Attention at the end{html.escape(of_task)}</h2>")
        parts.append(f"<div class=wide>{_figure(_maps(params, config, longest))}</div>")
    parts.append("<h2>How to reproduce</h2>")
    parts.append(f"<pre>{html.escape('python ' + shlex.join(command))}</pre>")
    settings = json.dumps(config.model_dump(mode="json"), indent=2)
    parts.append(f"<details><summary>All settings</summary><pre>{html.escape(settings)}</pre></details>")
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(name)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{body}</body></html>"
    )


def _maps(params: Params, config: RunConfig, test: EvalSet) -> go.Figure:
    """Mean attention over the test strings at every position that is read."""

    n_read = test.layout.n_read(test.length)
    tokens = test.tokens[:, :n_read]
    patterns: list = []
    forward(params, config.model, tokens, Packing.dense(*tokens.shape, device=tokens.device), patterns=patterns)
    labels = test.layout.labels(test.length)
    means = [pattern.detach().mean(0).cpu() for pattern in patterns]
    return plotting.attention_maps(means, labels, f"Mean attention over {len(tokens)} test strings of length {test.length}")


def _figure(figure: go.Figure) -> str:
    return plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config={"displaylogo": False})


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    body = ""
    for _, row in table.iterrows():
        cells = ""
        for name, value in row.items():
            share = name in ("free", "forced", "grammar")
            low = ' class="low"' if share and value < ACCURACY_LEVEL else ""
            cells += f"<td{low}>{f'{value:.1%}' if share else html.escape(str(value))}</td>"
        body += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
