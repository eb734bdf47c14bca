"""Critical-difference diagrams: as text, and as SVG, PNG or PDF.

Source: Demsar 2006, figure 1: treatments on an axis of average ranks, bars join treatments whose
ranks differ by no more than the critical difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drelu_cli.stats.posthoc import rank_groups

if TYPE_CHECKING:
    from drelu_cli.stats.distributions import FloatArray

PLOT_FORMATS = (".svg", ".png", ".pdf")
AXIS = 48  # characters from the first rank to the last
_INCHES_PER_ROW = 0.28
_LABEL_GAP = 0.12


def text_diagram(
    treatments: Sequence[str], average_ranks: FloatArray, cd: float, alpha: float
) -> list[str]:
    """The diagram as lines of text: one line per treatment, then the bars.

    Args:
        treatments: (k,) names.
        average_ranks: (k,) in 1 .. k.
        cd: critical difference in ranks.
        alpha: its level.
    """
    k = len(treatments)
    order = np.argsort(average_ranks, kind="stable").tolist()
    room = max(len(name) for name in (*treatments, "rank"))

    def place(rank: float) -> int:
        return round((rank - 1) / max(k - 1, 1) * AXIS)

    lines = [_line("rank", room, {place(r): str(r) for r in range(1, k + 1)})]
    lines.append(_line("", room, dict(enumerate(_ruler(k, place)))))
    for index in order:
        rank = float(average_ranks[index])
        lines.append(
            _line(treatments[index], room, {place(rank): "*"}).ljust(room + AXIS + 4)
            + f"{rank:.4f}"
        )
    width = min(AXIS, max(1, round(cd / max(k - 1, 1) * AXIS)))
    bar = "|" + "-" * (width - 1) + "|"
    lines.append(_line("CD", room, {0: bar}) + f"  {cd:.4f} (Nemenyi, alpha {alpha:g})")
    groups = rank_groups(average_ranks, cd)
    lines.append("not told apart by it:" if groups else "every two ranks differ by more than it")
    for first, last in groups:
        low, high = (
            place(float(average_ranks[order[first]])),
            place(float(average_ranks[order[last]])),
        )
        names = ", ".join(treatments[index] for index in order[first : last + 1])
        line = _line("", room, {low: "=" * (high - low + 1)}).ljust(room + AXIS + 4)
        lines.append(f"{line}{names}")
    return lines


def _ruler(k: int, place: Any) -> str:
    marks = {place(rank) for rank in range(1, k + 1)}
    return "".join("+" if i in marks else "-" for i in range(AXIS + 1))


def _line(name: str, room: int, marks: dict[int, str]) -> str:
    line = ""
    for position in sorted(marks):
        line = line.ljust(position) + marks[position]
    return f"{name.ljust(room)}  {line}"


def plot_diagram(
    path: Path, treatments: Sequence[str], average_ranks: FloatArray, cd: float, alpha: float
) -> None:
    """Writes the diagram to `path`; its suffix (`PLOT_FORMATS`) decides the format.

    Every label has a row of its own left or right of the axis, so labels never overlap.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    k = len(treatments)
    order = np.argsort(average_ranks, kind="stable").tolist()
    groups = rank_groups(average_ranks, cd)
    half = math.ceil(k / 2)
    depth = 0.9 + 0.35 * len(groups) + half + 0.5
    longest = max(len(name) for name in treatments) + 9  # the rank behind the name
    margin = 0.09 * longest  # inches for a label in 9 points
    axis_inches = max(4.0, 0.45 * k)
    with rc_context({"svg.hashsalt": "drelu", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(axis_inches + 2 * margin, _INCHES_PER_ROW * (depth + 3.2)))
        axes = figure.add_axes((0, 0, 1, 1))
        per_inch = max(k - 1, 1) / axis_inches
        axes.set_xlim(1 - margin * per_inch, k + margin * per_inch)
        axes.set_ylim(-depth - 0.4, 2.8)
        axes.axis("off")
        _draw_axis(axes, k, cd, alpha)
        _draw_groups(axes, [float(average_ranks[index]) for index in order], groups, per_inch)
        for position, index in enumerate(order):
            left = position < half
            # Half a row lower on the right: elbows of tied ranks never form one line.
            row = float(position) if left else k - 0.5 - position
            level = -(0.9 + 0.35 * len(groups) + row)
            _draw_label(axes, treatments[index], float(average_ranks[index]), level, left, k)
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        figure.savefig(path, dpi=200, metadata=metadata.get(path.suffix.lower()))


def _draw_axis(axes: Any, k: int, cd: float, alpha: float) -> None:
    axes.plot([1, k], [0, 0], color="black", linewidth=1, clip_on=False)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, 0.25], color="black", linewidth=1)
        axes.text(rank, 0.4, str(rank), ha="center", va="bottom")
    end = min(1 + cd, float(k))
    axes.plot([1, end], [1.6, 1.6], color="black", linewidth=1.5)
    for edge in (1.0, end):
        axes.plot([edge, edge], [1.45, 1.75], color="black", linewidth=1.5)
    axes.text(1, 1.9, f"CD = {cd:.4f} (Nemenyi, alpha {alpha:g})", ha="left", va="bottom")


def _draw_groups(
    axes: Any, ranks: Sequence[float], groups: Sequence[tuple[int, int]], per_inch: float
) -> None:
    overhang = 0.04 * per_inch
    for level, (first, last) in enumerate(groups):
        height = -0.35 * (level + 1)
        axes.plot(
            [ranks[first] - overhang, ranks[last] + overhang],
            [height, height],
            color="black",
            linewidth=3,
            solid_capstyle="butt",
        )


def _draw_label(axes: Any, name: str, rank: float, level: float, left: bool, k: int) -> None:
    edge, side = (1.0, "right") if left else (float(k), "left")
    axes.plot([rank, rank, edge], [0, level, level], color="black", linewidth=0.8)
    shift = -1 if left else 1
    axes.annotate(
        f"{name} ({rank:.2f})" if left else f"({rank:.2f}) {name}",
        (edge, level),
        xytext=(shift * 72 * _LABEL_GAP / 2, 0),
        textcoords="offset points",
        ha=side,
        va="center",
    )
