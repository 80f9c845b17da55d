"""The geometry of position embeddings before and after training: inner products, and power by frequency.

python figures/position_geometry.py runs/parity-seed0 runs/copy-seed0 --out geometry.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from typing import TYPE_CHECKING

from compo_mech.cli.command import call
from compo_mech.cli.draw import command_to_draw
from compo_mech.plots import theme
from compo_mech.runs.names import distinct
from compo_mech.runs.run import Run
from compo_mech.weights.positions import effective_dimension, fourier_power, position_gram

if TYPE_CHECKING:
    import plotly.graph_objects as go


def drawn(runs: list[Run]) -> "go.Figure":
    """Draw a row a run: the Gram matrices of the control and of the trained network, and both spectra."""
    from plotly.subplots import make_subplots

    names = distinct([run.path for run in runs])
    titles = [f"{name}: {what}" for name in names for what in ("control", "trained", "power by frequency")]
    figure = make_subplots(
        len(runs), 3, subplot_titles=titles, horizontal_spacing=0.08, vertical_spacing=0.25 / len(runs)
    )
    for row, run in enumerate(runs, start=1):
        positions = range(run.config.data.layout.n_read(run.config.data.max_length))
        for column, (name, params) in enumerate((("control", run.control()), ("trained", run.params())), start=1):
            gram = position_gram(params, positions)
            scaled = (gram / gram.diagonal().mean().clamp(min=1e-12)).tolist()
            dims = effective_dimension(params, positions)
            figure.add_heatmap(
                z=scaled, coloraxis="coloraxis", row=row, col=column,
                hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
            )  # fmt: skip
            figure.update_yaxes(autorange="reversed", row=row, col=column)
            figure.update_xaxes(title=f"position ({dims:.1f} effective dimensions)", row=row, col=column)
            figure.add_scatter(
                y=fourier_power(params, positions).tolist(), name=name, legendgroup=name, showlegend=row == 1,
                line={"color": theme.GREY if name == "control" else theme.BLUE}, row=row, col=3,
            )  # fmt: skip
        figure.update_xaxes(title="periods over all positions", row=row, col=3)
        figure.update_yaxes(title="fraction of power", rangemode="tozero", row=row, col=3)
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 60, "r": 20, "t": 90, "b": 80}},
        title="Position embeddings: inner products, centred, in units of their mean square", width=1150,
        height=130 + 320 * len(runs), legend=theme.legend_below(52, 320 * len(runs) - 40),
        coloraxis={
            "colorscale": theme.scale(theme.DIVERGING), "cmin": -1, "cmax": 1,
            "colorbar": {"thickness": 12, "len": 220, "lenmode": "pixels"},
        },
    )  # fmt: skip
    return figure


main = command_to_draw(drawn, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
