"""A figure shows the numbers of its frame, all of them, and marks what is not to be believed."""

import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from matplotlib import image, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg

from drelu_cli.report.figures import FORMATS, POINT_COLUMNS, draw, points_csv, rendered
from drelu_cli.report.figures_panels import apart
from drelu_cli.report.figures_style import SMALL, fill_of

DEFAULTS = dict.fromkeys(POINT_COLUMNS) | {
    "dataset": "mnist", "architecture": "dense", "group": "D-ReLU", "treatment": "D-ReLU",
    "axis": "lambda", "quantity": "accuracy", "interval": "", "n_seeds": 1, "n_samples": 100,
    "norm": "linf", "eps": 0.1, "verdict": "not examined", "survivors": False, "mark": "",
}  # fmt: skip


def frame(*rows):
    made = pd.DataFrame([DEFAULTS | row for row in rows])[list(POINT_COLUMNS)]
    return made.astype({"mean": float, "low": float, "high": float})


def point(x, series, mean, **more):
    return {"x": x, "series": series, "mean": mean, **more}


def swept(**more):
    """Two attacks, clean and adaptive over lambda = 0, 0.01, 1; the last two nets are masked."""
    words = {0.0: "no failure found", 0.01: "masked", 1.0: "masked 2/3"}
    rows = []
    for number, (x, verdict) in enumerate(words.items()):
        rows += [
            point(x, "clean", 0.9, verdict="", **more),
            point(x, "pgd", 0.3 + number / 5, verdict=verdict, **more),
            point(x, "square", 0.2 + number / 10, verdict=verdict, **more),
            point(x, "adaptive", 0.1, verdict=verdict, **more),
        ]
    return frame(*rows)


def lines(axis):
    """(x, y) of every line drawn through all points of a series."""
    return [(one.get_xdata(), one.get_ydata()) for one in axis.lines]


def drawn(axis, x, y):
    return any(len(a) == len(x) and np.allclose(a, x) and np.allclose(b, y) for a, b in lines(axis))


def markers(axis, fill):
    """(x, y) of the markers with a filling."""
    return {
        (float(a), round(float(b), 6))
        for one in axis.lines
        if one.get_marker() in list("os^vDdp><h8") and one.get_fillstyle() == fill
        for a, b in zip(one.get_xdata(), one.get_ydata(), strict=True)
    }


def test_lines_are_the_frame_in_percent():
    points = swept()
    (axis,) = draw(points, "lambda").axes
    for series, rows in points.groupby("series"):
        assert drawn(axis, rows["x"].astype(float), 100 * rows["mean"]), series


def test_lambda_0_is_left_of_the_smallest_on_a_logarithmic_axis():
    (axis,) = draw(swept(), "lambda").axes
    assert axis.get_xscale() == "symlog"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0", "0.01", "1"]
    at = axis.transData.transform([(0, 0), (0.01, 0), (1, 0)])[:, 0]
    assert axis.get_window_extent().x0 < at[0] < at[1] < at[2]
    assert at[1] - at[0] > 0.1 * (at[2] - at[0])


def test_markers_of_masked_nets_are_open_and_no_others():
    (axis,) = draw(swept(), "lambda").axes
    masked = {(0.01, 50.0), (1.0, 70.0), (0.01, 30.0), (1.0, 40.0)}
    assert markers(axis, "none") == masked
    assert {(0.0, 30.0), (0.0, 20.0), (1.0, 90.0), (1.0, 10.0)} <= markers(axis, "full")


def test_the_legend_says_what_an_open_marker_means():
    texts = legend_texts(draw(swept(), "lambda"))
    assert "masked: not to be believed" in texts
    assert "no failure found" in texts
    plain = swept().assign(verdict="")
    assert not any("masked" in text for text in legend_texts(draw(plain, "lambda")))


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_lines_into_masked_points_are_faded():
    (axis,) = draw(swept(), "lambda").axes
    pgd = [one for one in axis.lines if len(one.get_xdata()) == 3 and one.get_ydata()[0] == 30]
    faded = [one for one in pgd if (one.get_alpha() or 1) < 1]
    whole = [one for one in pgd if one not in faded and one.get_linestyle() != "None"]
    assert len(faded) == 1
    assert all(np.isnan(one.get_ydata()[1:]).all() for one in whole)


@pytest.mark.parametrize(
    ("series", "verdict", "fill"),
    [
        ("pgd", "masked 1/3", "none"),
        ("pgd", "suspicious", "left"),
        ("square", "no failure found 3/3", "full"),
        ("pgd", "not examined", SMALL),
        ("clean", "masked", "full"),
        ("adaptive", "masked", "full"),
        ("pgd", None, "full"),
    ],
)
def test_fillings(series, verdict, fill):
    assert fill_of(series, verdict) == fill


def test_only_attacks_that_are_there_are_in_the_legend():
    texts = legend_texts(draw(swept(), "lambda"))
    assert {"Clean", "PGD", "Square"} <= set(texts)
    assert not {"FGSM", "APGD-CE", "CW-L2"} & set(texts)


def test_adaptive_is_black_thick_and_dashed():
    (axis,) = draw(swept(), "lambda").axes
    (line,) = [
        one
        for one in axis.lines
        if len(one.get_xdata()) == 3 and np.allclose(one.get_ydata(), 10) and one.is_dashed()
    ]
    others = [one for one in axis.lines if one is not line and one.get_linestyle() == "-"]
    assert line.get_color() == "#000000"
    assert line.get_linewidth() > max(one.get_linewidth() for one in others)


def test_bars_stand_where_there_are_several_seeds():
    with_bars = swept(interval="std", n_seeds=3).assign(low=lambda f: f["mean"] - 0.05)
    with_bars = with_bars.assign(high=with_bars["mean"] + 0.05)
    (axis,) = draw(with_bars, "lambda").axes
    assert len(axis.containers) == 4
    ends = axis.containers[0].lines[2][0].get_segments()[0]
    assert ends[:, 1] == pytest.approx([85, 95])
    assert "3 seeds (bars: std)" in axis.texts[0].get_text()
    (plain,) = draw(swept(), "lambda").axes
    assert not plain.containers


def test_one_panel_per_data_set_architecture_and_group():
    points = pd.concat(
        [swept(), swept(architecture="shallow_cnn"), swept(group="AT + D-ReLU"),
         swept(dataset="cifar10")]
    )  # fmt: skip
    titles = [axis.get_title(loc="left") for axis in draw(points, "lambda").axes if axis.lines]
    assert titles == [
        "mnist, dense, D-ReLU",
        "mnist, shallow_cnn, D-ReLU",
        "mnist, dense, AT + D-ReLU",
        "cifar10, dense, D-ReLU",
    ]


def test_the_twin_is_a_level_line():
    twin = point(None, "adaptive", 0.05, mark="reference", treatment="ReLU", verdict="")
    figure = draw(pd.concat([swept(), frame(twin)]), "lambda")
    assert any(len(x) == 2 and list(y) == pytest.approx([5, 5]) for x, y in lines(figure.axes[0]))
    assert "ReLU: adaptive (the court)" in legend_texts(figure)


def test_a_narrow_span_is_linear():
    rows = [point(x, "pgd", 0.5, axis="cap") for x in (0.5, 1.0, 2.0)]
    (axis,) = draw(frame(*rows), "cap").axes
    assert axis.get_xscale() == "linear"


def test_words_are_points_without_lines():
    rows = [
        point(x, series, 0.5, axis="placement")
        for x in ("stem", "head", "all")
        for series in ("clean", "pgd")
    ]
    (axis,) = draw(frame(*rows), "placement").axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["stem", "head", "all"]
    assert all(one.get_linestyle() == "None" for one in axis.lines)


def test_many_values_do_not_collide():
    values = (0.0, 1e-7, 1e-5, *(10.0**power for power in range(-3, 5)))
    (axis,) = draw(frame(*(point(x, "pgd", 0.5) for x in values)), "lambda").axes
    texts = [tick.get_text() for tick in axis.get_xticklabels()]
    assert texts[0] == "0"
    assert texts[-1] == "$10^{4}$"
    assert len(texts) < len(values)


def test_labels_apart():
    assert apart([0.0, 0.5, 1.0], [1, 1, 1]) == [0, 1, 2]
    assert apart([0.0, 0.01, 1.0], [3, 3, 3]) == [0, 2]
    assert apart([0.0, 0.5, 0.51], [3, 3, 3]) == [0, 2]


def over_eps():
    rows = []
    for treatment, factor in (("ReLU", 1.0), ("D-ReLU-1", 0.5)):
        for eps in (0.0, 0.1, 0.2):
            mean = 0.9 - factor * eps * 4
            more = {
                "treatment": treatment, "group": "apgd_ce", "axis": "eps", "eps": eps,
                "interval": "wilson95", "low": mean - 0.1, "high": mean + 0.1,
            }  # fmt: skip
            rows.append(point(eps, "apgd_ce", mean, **more))
        rows.append(point(0.1, "adaptive", 0.3, **more | {"eps": 0.1, "low": None, "high": None}))
    return frame(*rows)


def test_over_eps_a_line_per_treatment_with_intervals():
    figure = draw(over_eps(), "eps")
    (axis,) = figure.axes
    assert drawn(axis, [0, 0.1, 0.2], [90, 50, 10])
    assert drawn(axis, [0, 0.1, 0.2], [90, 70, 50])
    assert len(axis.containers) == 2
    texts = legend_texts(figure)
    assert {"ReLU", "D-ReLU-1", "adaptive (the court)", "bars: Wilson 95 % interval"} <= set(texts)
    assert "Linf" in axis.get_xlabel()
    colors = {tuple(np.round(one.get_ydata(), 6)): one.get_color() for one in axis.lines}
    assert colors[90.0, 50.0, 10.0] != colors[90.0, 70.0, 50.0]
    dashed = [one for one in axis.lines if one.is_dashed()]
    assert {one.get_color() for one in dashed} == {
        colors[90.0, 50.0, 10.0], colors[90.0, 70.0, 50.0]
    }  # fmt: skip


def test_thirteen_methods_over_eps_can_be_told_apart():
    rows = []
    for at in range(13):
        more = {"treatment": f"D-ReLU-{at}", "group": "pgd", "axis": "eps"}
        for eps in (0.0, 0.1):
            rows.append(point(eps, "pgd", 0.9 - at / 50, eps=eps, **more))
            rows.append(point(eps, "adaptive", 0.4 - at / 50, eps=eps, **more))
    (axis,) = draw(frame(*rows), "eps").axes
    looks = Counter(
        (one.get_color(), one.get_marker()) for one in axis.lines if one.get_marker() != "None"
    )
    assert sorted(looks.values()) == [2] * 13  # a method's own line and its adaptive one
    assert sum(one.is_dashed() for one in axis.lines) == 13


def test_epochs_stand_beside_the_gap():
    rows = []
    for group in ("ReLU", "overfit"):
        for epoch in (10.0, 20.0):
            more = {"group": group, "axis": "epoch"}
            rows += [point(epoch, name, 0.4, **more) for name in ("clean", "claimed", "adaptive")]
            rows.append(point(epoch, "gap", epoch / 100, quantity="gap", verdict="", **more))
    rows.append(point(15.0, "claimed", 0.7, group="ReLU", axis="epoch", mark="kept"))
    figure = draw(frame(*rows), "epoch")
    left, right = figure.axes
    rings = [one for one in left.lines if one.get_markerfacecolor() == "none"]
    assert [(list(one.get_xdata()), list(one.get_ydata())) for one in rings] == [([15.0], [70.0])]
    assert {one.get_linestyle() for one in rings} == {"None"}
    assert drawn(right, [10, 20], [10, 20])
    assert "what the training kept" in legend_texts(figure)
    assert drawn(left, [10, 20], [40, 40])
    assert {"ReLU", "overfit", "claimed (white box)"} <= set(legend_texts(figure))


def test_every_minimum_is_in_all_three_panels():
    rows = []
    for hop, mark in enumerate(("accepted", "rejected", "")):
        treatment = f"sens-0 hop {hop}"
        more = {"axis": "sensitivity", "mark": mark, "verdict": "masked", "treatment": treatment}
        rows.append(point(-1.0 + hop, "loss", 0.1 * hop, quantity="loss", **more))
        rows += [point(-1.0 + hop, name, 0.2 * hop, **more) for name in ("pgd", "adaptive")]
    figure = draw(frame(*rows), "sensitivity")
    left, middle, right = figure.axes
    assert {(-1.0, 0.0), (0.0, 0.1), (1.0, 0.2)} <= markers(left, "full")
    assert markers(middle, "none") == {(-1.0, 0.0), (0.0, 20.0), (1.0, 40.0)}
    assert markers(right, "none") == {(0.0, 0.0), (0.1, 20.0), (0.2, 40.0)}
    assert "loss" in right.get_xlabel()
    assert {"hop accepted", "hop rejected"} <= set(legend_texts(figure))


@pytest.mark.parametrize(
    ("points", "over"), [(swept(), "lambda"), (over_eps(), "eps")], ids=["lambda", "eps"]
)
def test_files_are_the_same_every_time_and_whatever_the_user_has_set(points, over):
    first = {kind: rendered(draw(points, over), kind) for kind in FORMATS}
    with rc_context({"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9}):
        again = {kind: rendered(draw(points, over), kind) for kind in FORMATS}
    assert first == again
    assert first["svg"].startswith(b"<?xml")
    assert image.imread(io.BytesIO(first["png"])).shape[0] > 300


def test_nothing_of_pyplot_is_touched():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    rendered(draw(swept(), "lambda"), "png")
    assert pyplot.get_fignums() == before


def test_csv_round_trip():
    points = pd.concat([swept(), frame(point(None, "pgd", 1 / 3, mark="reference"))])
    again = pd.read_csv(io.StringIO(points_csv(points)), keep_default_na=False, na_values=[""])
    assert tuple(again.columns) == POINT_COLUMNS
    assert again["mean"].tolist() == points["mean"].tolist()
    assert again["x"].dropna().tolist() == [x for x in points["x"] if x is not None]
    assert again["verdict"].fillna("").tolist() == points["verdict"].tolist()


def test_nothing_overlaps_the_legend():
    figure = draw(swept(), "lambda")
    agg = FigureCanvasAgg(figure)
    agg.draw()  # lays it out
    canvas = agg.get_renderer()
    (legend,) = figure.legends
    below = legend.get_window_extent(canvas)
    for axis in figure.axes:
        assert axis.get_tightbbox(canvas).y0 >= below.y1 - 1
    assert below.x0 >= 0
    assert below.x1 <= figure.bbox.width
