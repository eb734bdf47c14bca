"""Accuracy over the radius: one line per method, with intervals (figures 25-27)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from drelu_cli.report.figures_panels import (
    apart,
    grid_of,
    handle,
    legend,
    line,
    panels_of,
    percent_axis,
    set_title,
    verdict_handles,
)
from drelu_cli.report.figures_style import (
    ACCURACY,
    ADAPTIVE,
    BLACK,
    DASHED,
    GREY,
    MARKERS,
    PALETTE,
    name_of_series,
)
from drelu_cli.report.layout import eps_text, norm_name

_FEW = 3
_BY = ["dataset", "architecture", "group", "norm"]
# In the colour and with the marker of its treatment: colours alone repeat after eight.
_COURT = {
    "linestyle": DASHED, "linewidth": 1.8, "markersize": 7, "markeredgecolor": BLACK,
}  # fmt: skip
_BARS = ("std", "wilson95")


def draw_radii(points: pd.DataFrame) -> Any:
    """One panel per data set, architecture, attack and norm; adaptive dashed in a line's look."""
    panels = list(panels_of(points, _BY))
    figure, axes = grid_of(len(panels))
    treatments = list(dict.fromkeys(points["treatment"]))
    looks = {
        name: {"color": PALETTE[at % len(PALETTE)], "marker": MARKERS[at % len(MARKERS)]}
        for at, name in enumerate(treatments)
    }
    for axis, ((dataset, architecture, attack, norm), rows) in zip(axes, panels, strict=True):
        for name in treatments:
            _method(axis, rows[rows["treatment"] == name], looks[name])
        _radius_axis(axis, rows, norm)
        percent_axis(axis)
        axis.set_ylabel(ACCURACY)
        set_title(axis, (dataset, architecture, name_of_series(attack)), rows)
    handles = [handle(name, **looks[name]) for name in treatments]
    if (points["series"] == ADAPTIVE).any():
        text = name_of_series(ADAPTIVE)
        handles.append(handle(text, color=GREY, marker="o", **_COURT))
    if (points["interval"] == "wilson95").any():
        handles.append(handle("bars: Wilson 95 % interval", color=GREY, marker="|", markersize=9,
                              linestyle="none"))  # fmt: skip
    legend(figure, [*handles, *verdict_handles(points)], across=min(len(panels), 3))
    return figure


def _method(axis: Any, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    """The attack's line and, where the court has been, the adaptive one."""
    rows = rows.sort_values("x", key=lambda column: column.astype(float))
    court = rows["series"] == ADAPTIVE
    for mine, more in (
        (rows[~court], {"zorder": 3}),
        (rows[court], {"zorder": 4, **_COURT}),
    ):
        if len(mine):
            line(axis, mine, [float(x) for x in mine["x"]], {**look, **more}, bars=_BARS)


def _radius_axis(axis: Any, rows: pd.DataFrame, norm: str) -> None:
    values = sorted({float(value) for value in rows["x"]})
    spread = values[-1] - values[0] or values[-1] or 1.0
    axis.set_xlim(values[0] - 0.04 * spread, values[-1] + 0.04 * spread)
    labels = [eps_text(value) for value in values]
    shown = apart([(value - values[0]) / spread for value in values], [len(one) for one in labels])
    if len(shown) > _FEW or len(shown) == len(values):
        axis.set_xticks([values[at] for at in shown], [labels[at] for at in shown])
    axis.set_xlabel(f"radius eps ({norm_name(norm)}, pixel values in [0, 1])")
