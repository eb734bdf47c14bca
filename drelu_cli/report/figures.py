"""Plots of stored results: from one tidy frame of points to a figure, as PNG and SVG.

The frame has one row per point and the columns POINT_COLUMNS; `draw` is a pure function of it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pandas as pd

from drelu_cli.report.figures_epochs import draw_epochs
from drelu_cli.report.figures_panels import PANEL, panels_of
from drelu_cli.report.figures_radii import draw_radii
from drelu_cli.report.figures_scatter import draw_scatter
from drelu_cli.report.figures_style import style
from drelu_cli.report.figures_values import draw_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "PANEL", "POINT_COLUMNS", "draw", "panels_of", "points_csv", "rendered"]

FORMATS = ("png", "svg")
POINT_COLUMNS = (
    "dataset", "architecture", "group", "treatment", "axis", "x", "quantity", "series", "mean",
    "low", "high", "interval", "n_seeds", "n_samples", "norm", "eps", "verdict", "survivors",
    "mark",
)  # fmt: skip
"""What every point says.

`group`: what a panel's lines belong to (`D-ReLU`, without the value plotted over); `treatment`: the
label in tables; `axis`, `x`: what is plotted over and its value, a number or a word; `quantity`:
`accuracy` and `gap` are fractions, `loss` is the task loss on validation images
where that is stored (minima of basin hopping), else the validation loss; `series`: an attack, a
column or what was measured; `mean`, `low`, `high`: over `n_seeds` trainings, `interval` says of
which kind; `norm`, `eps`: the threat, '' and NaN without one; `verdict`: the worst word of the nets
behind the point, '' where the point is no attack's; `survivors`: read off an ascending curve;
`mark`: `reference` for the ReLU twin, `accepted` or `rejected` for a basin hop,
`kept` for the weights that a training ended with, else ''.
"""

_DRAWN = {"eps": draw_radii, "epoch": draw_epochs, "sensitivity": draw_scatter}


def draw(points: pd.DataFrame, over: str, *, title: str | None = None) -> Figure:
    """The figure of `points` over the axis `over`.

    Args:
        points: POINT_COLUMNS, at least one row.
        over: `eps`, `epoch` and `sensitivity` have pictures of their own; everything else is
            drawn as lines over a number or as points over words.
        title: above all panels.
    """
    with style():
        figure: Figure = _DRAWN.get(over, draw_values)(points)
        if title:
            figure.suptitle(title, fontsize=10, fontweight="bold")
    return figure


def rendered(figure: Any, kind: str) -> bytes:
    """The figure as a file of one of FORMATS; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with style():
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    return buffer.getvalue()


def points_csv(points: pd.DataFrame) -> str:
    """The points as CSV; numbers keep every digit, missing ones are empty."""
    return points[list(POINT_COLUMNS)].to_csv(index=False, lineterminator="\n")
