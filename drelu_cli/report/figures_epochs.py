"""Robust accuracy over the epochs of a training, beside the gap of generalisation."""

from __future__ import annotations

from typing import Any

import pandas as pd

from drelu_cli.report.figures_panels import (
    canvas,
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
    AXIS_LABELS,
    BLACK,
    CLEAN_LINE,
    DASHED,
    GREY,
    MARKERS,
    PALETTE,
    name_of_series,
)
from drelu_cli.report.figures_values import ordered_series
from drelu_cli.report.layout import CLEAN

GAP = "gap"
KEPT = "kept"
_SOLID = "-"
_RING = {
    "marker": "o", "markerfacecolor": "none", "color": BLACK, "markersize": 11,
    "markeredgewidth": 1.1, "linestyle": "none",
}  # fmt: skip
_DASHES = ("-", (0, (3, 1, 1, 1)), (0, (5, 2, 1, 2, 1, 2)))


def draw_epochs(points: pd.DataFrame) -> Any:
    """Two panels per data set and architecture: accuracies of each regime, and the gap.

    A regime has one colour in both panels; on the left a series has one way of dashing.
    """
    panels = list(panels_of(points, ["dataset", "architecture"]))
    figure, axes = canvas(len(panels), 2)
    regimes = list(dict.fromkeys(points["group"]))
    looks = {
        name: {"color": PALETTE[at % len(PALETTE)], "marker": MARKERS[at % len(MARKERS)]}
        for at, name in enumerate(regimes)
    }
    series = ordered_series(points[points["quantity"] != GAP]["series"].unique().tolist())
    dashes = _dashes(series)
    for (left, right), (place, rows) in zip(axes, panels, strict=True):
        _draw(left, rows[rows["quantity"] != GAP], looks, dashes)
        _draw(right, rows[rows["quantity"] == GAP], looks, {})
        percent_axis(left)
        left.set_ylabel(ACCURACY)
        right.set_ylabel("accuracy on training images\n- on validation images (points)")
        right.axhline(0, color=GREY, linewidth=0.8)
        for axis in (left, right):
            axis.set_xlabel(AXIS_LABELS["epoch"])
        set_title(left, place, rows)
        set_title(right, ("gap of generalisation",), rows.iloc[:0])
    handles = [handle(name, **looks[name]) for name in regimes]
    handles += [handle(name_of_series(name), color=GREY, **dashes[name]) for name in series]
    if (points["mark"] == KEPT).any():
        handles.append(handle("what the training kept", **_RING))
    legend(figure, [*handles, *verdict_handles(points)], across=2)
    return figure


def _dashes(series: list[str]) -> dict[str, dict[str, Any]]:
    """Clean thin and dotted, adaptive thick and dashed, attacks in between."""
    found: dict[str, dict[str, Any]] = {}
    plain = 0
    for name in series:
        if name == CLEAN:
            found[name] = dict(CLEAN_LINE)
        elif name == ADAPTIVE:
            found[name] = {"linestyle": DASHED, "linewidth": 2.2}
        else:
            found[name] = {"linestyle": _DASHES[plain % len(_DASHES)], "linewidth": 1.4}
            plain += 1
    return found


def _draw(
    axis: Any, rows: pd.DataFrame, looks: dict[str, Any], dashes: dict[str, dict[str, Any]]
) -> None:
    for (group, series), mine in rows.groupby(["group", "series"], sort=False):
        ordered = mine.sort_values("x", key=lambda column: column.astype(float))
        look = {**looks[str(group)], **dashes.get(str(series), {"linestyle": _SOLID})}
        if series == CLEAN:
            look["markersize"] = 3
        along, kept = (ordered[ordered["mark"].eq(KEPT) == end] for end in (False, True))
        if len(along):
            line(axis, along, [float(x) for x in along["x"]], look)
        if len(kept):
            x = [float(x) for x in kept["x"]]
            line(axis, kept, x, look, joined=False)
            axis.plot(x, 100 * kept["mean"].astype(float), **_RING)
