"""Every kind of page that is written here, in a browser without a network; and that the checks can fail."""

import shutil
from functools import partial
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch
from browser import PHONE_WIDTH, chromium, open_page, started

from compo_mech.analyses import alignment
from compo_mech.analyses.dissection import dissect
from compo_mech.analyses.subtraction_probe import SUBTRACTION
from compo_mech.analyses.update_probe import UPDATE
from compo_mech.causal.das import align
from compo_mech.cli.align import align_command
from compo_mech.cli.probe import PROBES
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.launch import main
from compo_mech.plots.circuitsvis import attention_view, script, token_view
from compo_mech.probing import sites
from compo_mech.probing.probes import linear_probe
from compo_mech.report import run_page
from compo_mech.report.dissection import dissection_section
from compo_mech.report.html_parts import figure_html, plotly_script
from compo_mech.runs import recipes
from compo_mech.runs.run import Run

FIGURES = Path(__file__).parents[2] / "figures"


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


@pytest.fixture
def run(browser, tmp_path):  # the browser first: where there is none, nothing else need be done
    argv = ["--runs-dir", str(tmp_path), "--name", "one", "--data.max-length", "5", "--model.d-model", "16",
            "--model.n-heads", "2", "--train.n-steps", "6", "--n-test-strings", "8"]  # fmt: skip
    main.main(recipes.parity(), argv)
    return Run.open(tmp_path / "one")


def looked_at(browser, source, n_pictures, n_sliders):
    """A page on a desk and on a phone: at least so many pictures and sliders on it, and every slider moves."""
    with open_page(browser, source) as page:
        assert len(page.pictures()) >= n_pictures
        assert page.move_sliders() >= n_sliders
        page.narrow()
        page.check_width()


# ------------------------------------------------------------------------------------ our pages


def test_the_page_of_a_run(browser, run):
    looked_at(browser, run_page.write_page(run), n_pictures=2, n_sliders=1)


def test_the_method_card(browser):
    looked_at(browser, FIGURES / "results" / "method_card.html", n_pictures=0, n_sliders=0)


@pytest.mark.slow
def test_the_section_of_a_dissection(browser, run):
    torch.set_num_threads(1)
    built = build(Parity(), max_length=5, rungs=BuildOptions(distractors=True, rotated=True))
    found = dissect(built.model, built.data, Parity(), 0, built.shifts, n_pairs=32, n_strings=32)
    assert found.circuit is not None
    run.write_analysis("dissect", {"section.html": dissection_section(found, None)})
    looked_at(browser, run_page.write_page(run), n_pictures=2 + 6, n_sliders=1)


@pytest.mark.slow
def test_the_sections_of_the_probes(browser, run, monkeypatch):
    monkeypatch.setattr(sites, "mlp_probe", lambda values, split, generator: linear_probe(values, split))
    for name in (SUBTRACTION.name, UPDATE.name):
        PROBES[name](run.path, all_steps=True)
    looked_at(browser, run.path / "report.html", n_pictures=2 + 6, n_sliders=1)


@pytest.mark.slow
def test_the_section_of_an_alignment(browser, run, monkeypatch):
    monkeypatch.setattr(alignment, "align", partial(align, n_steps=3))
    monkeypatch.setattr(alignment, "N_MAP", 60)
    monkeypatch.setattr(alignment, "N_TRAIN", 60)
    align_command(run.path, None, True, None, 0)
    looked_at(browser, run.path / "report.html", n_pictures=2 + 1, n_sliders=1)


# --------------------------------------------------------------------------------- what must fail


def plots(*figures):
    return plotly_script().html + "".join(map(figure_html, figures))


def line(**settings):
    return go.Figure(go.Scatter(x=[0, 1, 2], y=[0, 3, 1], **settings))


def slider_figure(method="animate", n_steps=4):
    """A bar that grows from step to step, if the slider's method does anything."""
    bars = [go.Bar(x=["a", "b"], y=[1, step]) for step in range(n_steps)]
    names = [str(step) for step in range(n_steps)]
    quick = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    return go.Figure(
        data=bars[:1],
        frames=[go.Frame(data=[bar], name=name) for name, bar in zip(names, bars, strict=True)],
        layout={
            "yaxis": {"range": [0, n_steps]},
            "sliders": [{"steps": [{"method": method, "label": name, "args": [[name], quick]} for name in names]}],
        },
    )


def test_sliders_are_dragged_by_the_mouse(browser):
    with open_page(browser, plots(line(), slider_figure(), slider_figure(n_steps=2)), width=600, height=700) as page:
        assert len(page.pictures()) == 3
        assert page.move_sliders() == 2


def test_a_slider_that_does_nothing(browser):
    with open_page(browser, plots(slider_figure(method="skip")), width=600, height=700) as page:
        assert page.pictures()
        with pytest.raises(AssertionError, match=r"slider 0: step \d changes 0 pixels"):
            page.move_sliders()


def test_a_slider_that_cannot_be_reached(browser):
    cover = "<div style='position: fixed; inset: 0'></div>"
    with (
        open_page(browser, plots(slider_figure()) + cover, width=600, height=700) as page,
        pytest.raises(AssertionError, match=r"slider 0: dragged to step \d, is at \d"),
    ):
        page.move_sliders()


EMPTY = [
    (go.Figure(), "has no data"),
    (go.Figure(go.Scatter(x=[], y=[])), "has no data"),
    (go.Figure(go.Heatmap(z=[[float("nan")] * 2])), "has no data"),
    (line(opacity=0), "nothing is drawn"),
    (line(visible="legendonly"), "nothing is drawn"),
    (line().update_yaxes(range=[5, 6]), "nothing is drawn"),
    (line().update_layout(height=90, title="low"), r"\(low\): is 90 px high"),
]


def test_a_plot_that_shows_nothing(browser):
    with open_page(browser, plots(*(figure for figure, _ in EMPTY), line())) as page:
        for _, complaint in EMPTY:
            with pytest.raises(AssertionError, match=f"plot 0:? ?{complaint}"):
                page.pictures()
            page.tab.evaluate("document.querySelector('.js-plotly-plot').remove()")
        assert len(page.pictures()) == 1  # what is left is a plot


def test_views_are_drawn(browser):
    views = attention_view(torch.eye(2)[None], ["a", "b"], "one"), token_view(["a"], torch.ones(1, 1), ["p"], "two")
    body = script() + "".join(view.html for view in views)
    with open_page(browser, body) as page:
        assert [(picture.kind, picture.name) for picture in page.pictures()] == [
            ("circuitsvis", "one"),
            ("circuitsvis", "two"),
        ]
        page.tab.evaluate("document.getElementById('one').innerHTML = ''")
        with pytest.raises(AssertionError, match="circuitsvis one: is empty"):
            page.pictures()
    with pytest.raises(AssertionError, match=r"errors: .*CircuitsVis"), open_page(browser, views[0].html):
        pass  # without the script


def test_an_image_that_is_not_there(browser):
    drawn = "<svg xmlns='http://www.w3.org/2000/svg' width='80' height='80'>{}</svg>"
    circles = "".join(f"<circle cx='{9 * i}' cy='40' r='{i}' fill='hsl({40 * i} 90% 50%)'/>" for i in range(1, 8))
    for content, complaint in ((circles, None), ("", "has 1 colours")):
        image = f'<img src="data:image/svg+xml;utf8,{drawn.format(content).replace("#", "%23")}">'
        with open_page(browser, image) as page:
            if complaint is None:
                assert [picture.kind for picture in page.pictures()] == ["img"]
            else:
                with pytest.raises(AssertionError, match=complaint):
                    page.pictures()
    with open_page(browser, '<img src="data:image/png;base64,AAAA">') as page:
        with pytest.raises(AssertionError, match="is not there"):
            page.pictures()
        page.errors.clear()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('broken')</script>", "errors: .*broken"),
        ("<script>throw new Error('thrown')</script>", "errors: .*thrown"),
        ("<script>Promise.reject(new Error('late'))</script>", "errors: .*late"),
        ("<script src='https://example.org/x.js'></script>", "asks the network: .*example.org/x.js"),
        ("<style>body { background: url(http://example.org/x.png) }</style>x", "asks the network: .*x.png"),
        ("<script>fetch('https://example.org/x.json').catch(() => 0)</script>", "asks the network: .*x.json"),
        ("<script>new WebSocket('wss://example.org/x')</script>", "(asks the network|errors): .*wss://example.org"),
        ("<iframe src='https://example.org/x.html'></iframe>", "asks the network: .*x.html"),
    ],
    ids=["console", "throw", "promise", "script", "style", "fetch", "socket", "frame"],
)
def test_a_page_that_is_not_quiet(browser, body, complaint):
    with pytest.raises(AssertionError, match=complaint), open_page(browser, body):
        pass


def test_a_page_that_is_wider_than_a_phone(browser):
    broad = "<div style='width: 600px; background: red'>x</div>"
    complaint = r"6\d\d px wide on a screen of 390: .*width: 600px"
    with open_page(browser, broad, width=PHONE_WIDTH) as page, pytest.raises(AssertionError, match=complaint):
        page.check_width()
    with open_page(browser, f"<div style='overflow-x: auto'>{broad}</div>", width=PHONE_WIDTH) as page:
        page.check_width()
    with open_page(browser, broad) as page, pytest.raises(AssertionError, match="opened at 1200 px, not 390"):
        page.check_width()


def test_what_is_folded_away_is_looked_at_too(browser):
    folded = "<details><summary>more</summary>{}</details>"
    broad = folded.format("<div style='width: 600px'>x</div>")
    with open_page(browser, broad, width=PHONE_WIDTH) as page, pytest.raises(AssertionError, match="px wide"):
        page.check_width()
    empty = plots(line()) + folded.format(figure_html(line(opacity=0)))
    with open_page(browser, empty) as page, pytest.raises(AssertionError, match="plot 1: nothing is drawn"):
        page.pictures()


def test_without_a_browser_tests_are_skipped_and_in_ci_they_fail(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium()
