"""Accuracy over a swept value: lines over a number, points over words (figures 11-24)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
    roomy,
    set_title,
    verdict_handles,
)
from drelu_cli.report.figures_style import (
    ACCURACY,
    ADAPTIVE,
    AXIS_LABELS,
    DASHED,
    GREY,
    REFERENCE,
    look_of,
    name_of_series,
)
from drelu_cli.report.layout import ATTACK_NAMES

# Values that span more than this are drawn on a logarithmic axis.
_LOG_SPAN = 20.0
_MARGIN = 0.05  # of the axis, left and right
_ZERO = 0.12  # distance of 0 from the smallest value, of the decades
# Width of a category that the series of one word share.
_DODGE = 0.6


def draw_values(points: pd.DataFrame) -> Any:
    """One panel per data set, architecture and group; one line per attack, adaptive on top."""
    panels = list(panels_of(points))
    figure, axes = grid_of(len(panels))
    series = ordered_series(points[points["mark"] != REFERENCE]["series"].unique().tolist())
    for axis, (place, rows) in zip(axes, panels, strict=True):
        _panel(axis, rows, series)
        set_title(axis, place, rows)
    across = min(len(panels), 3)
    legend(figure, [*_handles(points, series), *verdict_handles(points)], across=across)
    return figure


def ordered_series(names: Iterable[str]) -> list[str]:
    """Clean, then attacks as the field prints them, then others, adaptive last."""
    known = [*ATTACK_NAMES, "claimed", "standard"]

    def order(name: str) -> tuple[bool, int]:
        bare = name.partition(":")[0].partition(" [")[0]
        return name == ADAPTIVE, known.index(bare) if bare in known else len(known)

    return sorted(names, key=order)


def _looks(series: Sequence[str]) -> dict[str, dict[str, Any]]:
    looks: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(series):
        color, marker = look_of(name.partition(":")[0], place)
        looks[name] = {"color": color, "marker": marker, "zorder": 3}
        if name == ADAPTIVE:
            looks[name] |= {"linewidth": 2.4, "linestyle": DASHED, "zorder": 5}
            looks[name] |= {"markersize": 6}
    return looks


def _panel(axis: Any, rows: pd.DataFrame, series: Sequence[str]) -> None:
    swept = rows[rows["mark"] != REFERENCE]
    words = any(isinstance(value, str) for value in swept["x"])
    categories = list(dict.fromkeys(swept["x"])) if words else []
    present = [name for name in series if (swept["series"] == name).any()]
    looks = _looks(series)
    for place, name in enumerate(present):
        mine = swept[swept["series"] == name]
        if words:
            shift = _DODGE * ((place + 0.5) / len(present) - 0.5)
            x = [categories.index(value) + shift for value in mine["x"]]
        else:
            mine = mine.sort_values("x", key=lambda column: column.astype(float))
            x = [float(value) for value in mine["x"]]
        line(axis, mine, x, looks[name], joined=not words)
    for _, row in rows[rows["mark"] == REFERENCE].iterrows():
        axis.axhline(100 * row["mean"], color=GREY, linewidth=1.1, linestyle=(0, (1, 1)), zorder=2)
    if words:
        _words_axis(axis, categories)
    else:
        _numbers_axis(axis, sorted({float(value) for value in swept["x"]}))
    percent_axis(axis)
    over = str(swept["axis"].iloc[0])
    axis.set_xlabel(AXIS_LABELS.get(over, over))
    axis.set_ylabel(ACCURACY)


def _words_axis(axis: Any, categories: Sequence[str]) -> None:
    axis.set_xticks(range(len(categories)), categories)
    axis.set_xlim(-0.5, len(categories) - 0.5)
    axis.grid(visible=False, axis="x")


def _numbers_axis(axis: Any, values: Sequence[float]) -> None:
    """Linear, or logarithmic with 0 at its left end behind a break."""
    positive = [value for value in values if value > 0]
    if len(positive) > 1 and positive[-1] / positive[0] >= _LOG_SPAN:
        _log_axis(axis, values, positive)
        return
    spread = values[-1] - values[0] or abs(values[0]) or 1.0
    axis.set_xlim(values[0] - _MARGIN * spread, values[-1] + _MARGIN * spread)
    places = [(value - values[0]) / spread for value in values]
    labels = [f"{value:g}" for value in values]
    if roomy(places, labels):
        axis.set_xticks(values, labels)


def _log_axis(axis: Any, values: Sequence[float], positive: Sequence[float]) -> None:
    """Values below 0 do not occur; 0 stands a fixed way left of the smallest."""
    from matplotlib.ticker import NullLocator

    decades = math.log10(positive[-1] / positive[0])
    zero = max(0.7, _ZERO * decades) if values[0] <= 0 else 0.0  # decades left of the smallest
    edge = _MARGIN * (decades + zero)
    if zero:
        axis.set_xscale("symlog", linthresh=positive[0], linscale=zero)
        axis.set_xlim(-edge / zero * positive[0], positive[-1] * 10**edge)
        _break(axis, positive[0])
    else:
        axis.set_xscale("log")
        axis.set_xlim(positive[0] / 10**edge, positive[-1] * 10**edge)
    places = [
        (math.log10(value / positive[0]) + zero if value > 0 else 0.0) / (decades + zero)
        for value in values
    ]
    labels = [f"{value:g}" for value in values]
    if not roomy(places, labels):
        labels = [_power(value) for value in values]
    shown = apart(places, [len(label) if "$" not in label else 4 for label in labels])
    axis.set_xticks([values[at] for at in shown], [labels[at] for at in shown])
    axis.xaxis.set_minor_locator(NullLocator())


def _power(value: float) -> str:
    """A power of ten as the field writes it, else the number."""
    exponent = math.log10(value) if value > 0 else 0.5
    whole = round(exponent)
    return f"$10^{{{whole}}}$" if abs(exponent - whole) < 1e-9 else f"{value:g}"


def _break(axis: Any, smallest: float) -> None:
    """Two strokes across the axis between 0 and the smallest positive value."""
    axis.plot(
        [0.46 * smallest, 0.54 * smallest], [0, 0], transform=axis.get_xaxis_transform(),
        linestyle="none", marker=[(-0.6, -1.0), (0.6, 1.0)], markersize=7, color="black",
        markeredgewidth=1.0, clip_on=False, zorder=10,
    )  # fmt: skip


def _handles(points: pd.DataFrame, series: Sequence[str]) -> list[Any]:
    looks: Mapping[str, dict[str, Any]] = _looks(series)
    handles = []
    for name in series:
        look = {key: value for key, value in looks[name].items() if key != "zorder"}
        handles.append(handle(name_of_series(name), **look))
    twins = points[points["mark"] == REFERENCE]
    for label, name in dict.fromkeys(zip(twins["treatment"], twins["series"], strict=True)):
        text = f"{label}: {name_of_series(name)}"
        handles.append(handle(text, color=GREY, linewidth=1.1, linestyle=(0, (1, 1))))
    return handles
