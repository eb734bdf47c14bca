"""The canvas of a plot: panels side by side, their titles, one legend below them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from drelu_cli.report.figures_style import (
    BLACK,
    GREY,
    REFERENCE,
    VERDICT_MARKS,
    fill_of,
    marker_of,
    threat_words,
    word_of,
)
from drelu_cli.report.layout import CLEAN

PANEL = ["dataset", "architecture", "group"]
_INNER = 2.9  # inches of a panel's axis
_WIDTH, _HEIGHT = 3.6, 2.75  # inches of a panel: one column of a two-column page
_ACROSS = 3
_FADED = 0.45  # lines through numbers that are not to be believed
_PER_LETTER, _PER_HANDLE, _PER_ROW = 0.063, 0.48, 0.175  # inches of a legend in 8 points


def panels_of(
    points: pd.DataFrame, by: Sequence[str] = tuple(PANEL)
) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """The points of each panel, in their order."""
    for place, group in points.groupby(list(by), sort=False):
        yield tuple(str(part) for part in place), group


def canvas(rows: int, across: int) -> tuple[Any, list[list[Any]]]:
    """A figure of `rows` x `across` axes; nothing of pyplot's global state is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH * across, _HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False)
    return figure, [list(row) for row in axes]


def grid_of(count: int) -> tuple[Any, list[Any]]:
    """A figure with `count` axes, at most three beside each other."""
    across = min(count, _ACROSS)
    figure, axes = canvas(math.ceil(count / across), across)
    flat = [axis for row in axes for axis in row]
    for empty in flat[count:]:
        empty.set_axis_off()
    return figure, flat[:count]


def set_title(axis: Any, place: Iterable[str], points: pd.DataFrame) -> None:
    """What the panel is about, and below it the threat, the images and the trainings."""
    axis.set_title(", ".join(part for part in place if part), loc="left", fontweight="bold", pad=16)
    axis.text(
        0, 1.02, facts_of(points), transform=axis.transAxes, fontsize=7, color="#444444",
        ha="left", va="bottom",
    )  # fmt: skip


def facts_of(points: pd.DataFrame) -> str:
    """`Linf 0.1, L2 1.5, 300 images, 3 seeds (bars: std)`: what holds for all points of a panel."""
    attacked = points[points["norm"].isin(["linf", "l2"]) & points["eps"].notna()]
    threats = list(attacked[["norm", "eps"]].drop_duplicates().itertuples(index=False, name=None))
    over_eps = points["axis"].eq("eps").any()
    parts = [] if over_eps else [threat_words(*threat) for threat in threats]
    parts += [_range(points["n_samples"], "image"), _range(points["n_seeds"], "seed")]
    bars = [kind for kind in points["interval"].unique() if kind == "std"]
    text = ", ".join(part for part in parts if part)
    return f"{text} (bars: std)" if bars else text


def _range(values: pd.Series[Any], what: str) -> str:
    known = values.dropna().astype(int)
    known = known[known > 0]
    if known.empty:
        return ""
    low, high = int(known.min()), int(known.max())
    text = f"{low}" if low == high else f"{low} to {high}"
    return f"{text} {what}{'' if text == '1' else 's'}"


def percent_axis(axis: Any) -> None:
    """Accuracy from 0 to 100 %."""
    axis.set_ylim(-3, 103)
    axis.set_yticks(range(0, 101, 20))


def roomy(places: Sequence[float], labels: Sequence[str]) -> bool:
    """Whether every tick has room for its label."""
    return len(apart(places, [len(label) for label in labels])) == len(labels)


def apart(places: Sequence[float], lengths: Sequence[int]) -> list[int]:
    """Which ticks to label so that no label touches the next; the first and last are kept.

    Args:
        places: ascending, as shares of the axis.
        lengths: of the labels, in letters.
    """
    kept: list[int] = []
    for at in range(len(places)):
        while kept and at == len(places) - 1 and not _clear(places, lengths, kept[-1], at):
            kept.pop()
        if not kept or _clear(places, lengths, kept[-1], at):
            kept.append(at)
    return kept


def _clear(places: Sequence[float], lengths: Sequence[int], one: int, other: int) -> bool:
    letters = (lengths[one] + lengths[other]) / 2 + 1
    return (places[other] - places[one]) * _INNER >= _PER_LETTER * letters


def line(
    axis: Any,
    rows: pd.DataFrame,
    x: Sequence[float],
    look: Mapping[str, Any],
    *,
    scale: float = 100.0,
    bars: Sequence[str] = ("std",),
    joined: bool = True,
) -> Any:
    """One series: a line, a marker per point filled by its verdict, bars where there are any.

    Args:
        axis: of the panel.
        rows: points of one series, in the order of `x`.
        x: positions.
        look: `color`, `marker`, and any of Line2D's properties.
        scale: of mean, low and high; 100 turns fractions into percent.
        bars: kinds of interval that are drawn.
        joined: whether a line joins the points.

    Returns:
        The line, which the legend shows.
    """
    mean = rows["mean"].to_numpy(dtype=float) * scale
    marker = {key: look[key] for key in ("color", "marker") if key in look}
    own = ("markersize", "markeredgecolor")
    size = {key: look[key] for key in own if key in look}
    drawn = {key: value for key, value in look.items() if key not in ("marker", *own)}
    drawn["linestyle"] = drawn.get("linestyle", "-") if joined else "none"
    fills = [
        fill_of(series, verdict)
        for series, verdict in zip(rows["series"], rows["verdict"], strict=True)
    ]
    (joint,) = axis.plot(x, mean, alpha=_FADED if "none" in fills else 1.0, **drawn)
    if joined and "none" in fills:
        believed = np.where([fill == "none" for fill in fills], np.nan, mean)
        axis.plot(x, believed, **drawn)
    _bars(axis, rows, x, mean, scale, look, bars)
    for fill in dict.fromkeys(fills):
        here = [number for number, one in enumerate(fills) if one == fill]
        axis.plot(
            np.asarray(x, dtype=float)[here],
            mean[here],
            linestyle="none",
            zorder=look.get("zorder", 3) + 0.1,
            **{**marker, **size, **marker_of(fill)},
        )
    return joint


def _bars(
    axis: Any,
    rows: pd.DataFrame,
    x: Sequence[float],
    mean: Any,
    scale: float,
    look: Mapping[str, Any],
    kinds: Sequence[str],
) -> None:
    wanted = rows["interval"].isin(list(kinds)).to_numpy() & rows["low"].notna().to_numpy()
    if not wanted.any():
        return
    low = mean - rows["low"].to_numpy(dtype=float) * scale
    high = rows["high"].to_numpy(dtype=float) * scale - mean
    axis.errorbar(
        np.asarray(x, dtype=float)[wanted], mean[wanted],
        yerr=np.clip(np.vstack([low[wanted], high[wanted]]), 0, None),
        fmt="none", ecolor=look["color"], elinewidth=0.9, zorder=2.5, capsize=2, alpha=0.8,
    )  # fmt: skip


def handle(label: str, **look: Any) -> Any:
    """A legend's entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def verdict_handles(points: pd.DataFrame) -> list[Any]:
    """What the markers' fillings mean, for the verdicts that the attacks' points have."""
    plain = points[~points["series"].isin([CLEAN]) & (points["mark"] != REFERENCE)]
    present = {word_of(verdict) for verdict in plain["verdict"]}
    return [
        handle(text, linestyle="none", marker="o", color=GREY, **marker_of(fill))
        for word, (fill, text) in VERDICT_MARKS.items()
        if word in present
    ]


def legend(figure: Any, handles: Sequence[Any], *, across: int) -> None:
    """One legend below all panels, in as many columns as fit; the figure grows by its rows."""
    if not handles:
        return
    lengths = [len(one.get_label()) for one in handles]
    columns = next(n for n in range(len(lengths), 0, -1) if n == 1 or _fits(lengths, n, across))
    width, height = figure.get_size_inches()
    rows = math.ceil(len(lengths) / columns)
    figure.set_size_inches(width, height + _PER_ROW * rows + 0.1)
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.0,
        labelcolor=BLACK,
    )


def _fits(lengths: Sequence[int], columns: int, across: int) -> bool:
    """Whether labels, filled column by column, are no wider than the panels."""
    wide = sum(
        _PER_LETTER * max(int(one) for one in column) + _PER_HANDLE
        for column in np.array_split(np.asarray(lengths), columns)
    )
    return wide <= across * _WIDTH
