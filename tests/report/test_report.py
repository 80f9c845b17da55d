import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
import safetensors.torch
import torch

from compo_mech.analyses.circuit_checks import CircuitChecks
from compo_mech.circuits.hypotheses import CircuitTests, Tested
from compo_mech.circuits.stability import Resampled
from compo_mech.evaluation.attention import TEXTBOOK_SCORE, AttentionVerdict, attention_verdict
from compo_mech.evaluation.sets import eval_sets
from compo_mech.launch import main
from compo_mech.model.params import Model
from compo_mech.plots import training
from compo_mech.report import attention, run_page, thresholds
from compo_mech.report.dissection import _check_rows
from compo_mech.runs import outcome, recipes
from compo_mech.runs.run import Run
from compo_mech.runs.sums import digest, write_sums
from compo_mech.stats.intervals import Interval

CAUSE = "by intervention L1H0"


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
    found.append((0, "control", "parity", None, 1, 0, "iteration", 0.85))
    found.append((300, "control", "parity", 4, None, None, "generated_accuracy", 0.0))
    columns = ["step", "split", "task", "length", "layer", "head", "metric", "value"]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(("length", "layer", "head"), "Int64"))


def test_the_sentence_of_a_textbook_run():
    metrics = rows([0.2, 0.995, 0.5, 1.0], [0.1, 0.5, 0.93, 0.97], verdict=2)
    assert outcome.run_sentence(metrics, "parity", CAUSE) == (
        "parity: by intervention L1H0; L1H0 attends as a textbook iteration head, "
        "with a score of 0.97 (0.9 needed; control 0.85) from step "
        "200 on; accuracy at the worst length ends at 100.0%, at 99% or more at the last checkpoint alone, step 300."
    )


def test_the_sentence_of_a_patchwork_that_never_got_there():
    metrics = rows([0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4], verdict=1)
    assert outcome.run_sentence(metrics, "parity", CAUSE) == (
        "parity: by intervention L1H0; no head attends as a textbook iteration head; "
        "L1H0 comes nearest, a sharp patchwork pattern with a "
        "score of 0.40 (0.9 needed; control 0.85); accuracy at the worst length ends at 50.0%, below 99%."
    )


@pytest.mark.parametrize(
    ("accuracy", "score", "verdict", "said"),
    [
        (0.99, 0.9, 2, ("L1H0 attends as", "a score of 0.90 (0.9", "ends at 99.0%, at 99% or more from step 100 on")),
        (0.9896, 0.8996, 0, ("no head attends as", "a score of 0.8996 (0.9", "ends at 98.96%, below 99%")),
        (0.12, 0.3, 0, ("no head attends as", "a diffuse pattern with a score of 0.30", "ends at 12.0%, below 99%")),
    ],
)
def test_what_is_written_is_on_the_side_of_the_threshold_that_it_is_said_to_be_on(accuracy, score, verdict, said):
    sentence = outcome.run_sentence(rows([0.2, accuracy, accuracy], [0.1, score, score], verdict), "parity", CAUSE)
    assert [part for part in said if part not in sentence] == []
    assert "reached" not in sentence


@pytest.mark.parametrize(("control", "said"), [(0.8996, "control 0.8996)"), (0.9, "control 0.90), and so does the")])
def test_what_the_control_does_too_is_not_said_to_be_learnt(control, said):
    head = outcome.HeadOutcome(1, 0, 0.95, control, AttentionVerdict.TEXTBOOK, since=100, last=300)
    assert str(head).startswith("L1H0 attends as" if control < 0.9 else "whether a head has learnt to attend as")
    assert said in str(head)
    assert ("cannot be told" in str(head)) == (control >= 0.9)
    none = replace(head, score=0.5, verdict=AttentionVerdict.DIFFUSE)
    assert str(none).startswith("no head attends as")
    assert "cannot be told" not in str(replace(head, control=math.nan))


def test_thresholds_are_said_as_the_code_has_them():
    assert attention_verdict(TEXTBOOK_SCORE, sharp_share=0.0) is AttentionVerdict.TEXTBOOK
    assert "a textbook iteration head has a score of 0.9 or more over lengths" in thresholds.ATTENTION
    assert "any other pattern is sharp if in 90% of rows" in thresholds.ATTENTION
    assert "idle if without it less than 2% of states go wrong and logits move by less than 1%" in thresholds.HEADS


def test_the_worst_length_is_not_known_where_one_was_not_measured():
    metrics = rows([0.2, 0.5, 1.0], [0.1, 0.2, 0.3], verdict=0)
    of_last = (metrics["step"] == 200) & (metrics["metric"] == "generated_accuracy") & (metrics["length"] == 4)
    metrics.loc[of_last, "value"] = math.nan
    with pytest.raises(ValueError, match="values = nan"):
        outcome.accuracy_outcome(metrics, "parity")


def test_checks_of_a_circuit_are_written_on_their_side_of_what_is_needed():
    def tested(value, needed, passed):
        return Tested(value, needed, passed, 0.5)

    level, no = tested(0.05, 0.05, True), tested(0.0496, 0.05, False)
    tests = CircuitTests(tested(0.897, 0.9, False), no, level, tested(0.9, 0.9, True), tested(1.0, 0.9, None))
    resampled = Resampled(Interval(0.797, 0.7, 1.0), Interval(0.4, 0.3, 0.5), 100)
    shown = _check_rows(CircuitChecks(resampled, None, tests))
    assert shown[["value", "threshold", "passed"]].to_numpy().tolist() == [
        ["0.897", "0.90", "no"], ["0.0496", "0.05", "no"], ["0.05", "0.05", "yes"], ["0.90", "0.90", "yes"],
        ["1.00", "0.90", "cannot be told"], ["0.797", "0.80", "no"],
    ]  # fmt: skip
    assert shown["random circuit"].tolist() == ["0.50"] * 5 + ["0.40"]


def test_a_head_of_layer_0_that_scores_highest_is_named_and_has_its_columns():
    metrics = rows([0.2, 0.5, 0.8, 1.0], [0.1, 0.1, 0.1, 0.32], verdict=0)
    lone = (metrics["layer"] == 0) & (metrics["metric"] == "iteration") & (metrics["step"] == 300)
    metrics.loc[lone, "value"] = 0.557
    assert "L0H0 comes nearest, a diffuse pattern with a score of 0.56 (0.9 needed)" in outcome.run_sentence(
        metrics, "parity", CAUSE
    )
    by_length = [
        (300, split, "parity", 4, layer, 0, metric, value)
        for split in ("test", "control")
        for layer, metric, value in ((0, "lookup", 0.1), (0, "iteration", 0.557), (1, "iteration", 0.32))
    ]
    by_length += [(300, "test", "parity", 4, None, None, metric, 1.0) for metric in ("accuracy", "grammar")]
    more = pd.DataFrame(by_length, columns=list(metrics.columns)).astype(metrics.dtypes)
    metrics = pd.concat([metrics, more], ignore_index=True)
    table = outcome.length_table(metrics[metrics["length"].ne(1).fillna(True)], "parity")
    assert table["L0H0 iteration"].tolist() == ["0.56 [0.56]"]
    assert table["L1H0 iteration"].tolist() == ["0.32 [0.32]"]


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
    main.main(recipes.parity(), argv)
    return Run.open(runs / "a<b")


def test_the_page_needs_no_network_and_is_small(run):
    page = (run.path / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert [link for link in links.found if not link.startswith("#")] == []
    assert len(page) < 4_000_000
    assert page.count('<script type="application/gzip">') == 1  # the script is embedded once
    assert "<title>a&lt;b</title>" in page
    assert "a<b" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "train" in page[page.index("How to reproduce") :]


def test_the_table_holds_the_last_figures_beside_the_control(run):
    table = outcome.length_table(run.metrics, "parity")
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
    figure = training.training_curves(metrics[metrics.split != "control"], "parity")
    named = {trace.name: trace for trace in figure.data}
    assert list(named["length 3"].x) == run.steps
    assert list(named["L1H1 iteration"].x) == run.steps
    assert {figure.layout.xaxis.matches, figure.layout.xaxis2.matches} == {"x3"}


def test_maps_are_of_every_head_with_named_axes(run):
    config = run.config
    longest = eval_sets(config.data, 8)[-1]
    figure = attention.attention_figure(Model(run.params(), config.model), longest)
    assert len(figure.data) == 4
    for trace in figure.data:
        assert all(sum(row) == pytest.approx(1, abs=0.01) for row in trace.z)
    labels = ["task", "x₁", "x₂", "x₃", "x₄", "x₅", "EoI", "s₁", "s₂", "s₃", "s₄", "s₅"]
    assert list(figure.layout.xaxis.ticktext) == labels
    assert list(figure.layout.yaxis4.ticktext) == labels


def test_the_attention_slider_holds_every_step_and_starts_at_the_last(run):
    sets = eval_sets(run.config.data, 8)
    shown = run.readable(attention.n_frames(run.config))
    assert list(shown) == run.steps == [0, 1, 2, 4, 6]
    figure = attention.attention_by_step(shown, run.config, sets[-1])
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == [frame.name for frame in figure.frames] == ["0", "1", "2", "4", "6"]
    assert [step.args[0] for step in slider.steps] == [(name,) for name in ("0", "1", "2", "4", "6")]
    assert slider.active == 4
    for frame in figure.frames:
        drawn = attention.attention_figure(Model(shown[int(frame.name)], run.config.model), sets[-1])
        assert [trace.z for trace in frame.data] == [trace.z for trace in drawn.data]
    assert [trace.z for trace in figure.data] == [trace.z for trace in figure.frames[-1].data]
    assert figure.frames[0].data[0].z != figure.frames[-1].data[0].z


def test_the_slider_goes_through_fewer_steps_where_there_are_many_weights():
    few = recipes.parity()
    many = few.model_copy(update={"model": few.model.model_copy(update={"n_layers": 8, "n_heads": 16})})
    assert attention.n_frames(few) == attention.MAX_FRAMES
    assert 2 <= attention.n_frames(many) < 6


@pytest.fixture
def broken(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "broken")
    return Run.open(tmp_path / "broken")


def foreign(run, step):
    """Put another network's checkpoint in a step's place, vouched for."""
    content = safetensors.torch.save({"embed.W_E": torch.zeros(3, 3)})
    (run.path / "checkpoints" / f"{step:06d}.safetensors").write_bytes(content)
    write_sums(run.folder, run.sums().known | {f"{step:06d}.safetensors": digest(content)})


def test_the_page_says_which_checkpoints_cannot_be_read(broken):
    folder = broken.path / "checkpoints"
    (folder / "000001.safetensors").unlink()
    (folder / "000002.safetensors").write_bytes(b"x")
    foreign(broken, 6)
    (folder / "000099.safetensors").write_bytes(b"of someone else")
    write_sums(broken.folder, {name: own for name, own in broken.sums().known.items() if name != "000004.safetensors"})
    page = run_page.write_page(broken).read_text()
    told = page[page.index("<div class=problem>") : page.index("</ul>")]
    assert [line.split("</li>")[0] for line in told.split("<li>")[1:]] == [
        "checkpoints/000001.safetensors: is missing",
        "checkpoints/000002.safetensors: is damaged, its checksum differs",
        "checkpoints/000006.safetensors: is of another network, it has embed.W_E of shape (3, 3) where the run&#x27;s "
        "settings say (16, 16)",
        "checkpoints/000004.safetensors: is not listed in SHA256SUMS, so it is left out",
        "checkpoints/000099.safetensors: is not listed in SHA256SUMS, so it is left out",
        f"{broken.path}: has no checkpoint at 1 steps of its schedule (4)",
    ]
    assert list(broken.readable(24)) == [0]
    assert "by step" in page


def test_a_whole_run_has_no_problems(run):
    assert run.problems() == []
    assert "<div class=problem>" not in (run.path / "report.html").read_text()


def test_a_run_without_any_checkpoint_still_has_a_page(broken):
    shutil.rmtree(broken.path / "checkpoints")
    page = run_page.write_page(broken).read_text()
    assert "has no checkpoint" in page
    assert "No checkpoint could be read" in page
    assert "By length and head" in page


def test_a_run_that_stopped_says_where(broken):
    broken.cut(2)
    for file in (broken.path / "checkpoints").glob("00000[46]*"):
        file.unlink()
    assert broken.problems() == [f"{broken.path}: training stopped at step 2 of 6"]


def test_readable_checkpoints_are_spread_and_stand_in_for_those_that_are_not(broken):
    assert list(broken.readable(2)) == [0, 6]
    assert list(broken.readable(3)) == [0, 2, 6]
    assert list(broken.readable(24, until=4)) == [0, 1, 2, 4]
    assert list(broken.readable(2, until=3)) == [0, 2]
    (broken.path / "checkpoints" / "000006.safetensors").unlink()
    assert list(broken.readable(2)) == [0, 4]
    assert list(broken.readable(24)) == [0, 1, 2, 4]
