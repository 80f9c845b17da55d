"""One offline HTML page for a run: what came of it in a sentence, tables, curves, attention maps."""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from compo_mech import emergence, plotting
from compo_mech.attention import MIN_LENGTH, TEXTBOOK_SCORE, Verdict
from compo_mech.config import RunConfig
from compo_mech.evaluate import CONTROL, EvalSet, measured, select
from compo_mech.forward import forward
from compo_mech.layout import Packing
from compo_mech.model import Params

ACCURACY_LEVEL = 0.99

MAX_FRAMES, MAX_WEIGHTS = 24, 400_000
"""Steps that the attention slider goes through, and attention weights that all of them together may hold."""

SHOWN_LENGTH, N_SHOWN = 12, 64
"""Strings whose attention is shown: as long as they come up to here, and how many are averaged."""

_POINTER_COLUMNS = {"iteration": "iteration", "pointer_sharp_rows": "sharp"}

_LEGEND = (
    "<p class=quiet>Free, forced: share of test strings with every state and the end right, generated freely and "
    "teacher-forced; grammar: share that ends in time, once; split “all”: too few strings to hold any out. Scores: "
    "mean attention weight. Sharp: share of rows whose strongest key has weight ≥ 0.9 and is the same key for ≥ 95% "
    "of strings. In brackets the same figure of a freshly initialised model. Attention alone does not show that a "
    "head is used.</p>"
)

_STYLE = """
body { font-family: system-ui, sans-serif; color: #202124; max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid #4c5fd5; padding: .6rem 1rem; background: #f4f5fc; }
.problem { font-size: .95rem; border-left: 4px solid #b23a3a; padding: .6rem 1rem; background: #fcf1f0;
overflow-wrap: anywhere; } .problem ul { margin: .3rem 0; padding-left: 1.2rem; }
.quiet { color: #5f6368; font-size: .9rem; } .wide { overflow-x: auto; } .drawn { min-width: 720px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e5e8; }
th { border-bottom: 2px solid #9aa0a6; vertical-align: bottom; } td { white-space: nowrap; } td.low { color: #b23a3a; }
code, pre { background: #f1f3f4; border-radius: 4px; padding: .1rem .3rem; overflow-x: auto; }
pre { padding: .7rem; } body.full { max-width: none; }
.full th { white-space: nowrap; }
.full td:first-child, .full th:first-child { position: sticky; left: 0; background: #fff; }
"""


def sentence(metrics: pd.DataFrame, task: str) -> str:
    """What came of one task: the verdict on its heads, and when accuracy was there to stay."""
    of_task = measured(metrics, task)
    last = of_task["step"].max()
    means = select(of_task, split="mean")
    verdicts = select(means, metric="verdict", step=last)
    pointers = verdicts[verdicts["layer"] > 0] if (verdicts["layer"] > 0).any() else verdicts
    if not len(pointers):
        found = f"{task}: no verdict on heads, which takes chain of thought and a length of {MIN_LENGTH} or more"
    else:
        final = select(means, metric="iteration", step=last).set_index(["layer", "head"])["value"]
        ranked = [(value, final[layer, head], layer, head) for layer, head, value in _heads(pointers)]
        value, score, layer, head = max(ranked)
        where = f"layer {layer} head {head}"
        if value == Verdict.TEXTBOOK:
            curve = select(means, metric="iteration", layer=layer, head=head)
            step = emergence.reached(curve["step"].tolist(), curve["value"].tolist(), TEXTBOOK_SCORE)
            found = f"{task}: an iteration head formed in {where} by step {step} (score {score:.2f})"
        else:
            found = (
                f"{task}: no textbook iteration head; {where} comes nearest, a {Verdict(int(value))} "
                f"pattern with score {score:.2f}"
            )
    accuracy = select(of_task, metric="generated_accuracy").groupby("step")["value"].min()
    step = emergence.reached(accuracy.index.tolist(), accuracy.tolist(), ACCURACY_LEVEL)
    if step is None:
        return f"{found}; accuracy did not reach 99% at every length (lowest at the end: {accuracy.iloc[-1]:.1%})."
    return f"{found}; accuracy reached 99% at every length at step {step}."


def _heads(rows: pd.DataFrame) -> list[tuple[int, int, float]]:
    """Layer, head and value of rows that belong to heads."""
    return list(zip(rows["layer"].tolist(), rows["head"].tolist(), rows["value"].tolist(), strict=True))


def length_table(metrics: pd.DataFrame, task: str) -> pd.DataFrame:
    """Final figures by length; each head's score beside the same score of a fresh model.

    Columns: split; accuracy generated and teacher-forced, grammar; then for each head its lookup
    (layer 0), or its iteration score and share of sharp rows (other layers, or a lone one), the
    control's in brackets.
    """
    of_task = measured(metrics, task)
    last = select(of_task, step=metrics["step"].max())
    last = last[last["length"].notna()]
    index = ["length", "layer", "head", "metric"]
    values = last[last["head"].notna()].set_index(index)["value"].to_dict()
    control = select(metrics, task=task, split=CONTROL).set_index(index)["value"].to_dict()
    heads = list(dict.fromkeys((layer, head) for layer, head, _ in _heads(last[last["head"].notna()])))
    several = any(layer > 0 for layer, _ in heads)
    rows = []
    for length in last["length"].unique():
        plain = select(last[last["head"].isna()], length=length)
        overall = plain.set_index("metric")["value"]
        row: dict[str, object] = {"length": length, "split": plain["split"].iloc[0]}
        row |= {"free": overall["generated_accuracy"], "forced": overall["accuracy"], "grammar": overall["grammar"]}
        for layer, head in heads:
            shown = {"lookup": "lookup"} if layer == 0 and several else _POINTER_COLUMNS
            for metric, column in shown.items():
                place = (length, layer, head, metric)
                known = f"{values[place]:.2f} [{control[place]:.2f}]" if place in values else "–"
                row[f"L{layer}H{head} {column}"] = known
        rows.append(row)
    return pd.DataFrame(rows)


def page(
    name: str,
    config: RunConfig,
    checkpoints: Mapping[int, Params],
    metrics: pd.DataFrame,
    sets: Sequence[EvalSet],
    command: Sequence[str],
    sections: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> str:
    """The whole page. plotly's script is embedded once; nothing is fetched.

    Args:
        name: of the run.
        config: its settings.
        checkpoints: by step, parameters whose attention is shown; there may be none.
        metrics: its long rows, the control's among them.
        sets: its test strings; the longest of each task is shown.
        command: that started it.
        sections: of analyses, as HTML.
        problems: what is missing or damaged, a line each.
    """
    parts = [f"<h1>{html.escape(name)}</h1>"]
    if problems:
        lines = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        parts.append(f"<div class=problem>Not all of this run could be read:<ul>{lines}</ul></div>")
    model = config.model
    mixed_in = [str(task) for task in config.data.tasks if task not in config.data.measured_tasks]
    facts = [
        f"{_count(model.n_layers, 'layer')} × {_count(model.n_heads, 'head')}, d_model {model.d_model}",
        f"{', '.join(map(str, config.data.measured_tasks))}, lengths {config.data.min_length} to "
        f"{config.data.max_length}" + (f" ({', '.join(mixed_in)} mixed in)" if mixed_in else ""),
        f"{config.train.n_steps} steps of {config.data.batch_size} rows",
        f"seed {config.seed}",
    ]
    parts.append(f"<p class=quiet>{html.escape('; '.join(facts))}</p>")
    tasks = [str(task) for task in config.data.measured_tasks]
    tasks = [task for task in tasks if len(measured(metrics, task))]
    for task in tasks:
        parts.append(f"<p class=verdict>{html.escape(_capital(sentence(metrics, task)))}</p>")
    for task in tasks:
        of_task = f": {task}" if len(tasks) > 1 else ""
        parts.append(f"<h2>By length and head{html.escape(of_task)}</h2>")
        parts.append(f"<div class=wide>{_html_table(length_table(metrics, task))}</div>")
        parts.append(_LEGEND)
        parts.append(f"<h2>Training{html.escape(of_task)}</h2>")
        parts.append(wide(plotting.training_curves(metrics, task)))
        parts.append(f"<h2>Attention{html.escape(of_task)}</h2>")
        parts.append(wide(attention_by_step(checkpoints, config, shown_set(sets, task))) if checkpoints else _NONE)
    parts += sections
    parts.append("<h2>How to reproduce</h2>")
    parts.append(f"<pre>{html.escape('python ' + shlex.join(command))}</pre>")
    settings = json.dumps(config.model_dump(mode="json"), indent=2)
    parts.append(f"<details><summary>All settings</summary><pre>{html.escape(settings)}</pre></details>")
    return document(name, "\n".join(parts), script=get_plotlyjs())


_NONE = "<p class=quiet>No checkpoint could be read.</p>"


def shown_set(sets: Sequence[EvalSet], task: str) -> EvalSet:
    """The longest strings of a task up to `SHOWN_LENGTH`, or its shortest ones."""
    of_task = [test for test in sets if str(test.task) == task]
    short = [test for test in of_task if test.length <= SHOWN_LENGTH]
    return max(short, key=lambda test: test.length) if short else min(of_task, key=lambda test: test.length)


def n_frames(config: RunConfig, n_runs: int = 1) -> int:
    """Steps that a page's slider can hold, where as many runs share the page."""
    length = max(config.data.min_length, min(config.data.max_length, SHOWN_LENGTH))
    n_weights = config.model.n_layers * config.model.n_heads * config.data.layout.n_read(length) ** 2
    return max(2, min(MAX_FRAMES, MAX_WEIGHTS // (n_weights * len(config.data.measured_tasks) * n_runs)))


def attention_by_step(checkpoints: Mapping[int, Params], config: RunConfig, test: EvalSet) -> go.Figure:
    """Mean attention over test strings of one length, with a slider over steps.

    Args:
        checkpoints: parameters by step, at least one.
        config: of their run.
        test: the strings.
    """
    frames = {step: attention_figure(params, config, test) for step, params in checkpoints.items()}
    n = min(N_SHOWN, len(test.tokens))
    return plotting.with_slider(frames, f"Mean attention over {n} test strings of length {test.length}, by step")


def document(title: str, body: str, script: str = "", body_class: str = "") -> str:
    """A whole page.

    Args:
        title: of the browser's tab.
        body: as HTML.
        script: that the body needs, such as plotly's.
        body_class: "full" for a page as wide as the window.
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{script}</script></head><body class='{body_class}'>{body}</body></html>"
    )


def attention_figure(params: Params, config: RunConfig, test: EvalSet) -> go.Figure:
    """Mean attention over up to `N_SHOWN` test strings at every position that is read."""
    n_read = test.layout.n_read(test.length)
    tokens = test.tokens[:N_SHOWN, :n_read]
    patterns: list = []
    forward(params, config.model, tokens, Packing.dense(*tokens.shape, device=tokens.device), patterns=patterns)
    labels = test.layout.labels(test.length)
    means = [pattern.detach().mean(0).cpu() for pattern in patterns]
    return plotting.attention_maps(
        means, labels, f"Mean attention over {len(tokens)} test strings of length {test.length}"
    )


def figure_html(figure: go.Figure) -> str:
    """A figure without plotly's script, which the page holds once."""
    config = {"displaylogo": False, "responsive": True}
    return plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config=config, auto_play=False)


def write_page(page: str, out: Path) -> None:
    """A page that is not of one run.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        out.write_text(page)
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be written ({error.strerror})") from None


def write_figure(figure: go.Figure, out: Path) -> None:
    """A figure as an offline page (.html), or as a picture (.png, .svg, .pdf), which takes kaleido and a Chrome.

    Raises:
        ValueError: the picture cannot be drawn, not in this format, or not written.
    """
    if out.suffix == ".html":
        title = figure.layout.title.text or out.stem
        write_page(document(str(title), wide(figure), script=get_plotlyjs(), body_class="full"), out)
        return
    allowed = "must end in .html, or in .png, .svg or .pdf with kaleido"
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"out = {out}: {allowed}")
    try:
        figure.write_image(out, scale=1.5)
    except (ValueError, RuntimeError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"out = {out}: {allowed} ({reason})") from None


@dataclass(frozen=True)
class Shown:
    """HTML as a notebook shows it."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def plotly_script() -> Shown:
    """plotly's script, to stand in a notebook before the first figure."""
    return Shown(f"<script>{get_plotlyjs()}</script>")


def offline(figure: go.Figure) -> Shown:
    """A figure in a notebook that has the script: plotly's own output asks the network for MathJax."""
    return Shown(figure_html(figure))


def wide(figure: go.Figure) -> str:
    """A figure that scrolls sideways where the screen is narrow."""
    return f"<div class=wide><div class=drawn>{figure_html(figure)}</div></div>"


def table_html(table: pd.DataFrame) -> str:
    """A table as it is, likewise."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


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


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
