"""Sensitivity, loss and robust accuracy of the minima found, each against the others."""

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
_ON_IMAGES = "loss on validation images"
_MINIMUM = ["treatment", "x"]
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
    """Three panels per data set and architecture; every point is one minimum.

    Loss over sensitivity, robust accuracy over sensitivity, robust accuracy over loss.
    """
    panels = list(panels_of(points, ["dataset", "architecture"]))
    figure, axes = canvas(len(panels), 3)
    groups = list(dict.fromkeys(points["group"]))
    series = ordered_series(points[points["quantity"] != LOSS]["series"].unique().tolist())
    markers = {name: MARKERS[at % len(MARKERS)] for at, name in enumerate(groups)}
    for (left, middle, right), (place, rows) in zip(axes, panels, strict=True):
        losses, accuracy = rows[rows["quantity"] == LOSS], rows[rows["quantity"] != LOSS]
        for group, mine in losses.groupby("group", sort=False):
            _dots(left, mine, _NEUTRAL, markers[str(group)])
        for axis, shown in ((middle, accuracy), (right, _over_loss(accuracy, losses))):
            for pair, mine in shown.groupby(["group", "series"], sort=False):
                of_group, name = map(str, pair)
                color, _ = look_of(name, series.index(name))
                _dots(axis, mine, color, markers[of_group])
            axis.set_ylabel(f"robust {ACCURACY}")
            percent_axis(axis)
        left.set_ylabel(_ON_IMAGES)
        left.set_xlabel(AXIS_LABELS["sensitivity"])
        middle.set_xlabel(AXIS_LABELS["sensitivity"])
        right.set_xlabel(_ON_IMAGES)
        set_title(left, place, rows)
        set_title(middle, ("robust accuracy of the same minima",), rows.iloc[:0])
        set_title(right, ("and over their loss",), rows.iloc[:0])
    shapes = {"color": _NEUTRAL, "linestyle": "none"}
    handles = [handle(name, marker=markers[name], **shapes) for name in groups]
    handles += [
        handle(name_of_series(name), linewidth=4, color=look_of(name, at)[0])
        for at, name in enumerate(series)
    ]
    legend(figure, [*handles, *_hop_handles(points), *verdict_handles(points)], across=3)
    return figure


def _over_loss(accuracy: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of each minimum with its loss as x; what has no loss is left out."""
    found = losses[[*_MINIMUM, "mean"]].rename(columns={"mean": LOSS})
    return accuracy.merge(found, on=_MINIMUM).drop(columns="x").rename(columns={LOSS: "x"})


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
