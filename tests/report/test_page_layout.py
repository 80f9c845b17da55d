"""Pages on three screens in both colour schemes: nothing sticks out, links lead somewhere, figures have words."""

import base64
import gzip
import re
from functools import partial
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import open_page, started
from layout_checks import WIDTHS
from plotly.offline import get_plotlyjs

from compo_mech.analyses import alignment
from compo_mech.analyses.dissection import dissect
from compo_mech.analyses.subtraction_probe import SUBTRACTION
from compo_mech.analyses.update_probe import UPDATE
from compo_mech.causal.das import align
from compo_mech.cli.commands import PROBES, align_command
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.method_card import method_card_table
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.plots import theme
from compo_mech.plots.alternative import alternative
from compo_mech.plots.theme import subscripts
from compo_mech.probing import sites
from compo_mech.probing.probes import linear_probe
from compo_mech.report import run_page
from compo_mech.report.dissection import dissection_section
from compo_mech.report.document import document, figure_page, with_contents
from compo_mech.report.html_parts import LONG_TABLE, again, asset, plotly_script, table_html, wide
from compo_mech.report.method_card import method_card_page

ROOT = Path(__file__).parents[2]
SECTION = "<h2>Taken apart: parity, step {step}</h2><h3>Edges</h3><p>Of step {step}.</p>"


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


def looked_at(browser, source, n_pictures=0, n_sliders=0, n_links=0):
    """A page in either scheme on every screen: at least so many pictures, sliders and links are there, and work."""
    with open_page(browser, source, width=1280) as page:
        assert len(page.pictures()) >= n_pictures
        assert page.move_sliders() >= n_sliders
        assert page.check_contents() >= n_links
        page.check_alternatives()
        for scheme in ("light", "dark"):
            page.tab.set_viewport_size({"width": WIDTHS[0], "height": 900})
            page.tab.emulate_media(color_scheme=scheme)
            page.settle()
            page.check_screens()
            backgrounds = page.colours()
            assert len(backgrounds) == 1, backgrounds
            (background,) = backgrounds
            assert (min(background) > 200) if scheme == "light" else (max(background) < 60)


# ------------------------------------------------------------------------------------ in a browser


def test_the_page_of_a_run(browser, tiny_run):
    for step in (20, 40):
        tiny_run.write_analysis(f"dissect-{step:06d}-parity", {"section.html": SECTION.format(step=step)})
    page = run_page.write_page(tiny_run)
    text = page.read_text()
    assert "<summary>Earlier: step 20</summary>" in text
    assert text.count("class=needed") == 1
    assert text.count("How to make this again") == 3  # tables, curves and attention; analyses write their own
    looked_at(browser, page, n_pictures=2, n_sliders=1, n_links=5)


CARD = ROOT / "figures" / "results" / "method_card.html"


@pytest.mark.slow
def test_the_method_card(browser):
    looked_at(browser, CARD, n_links=3)


@pytest.mark.slow
def test_the_page_of_a_figure(browser):
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], name="one"))
    figure.update_layout(**theme.base_layout(), title="Ours", width=1100)
    looked_at(browser, figure_page(figure, "Ours", "What x_t does.", ["figures/ours.py", "out.html"]), n_pictures=1)


@pytest.mark.slow
def test_the_section_of_a_dissection(browser, tiny_run):
    built = build(Parity(), max_length=5, rungs=BuildOptions(distractors=True, rotated=True))
    found = dissect(built.model, built.data, Parity(), 0, built.shifts, n_pairs=32, n_strings=32)
    assert found.circuit is not None
    tiny_run.write_analysis("dissect", {"section.html": dissection_section(found, None)})
    looked_at(browser, run_page.write_page(tiny_run), n_pictures=2 + 6, n_sliders=1, n_links=5)


@pytest.mark.slow
def test_the_sections_of_the_probes(browser, tiny_run, monkeypatch):
    monkeypatch.setattr(sites, "mlp_probe", lambda values, split, generator: linear_probe(values, split))
    for name in (SUBTRACTION.name, UPDATE.name):
        PROBES[name](tiny_run.path, all_steps=True)
    looked_at(browser, tiny_run.path / "report.html", n_pictures=2 + 6, n_sliders=1, n_links=6)


@pytest.mark.slow
def test_the_section_of_an_alignment(browser, tiny_run, monkeypatch):
    monkeypatch.setattr(alignment, "align", partial(align, n_steps=3))
    monkeypatch.setattr(alignment, "N_MAP", 60)
    monkeypatch.setattr(alignment, "N_TRAIN", 60)
    align_command(tiny_run.path, None, True, None, 0)
    looked_at(browser, tiny_run.path / "report.html", n_pictures=2 + 1, n_sliders=1, n_links=5)


def test_a_page_that_changes_its_scheme_draws_its_figures_anew(browser):
    heatmap = go.Heatmap(z=[[0, 1]], colorscale=theme.scale(theme.SEQUENTIAL))
    figure = go.Figure(heatmap).update_layout(**theme.base_layout())
    with open_page(browser, document("one", wide(figure))) as page:
        light = page.colours()
        scale = "document.querySelector('.js-plotly-plot')._fullData[0].colorscale[0][1]"
        assert page.tab.evaluate(scale) == theme.SEQUENTIAL[0]
        page.tab.emulate_media(color_scheme="dark")
        page.settle()
        assert page.colours().isdisjoint(light)
        assert page.tab.evaluate(scale) == theme.DARK[theme.SEQUENTIAL[0]]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<nav><a href='#none'>gone</a></nav>", "#none: leads to 0 places"),
        ("<nav><a href='#a'>One</a></nav><h2 id=a>Two</h2>", "leads to 'Two', not 'One'"),
        ("<svg width=50 height=50><circle r=20 /></svg>", "without a text"),
        ("<div style='width: 1000px'>x</div>", "1\\d\\d\\d px wide on a screen of 768"),
    ],
    ids=["a link to nowhere", "a link to something else", "a picture without words", "a broad page"],
)
def test_the_checks_can_fail(browser, body, complaint):
    with pytest.raises(AssertionError, match=complaint):
        looked_at(browser, body)


# ------------------------------------------------------------------------------------ without one


def test_what_is_unpacked_is_plotlys_script():
    packed = re.search(r'<script type="application/gzip">(.*?)</script>', plotly_script().html)[1]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    assert len(packed) < 2_100_000
    assert "DARK COLOURS" not in plotly_script().html


def test_headings_are_linked_once_each_in_their_order():
    body = "<p>first</p><h2>A &amp; b</h2><h2>C</h2><h3>x<sub>t</sub></h3><h3>Two</h3><h3>Two</h3><h2>A &amp; b</h2>"
    page = with_contents(body)
    nav = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall('href="#(.*?)"', nav) == ["a-b", "c", "a-b-2"]
    assert re.findall('id="(.*?)"', page) == ["a-b", "c", "xt", "two", "two-2", "a-b-2"]
    within = page[page.index("In this section") :]
    assert re.findall('href="#(.*?)"', within) == ["xt", "two", "two-2"]
    assert re.sub('<nav.*?</nav>|<p class=within>.*?</p>| id=".*?"', "", page) == body
    assert "<nav" not in with_contents("<h2>A</h2><h2>B</h2>")


def test_the_newest_step_of_each_kind_and_task_stands_first_and_the_others_are_folded():
    names = ["dissect-000400-copy", "dissect-000400-parity", "dissect-1000000-parity", "dissect-002400-parity", "own"]
    parts = run_page.newest_first({name: f"<h2>{name}</h2>" for name in names})
    assert [part.startswith("<details") for part in parts] == [False, False, True, True, False]
    order = ["dissect-000400-copy", "dissect-1000000-parity", "dissect-002400-parity", "dissect-000400-parity", "own"]
    assert [name in part for name, part in zip(order, parts, strict=True)] == [True] * 5
    assert not any("<h2>" in part for part in parts if part.startswith("<details"))


def test_long_tables_are_folded_and_all_their_cells_are_there():
    for n in (LONG_TABLE, LONG_TABLE + 1):
        rows = {"edge": [f"<e{i}>" for i in range(n)], "score": [f"{i}.5" for i in range(n)]}
        shown = table_html(pd.DataFrame(rows))
        assert shown.startswith("<details") == (n > LONG_TABLE)
        assert all(f"&lt;e{i}&gt;" in shown and f">{i}.5<" in shown for i in range(n))
    assert "None." in table_html(pd.DataFrame({"edge": []}))


def test_indices_stand_below_the_line_and_nothing_else_does():
    assert subscripts("s_{t-1}, x_t, s_12, s_t-1") == (
        "s<sub>t-1</sub>, x<sub>t</sub>, s<sub>12</sub>, s<sub>t-1</sub>"
    )
    for text in ("d_model", "mlp_out0", "max_tokens", "xs_t"):
        assert subscripts(text) == text


def test_a_command_is_shown_as_it_is_typed():
    assert "python -m compo_mech dissect &#x27;a b&#x27;" in again(["-m", "compo_mech", "dissect", "a b"])


def test_a_figure_in_words_names_its_panels_its_axes_and_where_it_is_largest():
    figure = go.Figure()
    figure.add_heatmap(z=[[0.0, -3.0], [None, 1.0]], x=["x<sub>1</sub>", "x2"], y=["a", "b"])
    figure.add_heatmap(z=[[float("nan")]])
    figure.update_layout(title="Effect of <b>each</b>")
    figure.update_yaxes(title="head")
    assert alternative(figure) == "2 heat maps. Effect of each. Up: head. Largest: -3 at a, x2."
    many = go.Figure([go.Scatter(x=[0], y=[n], mode="lines", name=f"c{n}") for n in range(14)])
    assert alternative(many).endswith("c11, ends at 11 and 2 more.")
    assert alternative(go.Figure()) == "Chart."


# ------------------------------------------------------------------------------------ colours


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_has_one_on_dark_pages_and_both_can_be_seen():
    lines = {*theme.HEAD_COLOURS, theme.INK, theme.QUIET}
    for colour in lines:
        assert contrast(colour, theme.PAPER) > 2.6, colour
        assert contrast(theme.DARK[colour], theme.DARK[theme.PAPER]) > 4.5, colour
    for n in (1, 2, 12, 40):  # these are the same on both
        shades = theme.ordered_colours(n)
        assert len(set(shades)) == n
        assert all(contrast(c, theme.PAPER) > 2.6 and contrast(c, theme.DARK[theme.PAPER]) > 4.5 for c in shades)
        assert not set(shades) & set(theme.DARK)
    assert contrast(theme.INK, theme.PAPER) > 12
    assert len(set(theme.DARK.values())) == len(theme.DARK)
    for colours in (theme.SEQUENTIAL, theme.DIVERGING):
        dark = [luminance(theme.DARK[colour]) for colour in colours]
        middle = 0 if colours is theme.SEQUENTIAL else len(colours) // 2
        assert dark[middle:] == sorted(dark[middle:])
        assert dark[: middle + 1] == sorted(dark[: middle + 1], reverse=True)
    css = asset("page.css")
    assert css.count(f"--paper: {theme.PAPER}") == css.count(f"--paper: {theme.DARK[theme.PAPER]}") == 1


def test_the_method_card_is_that_of_its_table_and_can_be_read_in_either_scheme():
    assert CARD.read_text(encoding="utf-8") == method_card_page(method_card_table())
    assert "rgb(" not in CARD.read_text(encoding="utf-8")  # a colour of one scheme alone
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", css)) for css in asset("page.css").split("@media")[:2])
    for colours in (light, dark):
        for shade in ("low", "paper", "high"):
            assert contrast(colours["ink"], colours[shade]) > 4.5


def test_colours_are_named_in_the_theme_alone():
    files = [*(ROOT / "compo_mech" / "plots").glob("*.py"), *(ROOT / "figures").glob("*.py")]
    for file in files:
        if file.name != "theme.py":
            named = re.findall(r'"#[0-9a-f]{6}"|"plotly_white"|"RdBu_r"|colorscale="|plotly\.colors', file.read_text())
            assert not named, file


def test_tasks_have_their_own_colours_and_share_none():
    alone = theme.task_colours(["copy"])
    several = theme.task_colours(["mine", "copy", "parity", "other"])
    assert several["copy"] == alone["copy"] == theme.TASK_COLOURS["copy"]
    assert len(set(several.values())) == 4
    family = theme.task_colours(["polynomial(modulus=3)", "polynomial", "parity"])
    assert family["polynomial(modulus=3)"] == theme.TASK_COLOURS["polynomial"] != family["polynomial"]
