"""Several runs on one page: what is said of each is its own, and what is damaged does not break it."""

import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from browser import open_page, started
from rich.console import Console

from compo_mech.cli.compare import compare_command
from compo_mech.launch.run import launch
from compo_mech.launch.settings import parse
from compo_mech.report import attention, comparison
from compo_mech.report.html_parts import plotly_script
from compo_mech.runs import recipes
from compo_mech.runs.config import RunConfig
from compo_mech.runs.outcome import run_summary
from compo_mech.runs.run import Run

SCRIPT = Path(__file__).parents[2] / "experiments" / "compare.py"


def trained(folder, name, *more):
    argv = ["--runs-dir", str(folder), "--name", name, "--data.max-length", "5", "--model.d-model", "16",
            "--train.n-steps", "6", "--n-test-strings", "8", *more]  # fmt: skip
    return launch(parse(recipes.parity(), argv), Console(quiet=True))


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [trained(folder, "one"), trained(folder, "two", "--model.n-heads", "2", "--seed", "7")]


@pytest.fixture
def runs(trained_runs, tmp_path):
    """Copies, to be damaged at will."""
    return [Run.open(shutil.copytree(run.path, tmp_path / run.path.name)) for run in trained_runs]


@pytest.fixture
def short(tmp_path):
    """A run whose strings are too short for any head's score."""
    return trained(tmp_path, "short", "--data.max-length", "3")


def made(runs, out):
    compare_command(tuple(run.path for run in runs), out)
    return out.read_text()


def own(page):
    """The page without plotly's script, which holds all kinds of words."""
    assert page.count(plotly_script().html) == 1
    return page.replace(plotly_script().html, "")


def test_the_table_says_of_each_run_what_its_own_table_says(runs):
    table = comparison.overview(comparison.compared(runs)).set_index("run")
    for run in runs:
        row, came = table.loc[run.path.name], run_summary(run)
        assert row["steps"] == "6 of 6"
        assert row["accuracy"] == f"{came['accuracy']:.1%}"
        assert row["head"] == came["head"]
        assert row["iteration"] == f"{came['iteration']:.2f} [{came['control']:.2f}]"
        assert row["lookup"].startswith(f"{came['lookup']:.2f} [")
        assert row["verdict"] == came["verdict"]
        assert row["head from step"] == "–"
    assert table.loc["two", ["model.n_heads", "seed"]].tolist() == ["2", "7"]
    settings = [name for name in table if "." in name or name == "seed"]
    assert settings == ["model.n_heads", "seed"]  # and none in which they agree


@pytest.mark.parametrize(
    ("accuracy", "score", "said"),
    [(0.9896, 0.8996, ("98.96%", "0.8996")), (0.99, 0.9, ("99.0%", "0.90")), (0.98, 0.845499, ("98.0%", "0.85"))],
)
def test_figures_are_rounded_once_and_on_their_side(runs, accuracy, score, said):
    (one,) = comparison.compared(runs[:1])
    metrics = one.metrics.copy()
    for metric, value in (("generated_accuracy", accuracy), ("iteration", score)):
        metrics.loc[(metrics["metric"] == metric) & (metrics["split"] != "control"), "value"] = value
    row = comparison.results(replace(one, metrics=metrics))
    assert (row["accuracy"], row["iteration"].partition(" [")[0]) == said
    without = comparison.results(replace(one, metrics=metrics[metrics["split"] != "control"]))
    assert without["iteration"] == f"{said[1]} [–]"


def test_differences_are_of_nested_settings_and_lists():
    configs = [
        RunConfig.model_validate(settings)
        for settings in (
            {"data": {"tasks": ["parity"]}, "optim": {"lr": 0.5}},
            {"data": {"tasks": ["parity", "copy"]}, "optim": {"lr": 0.5}},
        )
    ]
    assert comparison.differences(configs) == {"data.tasks": ["parity", "parity copy"]}
    assert comparison.differences(configs[:1] * 3) == {}


def test_names_tell_runs_apart(tmp_path):
    paths = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "b" / "y"]
    assert comparison.distinct(paths) == ["a/x", "b/x", "b/y"]
    assert comparison.distinct(paths[1:]) == ["x", "y"]
    assert comparison.distinct([paths[0], paths[0]]) == ["x", "x (2)"]


def test_at_an_earlier_step_all_is_as_if_training_had_ended_there(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    compare_command(tuple(run.path for run in runs), out, step=4)
    page = own(out.read_text())
    assert "--step 4</pre>" in page
    assert re.findall(r'"label":"(\d+)"', page) == ["0", "1", "2", "4"] * 2  # of both sliders
    table = comparison.overview(comparison.compared(runs, 4)).set_index("run")
    for run in runs:
        metrics = run.metrics
        at = metrics[(metrics["step"] == 4) & (metrics["split"] == "mean") & (metrics["metric"] == "iteration")]
        assert table.loc[run.path.name, "steps"] == "4 of 6"
        assert table.loc[run.path.name, "iteration"].startswith(f"{at['value'].max():.2f} [")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        compare_command((runs[0].path,), tmp_path / "no.html", step=5)
    assert capsys.readouterr().err == (
        f"error: step = 5: must be that of a checkpoint of every run, and {runs[0].path} has 0, 1, 2, 4, 6\n"
    )
    assert not (tmp_path / "no.html").exists()


def test_curves_are_the_worst_length_and_the_best_head(runs):
    two = comparison.compared(runs)[1]
    is_accuracy = two.metrics["metric"] == "generated_accuracy"  # all alike so early, so made up
    two.metrics.loc[is_accuracy, "value"] = (9 - two.metrics.loc[is_accuracy, "length"]).astype(float) / 10
    rows = two.metrics[two.metrics["split"] != "control"]
    for step in runs[1].steps:
        at = rows[rows["step"] == step]
        accuracy = at[at["metric"] == "generated_accuracy"]["value"]
        assert comparison.curve(two, "generated_accuracy")[step] == accuracy.min() == 0.4  # of length 5
        scores = at[(at["metric"] == "iteration") & (at["split"] == "mean")]["value"]
        assert len(scores) >= 2
        assert comparison.curve(two, "iteration")[step] == scores.max()


def test_each_run_has_one_colour_and_stands_in_the_legend_once(runs):
    many = comparison.compared([*runs * 5])
    for shown in (many[:2], many):
        figure = comparison.curves(shown)
        assert figure is not None
        assert len(figure.data) == 3 * len(shown)
        colours = {trace.name: trace.line.color for trace in figure.data}
        assert all(trace.line.color == colours[trace.name] for trace in figure.data)
        assert len(set(colours.values())) == len(colours) == len(shown)
        named = [trace.name for trace in figure.data if trace.showlegend]
        assert sorted(named) == sorted(run.name for run in shown)


def test_the_page_needs_no_network_and_says_how_it_was_made(runs, tmp_path, capsys):
    page = own(made(runs, tmp_path / "page.html"))
    assert not re.search(r"""(src|href)=["']?https?:|import\(|cdn""", page)
    assert page.count("<details") == page.count("<summary>") == 2
    assert "Not all of these runs" not in page
    lines = page[page.index("<pre>") : page.index("</pre>")].splitlines()
    assert lines[-1].startswith(f"python -m compo_mech compare {runs[0].path} {runs[1].path} --out ")
    assert lines[0].endswith("# one, two")  # the tests' own command, once
    said = capsys.readouterr().out
    assert "one" in said
    assert f"Look at {tmp_path / 'page.html'}" in said.replace("\n", "")


def test_runs_alike_are_said_to_be(runs, tmp_path):
    assert "do not differ in any setting" in made([runs[0], runs[0]], tmp_path / "page.html")
    assert "do not differ in any setting" not in made(runs, tmp_path / "page.html")


def test_what_is_damaged_or_missing_does_not_break_the_page(runs, tmp_path, capsys):
    one, two = runs
    (one.path / "checkpoints" / "000006.safetensors").write_bytes(b"damaged")
    (one.path / "environment.json").write_text("{")
    shutil.rmtree(two.path / "checkpoints")
    (two.path / "metrics.csv").unlink()
    page = own(made(runs, tmp_path / "page.html"))
    assert "one: checkpoints/000006.safetensors: is damaged" in page
    assert f"two: {two.path}: has no checkpoint" in page
    assert "two: metrics.csv: is missing" in page
    assert page.count("No checkpoint could be read") == 1
    assert "one: environment.json: " in page
    assert "# environment.json: " in page
    assert "one: checkpoints/000006" in capsys.readouterr().out.replace("\n", "")
    (one.path / "metrics.csv").write_text("")
    assert "Nothing was measured" in made(runs, tmp_path / "page.html")


def test_runs_without_scores_are_shown_with_what_they_have(runs, short, tmp_path):
    table = comparison.overview(comparison.compared([runs[0], short])).set_index("run")
    assert table.loc["short", "head"] == "–"
    assert table.loc["short", "accuracy"].endswith("%")
    page = own(made([short], tmp_path / "page.html"))
    assert "Iteration score" not in page
    assert "Accuracy, generated freely" in page


def test_many_runs_share_the_room(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "MAX_WEIGHTS", 3 * 2 * 2 * 12**2)
    both = comparison.compared(runs)
    alone, shared = (len(comparison.attention(both[1], n)) for n in (1, 6))
    assert shared < alone
    script = len(plotly_script().html)
    monkeypatch.setattr(comparison, "MAX_BYTES", script + 60_000)
    page = made(runs, tmp_path / "page.html")
    assert "compare fewer runs" in page
    assert len(page) < script + 80_000


def test_bad_input_gets_one_line(runs, tmp_path, capsys):
    for paths, out, told in (
        ([tmp_path / "none"], tmp_path / "page.html", f"run = {tmp_path / 'none'}: must be a folder that holds"),
        ([runs[0].path], tmp_path / "page.png", f"out = {tmp_path / 'page.png'}: must end in .html"),
        ([runs[0].path], tmp_path / "no" / "page.html", "must be in a folder that exists"),
    ):
        with pytest.raises(SystemExit) as stop:
            compare_command(tuple(paths), out)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert told in line
        assert not out.exists()
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(SystemExit):
        compare_command((runs[0].path,), tmp_path / "taken.html")
    assert "taken.html: cannot be written" in capsys.readouterr().err


def test_the_script(runs, tmp_path, monkeypatch):
    out = tmp_path / "both.html"
    monkeypatch.setattr(sys, "argv", ["compare.py", *(str(run.path) for run in runs), "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "<h1>2 runs</h1>" in out.read_text()


@pytest.mark.slow
def test_the_page_in_a_browser(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "N_OPEN", 1)
    assert made(runs, tmp_path / "page.html").count("<details open>") == 1
    with started() as browser, open_page(browser, tmp_path / "page.html") as page:
        assert [picture.kind for picture in page.pictures()] == ["plotly"] * 3  # the folded one among them
        assert page.move_sliders() == 2
        assert page.check_contents() == 3
        page.check_alternatives()
        page.check_screens()
