import json
import re

import pandas as pd
import pytest
import torch

from compo_mech.plots import attention, patching, trajectories
from compo_mech.plots.circuitsvis import ELEMENTS, View, attention_view, script, token_view
from compo_mech.report.html_parts import figure_html


def test_a_view_holds_what_it_shows_and_no_address():
    patterns = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    view = attention_view(patterns, ["a", "b"], "one")
    props = json.loads(re.search(r"AttentionHeads, (.*)\)</script>", view.html)[1])
    assert props == {"attention": [[[1.0, 0.0], [0.25, 0.75]]], "tokens": ["a", "b"]}
    assert view._repr_html_() == script() + view.html
    assert "unpkg" not in view._repr_html_()
    assert script().count("</script>") == 1


@pytest.mark.parametrize("token", ["</script>", "<!--", "<script>", "<!--<script>", "-->", "<b>&amp;", "\u2028", '"'])
def test_a_token_cannot_end_the_script_nor_begin_one_in_it(token):
    view = token_view([token, "b"], torch.tensor([[0.123456], [1.0]]), [token], "two")
    inside = re.fullmatch(r"<div id=.*></div><script>(.*)</script>", view.html)[1]
    assert "<" not in inside
    props = json.loads(re.search(r"ColoredTokensMulti, (.*)\)", inside)[1])
    assert props == {"tokens": [token, "b"], "values": [[0.1235], [1.0]], "labels": [token]}
    assert "<" not in attention_view(torch.ones(1, 1, 1), [token], "one").html.split("<script>", 1)[1][:-9]


def test_the_script_draws_every_element_that_is_offered():
    exported = re.search(r"\{(AttentionHeads:[^}]*)\}", script())[1]
    names = {pair.split(":")[0] for pair in exported.split(",")}
    assert names - {"Hello", "render"} == set(ELEMENTS)


@pytest.mark.parametrize("name", ["", "1", "two words", "a.b", "a:b", "#a", "a'b", 'a"b', "é", "a\n", "-a"])
def test_a_name_under_which_nothing_would_be_drawn_is_refused(name):
    for draw in (
        lambda: attention_view(torch.ones(1, 1, 1), ["a"], name),
        lambda: token_view(["a"], torch.ones(1, 1), ["p"], name),
        lambda: View("AttentionPattern", {}, name),
    ):
        with pytest.raises(ValueError, match="must be a letter, then letters, digits, - or _"):
            draw()


@pytest.mark.parametrize("element", ["Attention", "Hello", "", "render", "attentionHeads"])
def test_an_element_that_is_not_there_is_refused(element):
    with pytest.raises(ValueError, match=f"element = '{element}': must be one of AttentionHeads, "):
        View(element, {}, "one")


def test_what_is_not_finite_is_refused():
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="values = not all finite"):
            attention_view(torch.full((1, 1, 1), value), ["a"], "one")


def test_figures_show_names_letter_by_letter():
    """plotly reads a text's tags, so that a name with one would be shown without it."""
    name, shown = "<!--<b>&", "&lt;!--&lt;b&gt;&amp;"
    rows = {"component": ["accuracy"], "run": [name], "onset": [1.0], "midpoint": [2.0], "saturation": [3.0]}
    for figure in (
        attention.attention_maps([torch.ones(1, 1, 1)], [name], ""),
        patching.effect_maps({name: [[1.0]]}, [name], [name], ""),
        trajectories.curves_of_runs({"a": {name: ([0], [1.0])}}, [name], ""),
        trajectories.timeline(pd.DataFrame(rows | {"last_step": [4]}), ""),
    ):
        told = json.dumps(figure.to_dict(), default=str).replace(f'"legendgroup": "{name}"', "")  # which is not shown
        assert shown in told
        assert name not in told
        page = figure_html(figure)
        assert page.count("<script") == page.count("</script>")
        assert "<!--" not in page


def test_bad_input_gets_one_line():
    with pytest.raises(ValueError, match="labels = 1: must be 2, one a position"):
        attention_view(torch.ones(1, 2, 2), ["a"], "one")
    with pytest.raises(ValueError, match=r"values = \(2, 1\): must be \(1, 1\), labels by measures"):
        token_view(["a"], torch.ones(2, 1), ["p"], "one")
