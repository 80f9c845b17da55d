import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from compo_mech import evaluate, launch, plotting, recipes, report
from compo_mech.runs import Run


def rows(curve, head_curve, verdict):
    """A run's rows: accuracy of two lengths and one layer-1 head by step."""
    found = []
    for step, (accuracy, score) in enumerate(zip(curve, head_curve, strict=True)):
        for length in (1, 4):
            found.append((step * 100, "test", "parity", length, None, None, "generated_accuracy", accuracy))
        for layer in (0, 1):
            value = score if layer else 0.1
            found.append((step * 100, "mean", "parity", None, layer, 0, "iteration", value))
            found.append((step * 100, "mean", "parity", None, layer, 0, "verdict", verdict if layer else 0))
    # the control's rows must not be taken for the run's own
    found.append((0, "control", "parity", None, 1, 0, "iteration", 0.95))
    found.append((300, "control", "parity", 4, None, None, "generated_accuracy", 0.0))
    columns = ["step", "split", "task", "length", "layer", "head", "metric", "value"]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(("length", "layer", "head"), "Int64"))


def test_the_sentence_of_a_textbook_run():
    metrics = rows([0.2, 0.995, 0.5, 1.0], [0.1, 0.5, 0.93, 0.97], verdict=2)
    assert report.sentence(metrics, "parity") == (
        "parity: an iteration head formed in layer 1 head 0 by step 200 (score 0.97); "
        "accuracy reached 99% at every length at step 300."
    )


def test_the_sentence_of_a_patchwork_that_never_got_there():
    metrics = rows([0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4], verdict=1)
    assert report.sentence(metrics, "parity") == (
        "parity: no textbook iteration head; layer 1 head 0 comes nearest, a sharp patchwork pattern with score 0.40; "
        "accuracy did not reach 99% at every length (lowest at the end: 50.0%)."
    )


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.found, self.n_scripts = [], 0

    def handle_starttag(self, tag, attrs):
        self.n_scripts += tag == "script"
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset") and value]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    argv = ["--runs-dir", str(runs), "--name", "a<b", "--data.max-length", "5", "--model.d-model", "16",
            "--model.n-heads", "2", "--train.n-steps", "6", "--n-test-strings", "8"]  # fmt: skip
    launch.main(recipes.parity(), argv)
    return Run.open(runs / "a<b")


def test_the_page_needs_no_network_and_is_small(run):
    page = (run.path / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.found == []
    assert len(page) < 10_000_000
    assert page.count("plotly.js v") <= 2  # the script is embedded once
    assert "<title>a&lt;b</title>" in page
    assert "a<b" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "train" in page[page.index("How to reproduce") :]


def test_the_table_holds_the_last_figures_beside_the_control(run):
    table = report.length_table(run.metrics, "parity")
    assert table.length.tolist() == [1, 2, 3, 4, 5]
    assert table.columns.tolist() == [
        "length", "split", "free", "forced", "grammar", "L0H0 lookup", "L0H1 lookup",
        "L1H0 iteration", "L1H0 sharp", "L1H1 iteration", "L1H1 sharp",
    ]  # fmt: skip
    metrics = run.metrics
    at = (metrics.length == 4) & (metrics.layer == 1) & (metrics["head"] == 1) & (metrics.metric == "iteration")
    own = metrics[at & (metrics.step == 6) & (metrics.split != "control")].value.item()
    fresh = metrics[at & (metrics.split == "control")].value.item()
    assert table["L1H1 iteration"][3] == f"{own:.2f} [{fresh:.2f}]"


def test_curves_share_one_time_axis_and_leave_the_control_out(run):
    metrics = run.metrics
    figure = plotting.training_curves(metrics[metrics.split != "control"], "parity")
    named = {trace.name: trace for trace in figure.data}
    assert list(named["length 3"].x) == run.steps
    assert list(named["L1H1 iteration"].x) == run.steps
    assert {figure.layout.xaxis.matches, figure.layout.xaxis2.matches} == {"x3"}


def test_maps_are_of_every_head_with_named_axes(run):
    config = run.config
    longest = evaluate.eval_sets(config.data, 8)[-1]
    figure = report.attention_figure(run.params(), config, longest)
    assert len(figure.data) == 4
    for trace in figure.data:
        assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in trace.z)
    labels = ["task", "x1", "x2", "x3", "x4", "x5", "EoI", "s1", "s2", "s3", "s4", "s5"]
    assert list(figure.layout.xaxis.ticktext) == labels
    assert list(figure.layout.yaxis4.ticktext) == labels
