import json
import re

import pytest
import torch

from compo_mech.plots.circuitsvis import attention_view, script, token_view


def test_a_view_holds_what_it_shows_and_no_address():
    patterns = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    view = attention_view(patterns, ["a", "b"], "one")
    props = json.loads(re.search(r"AttentionHeads, (.*)\)</script>", view.html)[1])
    assert props == {"attention": [[[1.0, 0.0], [0.25, 0.75]]], "tokens": ["a", "b"]}
    assert view._repr_html_() == script() + view.html
    assert "unpkg" not in view._repr_html_()
    assert script().count("</script>") == 1


def test_a_token_cannot_close_the_script():
    view = token_view(["</script>", "b"], torch.tensor([[0.123456], [1.0]]), ["p"], "two")
    assert view.html.count("</script>") == 1
    props = json.loads(re.search(r"ColoredTokensMulti, (.*)\)</script>", view.html)[1])
    assert props == {"tokens": ["</script>", "b"], "values": [[0.1235], [1.0]], "labels": ["p"]}


def test_bad_input_gets_one_line():
    with pytest.raises(ValueError, match="labels = 1: must be 2, one a position"):
        attention_view(torch.ones(1, 2, 2), ["a"], "one")
    with pytest.raises(ValueError, match=r"values = \(2, 1\): must be \(1, 1\), labels by measures"):
        token_view(["a"], torch.ones(2, 1), ["p"], "one")
