"""The checks of pages in a browser: what is drawn passes them, and each can fail."""

import shutil

import plotly.graph_objects as go
import pytest
import torch
from browser import chromium, open_page, started
from layout_checks import PHONE_WIDTH

from compo_mech.plots.circuitsvis import attention_view, script, token_view
from compo_mech.report.html_parts import figure_html, plotly_script


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


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


@pytest.mark.slow
def test_sliders_are_dragged_by_the_mouse(browser):
    with open_page(browser, plots(line(), slider_figure(), slider_figure(n_steps=2)), width=600, height=700) as page:
        assert len(page.pictures()) == 3
        assert page.move_sliders() == 2


@pytest.mark.slow
def test_a_slider_that_does_nothing(browser):
    with open_page(browser, plots(slider_figure(method="skip")), width=600, height=700) as page:
        assert page.pictures()
        with pytest.raises(AssertionError, match=r"slider 0: step \d changes 0 pixels"):
            page.move_sliders()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def listen(page):
    """Wait for what a page has to say, which may come late from a busy browser."""
    for _ in range(100):
        if page.fetched or page.errors:
            return
        page.tab.wait_for_timeout(50)


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
    with pytest.raises(AssertionError, match=complaint), open_page(browser, body) as page:
        listen(page)


def test_a_page_that_is_wider_than_a_phone(browser):
    broad = "<div style='width: 600px; background: red'>x</div>"
    complaint = r"6\d\d px wide on a screen of 390: .*width: 600px"
    with open_page(browser, broad, width=PHONE_WIDTH) as page, pytest.raises(AssertionError, match=complaint):
        page.check_width()
    with open_page(browser, f"<div style='overflow-x: auto'>{broad}</div>", width=PHONE_WIDTH) as page:
        page.check_width()
    with open_page(browser, broad) as page, pytest.raises(AssertionError, match="opened at 1200 px, not 390"):
        page.check_width()


@pytest.mark.slow
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
