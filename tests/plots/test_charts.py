import math

import pandas as pd
import pytest
import torch

from compo_mech.circuits.faithfulness import Curve
from compo_mech.plots import interchange, tables, trajectories
from compo_mech.plots.faithfulness import faithfulness_by_size, faithfulness_curves


def test_dots_hold_every_figure_and_its_controls():
    figure = tables.dots(["a", "b"], [(0.5, 0.4, 0.7), (1.0, 0.9, 1.0)], {"control": [0.1, None]}, "title", "fraction")
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["trained"].x) == [0.5, 1.0]
    assert list(by_name["trained"].error_x.array) == pytest.approx([0.2, 0.0])
    assert list(by_name["trained"].error_x.arrayminus) == pytest.approx([0.1, 0.1])
    assert list(by_name["control"].x) == [0.1, None]


def test_curves_by_step_have_their_bands_and_the_control():
    values = [(0.1, 0.0, 0.2), (0.9, 0.8, 1.0)]
    figure = trajectories.by_step({"probe": {"out": ([0, 10], values)}}, {"probe": {"out": 0.3}}, "title")
    band, curve, control = figure.data
    assert list(band.y) == [0.2, 1.0, 0.8, 0.0]
    assert list(curve.y) == [0.1, 0.9]
    assert list(control.y) == [0.3, 0.3]


def test_maps_put_every_value_at_its_place():
    figure = tables.table_map([[1.0, -2.0]], ["x", "y"], ["row"], "title", "unit")
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-2, 2)
    rows = [
        {"variable": v, "context": c, "site": s, "iia": n / 10, "step": step}
        for n, (v, c, s, step) in enumerate(
            (v, c, s, step)
            for v in ("t", "x")
            for c in ("matched", "independent")
            for s in ("q", "z")
            for step in (0, 4)
        )
    ]
    table = pd.DataFrame(rows)
    figure = interchange.interchange_maps({"network": table[table["step"] == 4]})
    assert [list(map(list, trace.z)) for trace in figure.data] == [
        [[0.1, 0.3], [0.9, 1.1]],
        [[0.5, 0.7], [1.3, 1.5]],
    ]
    figure = interchange.interchange_by_step(table)
    assert list(map(list, figure.data[0].z)) == [[0.0, 0.1], [0.2, 0.3]]
    assert list(figure.data[0].x) == ["0", "4"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_faithfulness_that_is_not_defined_leaves_the_axis_to_the_others(place):
    values = torch.tensor([0.0, 0.5, 1.4])
    values[place] = math.nan
    curve = Curve((0, 1, 2), values, None, None)
    for figure in (faithfulness_by_size(curve, [], None), faithfulness_curves(curve, None, curve)):
        assert list(figure.layout.yaxis.range) == pytest.approx([-0.05, 1.48])
