"""Tables on a terminal: all that they hold is shown, and no line is longer than the terminal."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from compo_mech.cli.tables import print_table


def printed(table, width, **kwargs):
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(console, table, **kwargs)
    return console.export_text()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("n_columns", [1, 3, 30])
def test_every_cell_is_shown_within_the_width(width, n_columns):
    draws = np.random.default_rng(n_columns)
    table = pd.DataFrame({"run": [f"parity-seed{i}" for i in range(4)]})
    for i in range(n_columns):
        table[f"measure {i} of many"] = draws.normal(size=4)
    shown = printed(table, width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for name in table.columns[1:]:
        for value in table[name]:
            assert f"{value:.3f}" in shown
    n_parts = sum(set(line.strip()) == {"─"} for line in shown.splitlines())
    assert n_parts == 1 if n_columns == 1 else n_parts >= 1
    assert shown.count("parity-seed0") == shown.count("parity-seed3") == n_parts


def test_long_texts_are_folded_and_not_cut():
    table = pd.DataFrame({"what": ["x" * 300], "n": [7]})
    shown = printed(table, 80)
    assert shown.count("x") == 300
    assert "7" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_what_is_no_number_has_a_word():
    table = pd.DataFrame(
        {"step": [200.0, np.inf, np.nan], "n": pd.array([1, None, 3], dtype="Int64"), "why": [None, "a", "b"]}
    )
    lines = printed(table, 80).splitlines()
    assert [line.split() for line in lines[-3:]] == [["200", "1", "–"], ["never", "–", "a"], ["–", "3", "b"]]


def test_the_numbers_of_a_column_have_the_same_decimals():
    table = pd.DataFrame({"mean": [12.0, 12.5, -0.0001], "fraction": [1.0, 0.0, 1.0], "n": [1, 20, 3]})
    lines = printed(table, 80).splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["12.000", "1.000", "1"],
        ["12.500", "0.000", "20"],
        ["0.000", "1.000", "3"],
    ]


def test_nothing_is_said_to_be_nothing():
    assert printed(pd.DataFrame({"run": []}), 80, empty="no runs").strip() == "no runs"


def test_brackets_are_no_style():
    assert "[copy] 0 [EoI]" in printed(pd.DataFrame({"prompt": ["[copy] 0 [EoI]"]}), 80)
