"""Every script in figures/ is called as from the command line, on runs of seconds and on tables made here."""

import importlib.util
import inspect
import itertools
import math
import re
import shutil
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import open_page, started
from helpers import generator
from rich.console import Console

from compo_mech.analyses.circuits_over_runs import CircuitOfRun, circuits_over_runs
from compo_mech.analyses.examine import at_named_site
from compo_mech.analyses.network_findings import stages
from compo_mech.circuits.circuit import Circuit, to_json
from compo_mech.cli import command
from compo_mech.interventions.edges import all_edges
from compo_mech.launch import settings
from compo_mech.launch.run import launch
from compo_mech.model.config import ModelConfig
from compo_mech.plots.notes import other_tasks, with_notes
from compo_mech.plots.theme import COMPONENT_COLOURS, subscripts
from compo_mech.report.html_parts import plotly_script
from compo_mech.runs import recipes
from compo_mech.runs.analysis_folder import analysis_name
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Measured, Quantity, as_table
from compo_mech.studies import measures
from compo_mech.studies.asked import Asked
from compo_mech.studies.scores import RunScore

FIGURES = Path(__file__).parents[2] / "figures"

PANELS = ("iteration", "first step at 99%", "route share, route=direct")
MORE = {"study": PANELS, "grid": ("accuracy", "first step at 99%", "--x", "length", "--y", "d_model")}
"""What scripts are told besides a table."""
RUN, RUNS, TABLE, NOTHING = "a run", "any runs", "a table", "nothing"
SCRIPTS = {
    "circuit_graph": RUN,
    "cleanliness": RUNS,
    "edges_over_runs": TABLE,
    "emergence": TABLE,
    "grid": TABLE,
    "grokking": RUNS,
    "iteration_head": RUN,
    "language_model": TABLE,
    "outcomes": TABLE,
    "length_by_dimension": RUNS,
    "mechanism": TABLE,
    "method_card": TABLE,
    "patching_map": RUN,
    "position_geometry": RUNS,
    "probes_by_step": RUN,
    "route_map": RUNS,
    "scaling": TABLE,
    "study": TABLE,
    "task_and_circuit": NOTHING,
}
SHOWN = {
    "circuit_graph": ("Circuit of one", "L0H0.q"),
    "cleanliness": ("in 2 runs", "two, step 6"),
    "edges_over_runs": ("parity, 2 layers of 1 head: 3 circuits", "in %{text} of 3 circuits"),
    "emergence": ("parity, 2 seeds", "parity-seed1, iteration: onset 4"),
    "grid": ("Grid, 2 seeds an arm", "<br><span style='font-size:9px'>0 of 2", "first step at 99%"),
    "grokking": ("weight norm", "test strings"),
    "iteration_head": ("Mean attention over", "layer 1 head 0"),
    "language_model": ("each of 270 heads", "L17H4"),
    "outcomes": ("textbook, 456 seeds", "the best alone"),
    "length_by_dimension": ("iteration score", "d_model %{y}, length %{x}"),
    "mechanism": ("MLP 0: positions subtracted?", "polynomial"),
    "method_card": ("truth on top, of", "RelP, attention held", "rows drawn anew"),
    "patching_map": ("randomly initialised", "L1H0.z, s₂"),
    "position_geometry": ("two: trained", "effective dimensions"),
    "probes_by_step": ("Decodable and used: one", "answers follow its output"),
    "route_map": ('"t"', '"length"'),
    "scaling": ("median first step at 99%", "over 8 runs, 2 of them censored"),
    "study": ("1 failed", "censored", "far apart, copy, seed 1, control", "route share (direct)"),
    "task_and_circuit": ("Iteration head", "t = i \u2212 j + 1 = 7 \u2212 5 + 1 = 3", "[EoS]"),
}
"""What each page has to say: its title, and something that is read off the runs or tables."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small runs; the first has what analyses write, made up."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for name, d_model in (("one", "16"), ("two", "24")):
        argv = ["--runs-dir", str(folder), "--name", name, "--data.max-length", "5", "--model.d-model", d_model,
                "--train.n-steps", "6", "--train.snapshot-every", "3", "--n-test-strings", "8"]  # fmt: skip
        found.append(launch(settings.parse(recipes.parity(), argv), Console(quiet=True)))
    one, task = found[0], found[0].config.data.measured_tasks[0]
    edges = all_edges(one.config.model)
    circuit = Circuit(one.config.model, frozenset(edges[::2]), {edge: i / 10 for i, edge in enumerate(edges)})
    dissected = {"circuit.json": to_json(circuit), "patching.csv": patching(one).to_csv(index=False)}
    one.write_analysis(analysis_name("dissect", 6, task), dissected)
    for probe in HELD_AT:
        one.write_analysis(analysis_name(probe, 6, task), {"by-step.csv": by_step(one, probe).to_csv(index=False)})
    return [run.path for run in found]


def patching(run):
    """As a dissection writes it: stages and heads by position of a string, and heads by span, which has no length."""
    tokens, rows = run.config.data.layout.labels(5), []
    for network in ("trained", "control"):
        heads = [("head", layer, 0) for layer in range(2)]
        components = [(*stage, None) for stage in stages(run.config.model.n_layers)] + heads
        for n, component in enumerate(components):
            rows += [(*component, i, token, None, 5, n * i / 10, network) for i, token in enumerate(tokens)]
        rows += [(*head, None, None, span, None, 1.0, network) for head in heads for span in ("EoI", "states")]
    columns = ["component", "layer", "head", "position", "token", "span", "length", "effect", "network"]
    return pd.DataFrame(rows, columns=columns)


def by_step(run, probe):
    """Every figure that a probe script follows and a picture shows, made up."""
    name, layer = {"position-subtraction": ("t", 0), "state-update": ("answer", 1)}[probe]
    quantities = [at_named_site("probe accuracy", name, site, layer) for site in ("MLP input", "MLP output", "query")]
    quantities += [Quantity("IIA", "value", v, "independent", kind, 1) for v, kind in HELD_AT[probe]]
    quantities.append(at_named_site("subtraction score", name, "query", layer))
    rows = [as_table(step, [Measured(q, (step or 0) / 8, 0.0, 1.0) for q in quantities]) for step in (None, *run.steps)]
    return pd.concat(rows, ignore_index=True)


HELD_AT = {"position-subtraction": [("t", "q")], "state-update": [("x", "attn_out"), ("answer", "mlp_out")]}
"""By probe, variables and the sites that hold them."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """By script, a table as another script writes it."""
    folder = tmp_path_factory.mktemp("tables")
    file = folder / "emergence.csv"
    rows = [("parity", f"parity-seed{seed}", name, 4.0, 5.0, 6.0, 9) for seed in (0, 1) for name in COMPONENT_COLOURS]
    columns = ["task", "run", "component", "onset", "midpoint", "saturation", "last_step"]
    pd.DataFrame(rows, columns=columns).to_csv(file, index=False)
    studies = {name: folder / f"{name}.csv" for name in ("scaling", "study", "grid")}
    for name, made in (("scaling", scaling()), ("study", study()), ("grid", grid())):
        made.to_csv(studies[name], index=False)
    committed = {name: FIGURES / "results" / f"{name}.csv" for name in ("language_model", "mechanism", "outcomes")}
    edges = tuple(all_edges(ModelConfig()))
    effects, shape = (0.0,) * len(edges), "2 layers of 1 head"
    many = [
        CircuitOfRun("parity", shape, edges, effects, "circuit", frozenset(edges[: 5 + i]), "no circuit")
        for i in range(3)
    ]
    over_runs = folder / "edges_over_runs.csv"
    circuits_over_runs(many, generator())[0].table().to_csv(over_runs, index=False)
    committed["method_card"] = FIGURES.parent / "compo_mech" / "ground_truth" / "method_card.csv"
    return {"emergence": file, "edges_over_runs": over_runs, **committed, **studies}


def study():
    """As a study writes it: two arms and tasks, censored times, controls, labels, a run that failed."""
    rows = [{"study": "made up", "arm": "near", "seed": 2, "error": "RuntimeError: no"}]
    for arm, seed, task in itertools.product(("near", "far apart"), range(6), ("parity", "copy")):
        time = math.inf if seed == 1 else 100.0 + seed
        scores = [RunScore(measures.ITERATION, 0.9, task), RunScore(measures.ITERATION, 0.1, task, "control")]
        scores += [RunScore(measures.SOLVED, 1.0, task), RunScore(measures.FIRST_STEP_AT_99, time, task)]
        scores += [RunScore(measures.ROUTE_SHARE, 0.3, task, route=route) for route in ("direct", "offset")]
        if (arm, seed) != ("near", 2):
            rows += [{"study": "made up", "arm": arm, "seed": seed} | score.columns() for score in scores]
    return pd.DataFrame(rows)


def scaling():
    """Steps in proportion to the length; of the narrow networks none is there at length 8."""
    rows = []
    for length, d_model, seed in itertools.product((4, 8), (8, 16), (0, 1)):
        solved = (length, d_model) != (8, 8)
        step = 100.0 * length if solved else math.inf
        values = {measures.ACCURACY: 0.5 + solved / 2, measures.ITERATION: 0.8, measures.SOLVED: float(solved)}
        values |= {measures.FIRST_STEP_AT_99: step}
        run = {"study": "scaling", "length": length, "d_model": d_model, "seed": seed, "error": None}
        rows += [run | RunScore(measure, value, "parity").columns() for measure, value in values.items()]
    return pd.DataFrame(rows)


def grid():
    """The same as a study writes it, with arms, and one of which each run failed."""
    table = scaling().assign(study="grid", value=lambda table: table["value"])
    table["arm"] = "length " + table["length"].astype(str) + " d_model " + table["d_model"].astype(str)
    lost = [{"study": "grid", "arm": "no", "length": 16, "d_model": 8, "seed": seed, "error": "no"} for seed in (0, 1)]
    return pd.concat([table, pd.DataFrame(lost)], ignore_index=True)


@pytest.fixture(scope="module")
def drawn(runs, tables, tmp_path_factory):
    """Each script's page."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {name: folder / f"{name}.html" for name in SCRIPTS}
    for name, out in pages.items():
        call(name, *arguments(name, out, runs, tables))
    return pages


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


def arguments(name, out, runs, tables):
    if SCRIPTS[name] == TABLE:
        return [tables[name], *MORE.get(name, ()), "--out", out]
    if SCRIPTS[name] == NOTHING:
        return ["--out", out]
    if SCRIPTS[name] == RUNS:
        return [*runs, "--out", out]
    return [runs[0], "--out", out, *(("--length", "5") if name == "iteration_head" else ())]


def module_of(name):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(f"figure_{name}", FIGURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name, *words):
    """The script's command line."""
    command.call(module_of(name).main, [str(word) for word in words])


def refused(capsys, name, *words):
    """The one line with which the script ends."""
    with pytest.raises(SystemExit) as stop:
        call(name, *words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_every_script_is_tested_and_says_how_it_is_called():
    assert {path.stem for path in FIGURES.glob("*.py")} == set(SCRIPTS) == set(SHOWN)
    for name in SCRIPTS:
        source = (FIGURES / f"{name}.py").read_text()
        (written,) = re.findall(rf"^python figures/{name}\.py (.*(?:\\\n.*)?)$", source, flags=re.M)
        assert "--out " in written  # what is read comes first, as everywhere
        with_out = inspect.signature(module_of(name).main).parameters["out"]
        assert command.Positional not in getattr(with_out.annotation, "__metadata__", ())


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_page_says_what_it_shows_and_asks_for_nothing(name, drawn):
    page = drawn[name].read_text()
    own = page.replace(plotly_script().html, "")
    assert len(own) < len(page)  # plotly's script is in it
    for text in SHOWN[name]:
        assert text in own.encode().decode("unicode_escape") or text in own, text
    assert not re.search(r"""(src|href)=["']?https?:|import\(|cdn""", own)
    caption = " ".join((module_of(name).__doc__ or "").split("\n\n")[0].split())
    assert f"<p>{subscripts(caption)}</p>" in own
    assert own.count("<h1>") == own.count("How to make this again") == own.count("role=img") == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_that_cannot_be_written(name, runs, tables, tmp_path, capsys):
    for out in (tmp_path / "no" / "figure.html", tmp_path / "figure.docx"):
        line = refused(capsys, name, *arguments(name, out, runs, tables))
        assert line.startswith(f"error: out = {out}: ")
        assert not out.exists()


def test_an_older_step_and_other_tasks_are_said_on_the_figure(runs, tmp_path):
    run = Run.open(Path(shutil.copytree(runs[0], tmp_path / "one")))
    assert run.analysed("dissect").notes == []
    shutil.rmtree(run.path / "analysis")
    task = run.config.data.measured_tasks[0]
    circuit = Circuit(run.config.model, frozenset(all_edges(run.config.model)[:3]), {})
    run.write_analysis(analysis_name("dissect", 3, task), {"circuit.json": to_json(circuit)})
    assert run.found("dissect", "circuit.json") == to_json(circuit)
    assert run.analysed("dissect").notes == ["Of step 3; the last checkpoint is of step 6."]
    run.write_analysis(analysis_name("dissect", 6, task), {"patching.csv": ""})  # no circuit was found in it
    with pytest.raises(RunError, match=r"must have a circuit\.json in dissect-000006-parity, its latest of dissect"):
        run.found("dissect", "circuit.json")


def test_the_other_tasks_of_a_run_are_said_or_drawn(tmp_path):
    argv = ["--runs-dir", str(tmp_path), "--name", "two", "--data.max-length", "5", "--model.d-model", "16",
            "--train.n-steps", "4", "--n-test-strings", "8", "--data.tasks", "parity", "copy", "--data.curriculum",
            "--data.task-weights", "1", "1"]  # fmt: skip
    run = launch(settings.parse(recipes.parity(), argv), Console(quiet=True))
    figure = with_notes(go.Figure().update_layout(height=300, margin_b=40), other_tasks([run]))
    assert [note.text for note in figure.layout.annotations] == ["Of two only parity is shown, not copy."]
    assert figure.layout.height - figure.layout.margin.b == 260
    assert with_notes(go.Figure(), []).layout.annotations == ()
    names = {trace.name for trace in module_of("cleanliness").drawn([run], "iteration").data if trace.name}
    assert names == {"two, parity", "two, copy"}


def test_no_run_or_task_of_the_mechanism_is_left_out_unsaid(tables):
    module = module_of("mechanism")
    table = pd.read_csv(tables["mechanism"])
    own = table[table["run"].isin(["parity-seed0", "parity-gaps-seed0", "copy-seed0"])]
    own = pd.concat([own, own[own["run"] == "parity-seed0"].assign(run="other-seed0", task="dihedral(n=3)")])
    whole = module.drawn(own)
    assert {run for trace in whole.data if trace.text is not None for run in trace.text} == set(own["run"])
    assert "dihedral(n=3)" in {trace.name for trace in whole.data}
    some = module.drawn(own, ["parity-gaps-seed0"])
    assert "Left out: parity-gaps-seed0." in some.layout.annotations[-1].text
    assert {run for trace in some.data if trace.text is not None for run in trace.text} == {
        "parity-seed0", "copy-seed0", "other-seed0"
    }  # fmt: skip
    with pytest.raises(ValueError, match="without = none: must be one of"):
        module.drawn(own, ["none"])


@pytest.mark.parametrize("name", [name for name, kind in SCRIPTS.items() if kind in (RUN, RUNS)])
def test_no_such_run(name, tmp_path, capsys):
    words = arguments(name, tmp_path / "figure.html", [tmp_path / "none"], {})
    assert (
        refused(capsys, name, *words) == f"error: run = {tmp_path / 'none'}: must be a folder that holds a config.json"
    )


@pytest.mark.parametrize("name", ["circuit_graph", "patching_map", "probes_by_step"])
def test_no_such_analysis(name, runs, tmp_path, capsys):
    line = refused(capsys, name, runs[1], "--out", tmp_path / "figure.html")
    assert line.startswith(f"error: run = {runs[1]}: must have been analysed by ")


@pytest.mark.parametrize("name", [name for name, kind in SCRIPTS.items() if kind == TABLE])
def test_no_such_table(name, tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for table in (tmp_path / "none.csv", tmp_path / "other.csv"):
        words = arguments(name, tmp_path / "figure.html", [], {name: table})
        assert refused(capsys, name, *words).startswith(f"error: table = {table}: must be ")


@pytest.mark.parametrize("panel", ["speed", "route share", "route share, route=none", "solved, route=direct"])
def test_a_measure_that_a_study_does_not_have(tables, tmp_path, capsys, panel):
    known = "iteration; solved; first step at 99%; route share, route=direct; route share, route=offset"
    told = f"error: measures = {panel}: must be of {known}"
    assert refused(capsys, "study", tables["study"], "solved", panel, "--out", tmp_path / "figure.html") == told


def test_no_panel_is_headed_by_the_name_of_a_variable():
    titles = [Asked.read(name).title for name in measures.MEASURES]
    assert len(titles) > 50
    assert [title for title in titles if re.search(r"[a-z]{2,}_|_[a-z]{2,}", title)] == []


def test_a_study_whose_runs_failed_or_are_censored(tables, tmp_path):
    table = pd.read_csv(tables["study"])
    table["value"] = table["value"].where(table["measure"] != "first step at 99%", math.inf)
    table = table[(table["arm"] != "near") | table["error"].notna()]
    table.to_csv(tmp_path / "study.csv", index=False)
    call("study", tmp_path / "study.csv", "first step at 99%", "--out", tmp_path / "figure.html")
    page = (tmp_path / "figure.html").read_text()
    assert '"ticktext":["0","censored"]' in page
    assert "1 failed" in page


def cells(panel) -> dict:
    """What a grid's panel says, by x and y."""
    return {
        (x, y): text for y, line in zip(panel.y, panel.text, strict=True) for x, text in zip(panel.x, line, strict=True)
    }


def test_a_grid_has_an_arm_a_cell_with_its_censored_and_failed_seeds():
    figure = module_of("grid").drawn(grid(), ["accuracy", "first step at 99%"], "length", "d_model", ())
    values = {key: text.split("<br>")[0] for key, text in cells(figure.data[1]).items()}
    assert values == {("4", "8"): "400", ("8", "8"): "–", ("16", "8"): "–", ("4", "16"): "400", ("8", "16"): "800",
                      ("16", "16"): ""}  # fmt: skip
    missing = {key for key, text in cells(figure.data[1]).items() if "0 of 2" in text}
    assert missing == {("8", "8"), ("16", "8")}
    assert cells(figure.data[0])["8", "8"] == "0.50"
    steps, accuracy = figure.data[1], figure.data[0]
    assert steps.z[0][1] == steps.zmax > steps.z[1][1]  # what never came is lightest, what came later is lighter
    assert steps.reversescale
    assert not accuracy.reversescale
    assert (accuracy.zmin, accuracy.zmax) == (0, 1)


def test_a_panel_of_a_grid_says_that_nothing_was_measured():
    table = grid().assign(kind="a")
    other = table[table["measure"] == "accuracy"].assign(kind="b", arm=lambda own: "b " + own["arm"].astype(str))
    both = pd.concat([table, other], ignore_index=True)
    draw = module_of("grid").drawn
    said = [
        note.text for note in draw(both, ["accuracy", "iteration"], "length", "d_model", ["kind"]).layout.annotations
    ]
    assert said.count("not measured") == 1
    assert "not measured" not in [
        n.text for n in draw(table, ["iteration"], "length", "d_model", ()).layout.annotations
    ]


def test_a_run_that_failed_counts_in_a_grid_as_in_the_summary_of_its_study():
    whole = grid()
    one = (whole["length"] == 4) & (whole["d_model"] == 8) & (whole["seed"] == 1)
    lost = whole[~one]
    lost.loc[len(lost)] = {
        "study": "grid",
        "arm": "length 4 d_model 8",
        "length": 4,
        "d_model": 8,
        "seed": 1,
        "error": "no",
    }
    figure = module_of("grid").drawn(lost, ["solved", "first step at 99%", "iteration"], "length", "d_model", ())
    solved, steps, iteration = figure.data
    assert cells(solved)["4", "8"].startswith("0.50<br>")
    assert cells(iteration)["4", "8"].startswith("0.80<br>")  # left out of a mean
    assert all("1 of 2" in cells(panel)["4", "8"] for panel in figure.data)
    assert steps.customdata[0][0] == "400 (400 .. never), 1 of 2 seeds"
    assert steps.customdata[0][1] == "never (never .. never), 0 of 2 seeds"
    assert iteration.customdata[0][0] == "0.8 (– .. –), 1 of 2 seeds"  # one seed has no interval


def test_panels_of_a_grid_have_their_own_values_and_where_leaves_some_arms():
    module, table = (
        module_of("grid"),
        grid().assign(kind=lambda t: ["short" if n == 4 else "long" for n in t["length"]]),
    )
    figure = module.drawn(table, ["accuracy"], "length", "d_model", ["kind"])
    assert set(cells(figure.data[0])) == {("4", "8"), ("4", "16")}
    assert {x for x, _ in cells(figure.data[1])} == {"8", "16"}
    both = module.drawn(table, ["accuracy"], "length", "d_model", ["kind", "length"]).layout.annotations
    assert [note.text for note in both[:3]] == ["short, length 4", "long, length 8", "long, length 16"]
    table.loc[table["length"] == 8, "kind"] = None
    with pytest.raises(ValueError, match=r"factors = kind: must be one of every arm, and length 8 d_model .* has none"):
        module.drawn(table, ["accuracy"], "length", "d_model", ["kind"])
    table.loc[table["length"] == 8, "kind"] = "long"
    some = module._some(table, ["kind=long", "d_model=16"])
    assert set(some["arm"]) == {"length 8 d_model 16"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("speed", "--x", "length", "--y", "d_model"),
         "measures = speed: must be of accuracy; iteration; solved; first step at 99%"),
        (("accuracy", "--x", "width", "--y", "d_model"), "factors = width: must be of length, d_model"),
        (("accuracy", "--x", "value", "--y", "d_model"), "factors = value: must be of length, d_model"),
        (("accuracy", "--x", "length", "--y", "length"), "factors = length, length: must tell all arms apart"),
        (("accuracy", "--x", "length", "--y", "d_model", "--where", "d_model=7"),
         "where = d_model=7: must be of d_model=8, d_model=16"),
        (("accuracy", "--x", "length", "--y", "d_model", "--where", "length"), "where = length: must be of length=4"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_drawn(tables, tmp_path, capsys, words, told):
    line = refused(capsys, "grid", tables["grid"], *words, "--out", tmp_path / "figure.html")
    assert line.startswith(f"error: {told}")


def test_a_grid_of_several_tasks_is_refused(tmp_path, capsys):
    two = pd.concat([grid(), grid().assign(task="copy")])
    two.to_csv(tmp_path / "t.csv", index=False)
    line = refused(capsys, "grid", tmp_path / "t.csv", *MORE["grid"], "--out", tmp_path / "figure.html")
    assert line == "error: table = of copy, parity: must be of one task"


@pytest.mark.parametrize("n_tasks", [5, 6])
def test_tasks_have_a_colour_each_or_one_for_all(n_tasks):
    tasks = [f"counter(modulus={n})" for n in range(2, 2 + n_tasks)]
    rows = [
        {"study": "many", "arm": task, "seed": seed} | RunScore(measures.ITERATION, 0.5, task).columns()
        for n, task in enumerate(tasks)
        for seed in range(2 + n % 2)
    ]
    module = module_of("study")
    figure = module.drawn(pd.DataFrame(rows).assign(error=None), ["iteration"])
    colours = {module.colour_of(task, tasks) for task in tasks}
    assert len(colours) == (5 if n_tasks == 5 else 1)
    assert ({trace.name for trace in figure.data} >= set(tasks)) == (n_tasks == 5)
    assert "2 to 3 seeds an arm" in figure.layout.title.text


def test_the_iteration_head_at_steps_and_lengths_that_there_are_not(runs, tmp_path, capsys):
    out = tmp_path / "figure.html"
    told = "error: length = 9: must be 1 .. 5"
    assert refused(capsys, "iteration_head", runs[0], "--out", out, "--length", 9) == told
    told = "error: step = 99: must be one of 0 "
    assert refused(capsys, "iteration_head", runs[0], "--out", out, "--length", 5, "--steps", 0, 99).startswith(told)


@pytest.mark.parametrize(("longest", "shown"), [(9, 8), (8, 8), (7, 7), (1, 1)])
def test_the_iteration_head_is_shown_at_the_longest_length_up_to_8(longest, shown, tmp_path):
    argv = ["--runs-dir", str(tmp_path), "--data.max-length", str(longest), "--n-test-strings", "8"]
    config = settings.parse(recipes.parity(), argv).config
    assert module_of("iteration_head").shown_set(Run.create(tmp_path / "one", config), None).length == shown


def test_a_length_that_is_not_there_is_told_before_any_step_is_read(runs, tmp_path, capsys):
    copy = Run.open(shutil.copytree(runs[0], tmp_path / "one"))
    (copy.path / "checkpoints" / "000003.safetensors").write_bytes(b"damaged")
    told = "error: length = 9: must be 1 .. 5"
    assert refused(capsys, "iteration_head", copy.path, "--out", tmp_path / "figure.html", "--length", 9) == told


FILLED = {
    "edges_over_runs": ("task", "shape", "writer", "reader", "n_circuits_with", "n_circuits"),
    "emergence": ("task", "run", "component", "last_step"),
    "grid": ("study", "arm", "seed", "task", "measure", "network", "value"),
    "language_model": ("part", "measure", "value"),
    "mechanism": ("run", "task", "component", "measure", "statistic"),
    "method_card": ("family", "task", "build", "counterfactual", "method", "top_is_truth", "auc_all", "n_forwards"),
    "outcomes": ("verdict", "seed", "step"),
    "scaling": ("measure", "network", "length", "d_model", "seed", "value"),
    "study": ("study", "arm", "seed", "task", "measure", "network", "value"),
}
"""Columns that have something in every row but that of a failed run."""


@pytest.mark.parametrize(("name", "column"), [(name, column) for name, columns in FILLED.items() for column in columns])
def test_an_empty_cell_where_something_must_be(name, column, tables, tmp_path, capsys):
    table = pd.read_csv(tables[name], low_memory=False).tail(4).reset_index(drop=True)
    file = tmp_path / "t.csv"
    for rows, row in (([1, 3], 2), ([0, 1, 2, 3], 1)):
        table.assign(**{column: table[column].mask(table.index.isin(rows))}).to_csv(file, index=False)
        line = refused(capsys, name, *arguments(name, tmp_path / "figure.html", [], {name: file}))
        assert line.startswith(f"error: table = {file}: must be a table by ")
        assert line.endswith(f"(its column {column} is empty in row {row})")


@pytest.mark.parametrize("name", [name for name, kind in SCRIPTS.items() if kind == TABLE])
def test_a_column_that_is_there_twice(name, tables, tmp_path, capsys):
    table = pd.read_csv(tables[name], low_memory=False).tail(4)
    column, file = FILLED[name][0], tmp_path / "t.csv"
    pd.concat([table, table[[column]]], axis=1).to_csv(file, index=False)
    line = refused(capsys, name, *arguments(name, tmp_path / "figure.html", [], {name: file}))
    assert line.endswith(f"(it has {column} as the name of two columns)")


def test_edges_of_each_task_and_shape_have_a_panel_and_none_is_there_twice(tables, tmp_path, capsys):
    table = pd.read_csv(tables["edges_over_runs"])
    both, out = tmp_path / "both.csv", tmp_path / "figure.html"
    pd.concat([table, table]).to_csv(both, index=False)
    assert refused(capsys, "edges_over_runs", both, "--out", out).startswith("error: table = edges twice:")
    other = {"shape": "3 layers of 1 head"}, {"task": "copy", "n_circuits_with": 0, "n_circuits": 0, "fraction": None}
    pd.concat([table, *(table.assign(**changes) for changes in other)]).to_csv(both, index=False)
    call("edges_over_runs", both, "--out", out)
    page = out.read_text()
    for title in ("parity, 2 layers of 1 head: 3", "parity, 3 layers of 1 head: 3", "copy, 2 layers of 1 head: 0"):
        assert f"{title} circuits" in page


@pytest.mark.parametrize("measure", ["weight on x_t", "logits moved alone", "carried"])
def test_what_the_language_models_panels_need(measure, tables, tmp_path, capsys):
    table = pd.read_csv(tables["language_model"], low_memory=False)
    table = table[table["form"] == "all"]
    own = (table["part"] == "heads") & (table["measure"] == measure)
    first = str(table[own]["component"].iloc[0])
    file = tmp_path / "t.csv"
    for damaged, told in (
        (table[~own], f"must have the measure {measure!r} of heads, over forms"),
        (table.assign(component=table["component"].mask(own)), f"must name the component of each {measure!r}"),
        (pd.concat([table, table[own].head(1)]), f"must have one {measure!r} of {first}, it has two"),
        (table[table["part"] != "accuracy"], "must have the part accuracy, over forms"),
        (table.assign(task=None), "must name the task of each accuracy"),
    ):
        damaged.to_csv(file, index=False)
        line = refused(capsys, "language_model", file, "--out", tmp_path / "figure.html")
        assert line == f"error: table = {file}: {told}"


def test_runs_of_the_mechanism_that_failed_are_said(tables):
    module, table = module_of("mechanism"), pd.read_csv(tables["mechanism"])
    own = table[table["run"] == "copy-seed0"].assign(failed=None)
    with_lost = pd.concat([own, pd.DataFrame([{"run": "bad", "failed": "run = bad: is damaged"}])])
    assert "Failed, and not shown: bad." in module.drawn(with_lost).layout.annotations[-1].text
    with pytest.raises(ValueError, match="must have one that did not fail and is not left out"):
        module.drawn(with_lost, ["copy-seed0"])


def test_a_method_that_nobody_knows_is_refused(tables, tmp_path, capsys):
    file = tmp_path / "t.csv"
    pd.read_csv(tables["method_card"]).tail(2).assign(method="guess").to_csv(file, index=False)
    line = refused(capsys, "method_card", file, "--out", tmp_path / "figure.html")
    assert line.startswith(f"error: table = {file}: must have methods of exact, ")
    assert line.endswith("and has 'guess'")


@pytest.mark.parametrize("panel", ["solved, =", "solved, route=", "solved, route", "solved, speed=1", "solved, "])
def test_a_panel_that_is_not_spelled_as_one(panel, tables, tmp_path, capsys):
    line = refused(capsys, "study", tables["study"], panel, "--out", tmp_path / "figure.html")
    assert line.startswith(f"error: measures = {panel}: must be MEASURE, or MEASURE, LABEL=VALUE with statistic, ")


def test_steps_that_cannot_be_read_are_left_out_of_the_slider_and_told(runs, tmp_path, capsys):
    copy = Run.open(shutil.copytree(runs[0], tmp_path / "one"))
    (copy.path / "checkpoints" / "000003.safetensors").write_bytes(b"damaged")
    call("iteration_head", copy.path, "--out", tmp_path / "figure.html", "--length", 5)
    page = (tmp_path / "figure.html").read_text()
    steps = [step for step in copy.steps if f'"label":"{step}"' in page]
    assert steps == [step for step in copy.steps if step != 3]
    assert "Step 3 is left out: it is damaged." in page
    assert "test strings of length 5, by step" in page
    assert "step 3 is left out: " in capsys.readouterr().err
    for name, more in (("iteration_head", ["--steps", 3]), ("grokking", [])):
        with pytest.raises(SystemExit) as stop:
            call(name, copy.path, "--out", tmp_path / "no.html", *more)
        assert stop.value.code == 2
        assert "000003.safetensors: is damaged" in capsys.readouterr().err
    assert not (tmp_path / "no.html").exists()


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("iteration_head", "length_by_dimension")),
        "probes_by_step",
    ],
)
def test_pages_in_a_browser(browser, drawn, name):
    n_sliders = int(name == "iteration_head")
    with open_page(browser, drawn[name]) as page:
        assert [picture.kind for picture in page.pictures()] == ["plotly"]
        assert page.move_sliders() == n_sliders
        if n_sliders:  # what makes pages narrow is the same in all
            page.narrow()
            page.check_width()
