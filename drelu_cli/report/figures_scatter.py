"""Sensitivity of the minima found against their loss and their robust accuracy."""

from __future__ import annotations

from typing import Any

import pandas as pd

from drelu_cli.report.figures_panels import (
    canvas,
    handle,
    legend,
    panels_of,
    percent_axis,
    set_title,
    verdict_handles,
)
from drelu_cli.report.figures_style import (
    ACCURACY,
    AXIS_LABELS,
    BLACK,
    GREY,
    MARKERS,
    fill_of,
    look_of,
    marker_of,
    name_of_series,
)
from drelu_cli.report.figures_values import ordered_series

LOSS = "loss"
_NEUTRAL = "#5B5B5B"
_HOPS = {
    "accepted": {
        "marker": "o", "markerfacecolor": "none", "color": GREY, "markersize": 10,
        "markeredgewidth": 0.8, "linestyle": "none",
    },
    "rejected": {
        "marker": "x", "color": BLACK, "markersize": 9, "markeredgewidth": 0.9,
        "linestyle": "none",
    },
}  # fmt: skip


def draw_scatter(points: pd.DataFrame) -> Any:
    """Two panels per data set and architecture; every point is one minimum."""
    panels = list(panels_of(points, ["dataset", "architecture"]))
    figure, axes = canvas(len(panels), 2)
    groups = list(dict.fromkeys(points["group"]))
    series = ordered_series(points[points["quantity"] != LOSS]["series"].unique().tolist())
    markers = {name: MARKERS[at % len(MARKERS)] for at, name in enumerate(groups)}
    for (left, right), (place, rows) in zip(axes, panels, strict=True):
        for group, mine in rows[rows["quantity"] == LOSS].groupby("group", sort=False):
            _dots(left, mine, _NEUTRAL, markers[str(group)])
        accuracy = rows[rows["quantity"] != LOSS]
        for pair, mine in accuracy.groupby(["group", "series"], sort=False):
            of_group, name = map(str, pair)
            color, _ = look_of(name, series.index(name))
            _dots(right, mine, color, markers[of_group])
        left.set_ylabel("loss on validation images")
        right.set_ylabel(f"robust {ACCURACY}")
        percent_axis(right)
        for axis in (left, right):
            axis.set_xlabel(AXIS_LABELS["sensitivity"])
        set_title(left, place, rows)
        set_title(right, ("robust accuracy of the same minima",), rows.iloc[:0])
    shapes = {"color": _NEUTRAL, "linestyle": "none"}
    handles = [handle(name, marker=markers[name], **shapes) for name in groups]
    handles += [
        handle(name_of_series(name), linewidth=4, color=look_of(name, at)[0])
        for at, name in enumerate(series)
    ]
    legend(figure, [*handles, *_hop_handles(points), *verdict_handles(points)], across=2)
    return figure


def _dots(axis: Any, rows: pd.DataFrame, color: str, marker: str) -> None:
    """Markers filled by verdict; a rejected hop is crossed out, an accepted one ringed."""
    scale = 1.0 if (rows["quantity"] == LOSS).all() else 100.0
    for _, row in rows.iterrows():
        fill = fill_of(row["series"], row["verdict"]) if scale > 1 else "full"
        place = ([float(row["x"])], [scale * float(row["mean"])])
        look = {"marker": marker, "color": color, **marker_of(fill)}
        axis.plot(*place, linestyle="none", **look)
        if row["mark"] in _HOPS:
            axis.plot(*place, **_HOPS[row["mark"]])


def _hop_handles(points: pd.DataFrame) -> list[Any]:
    present = set(points["mark"])
    return [handle(f"hop {mark}", **look) for mark, look in _HOPS.items() if mark in present]
