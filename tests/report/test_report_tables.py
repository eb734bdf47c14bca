"""Comparison tables; `python tests/report/test_report_tables.py` writes the golden files anew."""

from __future__ import annotations

import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.report.layout import attack_name, eps_text, grids, threat_text
from drelu_cli.report.render import RENDERERS, render
from drelu_cli.report.tables import CELL, Comparison, comparison, rank_cells
from drelu_cli.report.terminal import to_rich

GOLDEN = Path(__file__).parents[1] / "golden"
CAPTION = "White box & verdicts <100 %>"
NOTES = ("Accuracy in percent, rank in parentheses, best in bold.", "D-ReLU_0.1 | 3 seeds")
COLUMNS = ["dataset", "architecture", "training", "attack", "norm", "eps", "mean", "std", "n_seeds"]


def sample() -> Comparison:
    """Two data sets, three trainings, a tie that float noise hides, a missing cell."""
    mnist = [
        ("mnist", "dense", "ReLU", "clean", "", 0.0, 0.983, 0.001, 3),
        ("mnist", "dense", "D-ReLU-0.1", "clean", "", 0.0, 0.979, 0.002, 3),
        ("mnist", "dense", "AT", "clean", "", 0.0, 0.983 + 1e-9, None, 1),
        ("mnist", "dense", "ReLU", "cw_l2", "l2", 1.5, 0.123, None, 1),
        ("mnist", "dense", "D-ReLU-0.1", "cw_l2", "l2", 1.5, 0.2, None, 1),
        ("mnist", "dense", "ReLU", "pgd", "linf", 0.1, 0.034, 0.004, 3),
        ("mnist", "dense", "D-ReLU-0.1", "pgd", "linf", 0.1, 0.804, 0.0123, 3),
        ("mnist", "dense", "AT", "pgd", "linf", 0.1, 0.7, None, 1),
        ("mnist", "shallow_cnn", "ReLU", "pgd", "linf", 0.1, 0.699, None, 1),
        ("mnist", "shallow_cnn", "D-ReLU-0.1", "pgd", "linf", 0.1, 1.0, 0.0, 3),
    ]
    cifar = [("cifar10", "resnet18", "AT", "apgd_ce", "linf", 8 / 255, 1 / 3, None, 1)]
    rows = pd.DataFrame([*mnist, *cifar], columns=COLUMNS)
    paper = (rows["training"] == "D-ReLU-0.1") & (rows["attack"] == "pgd")
    rows["published"] = paper.map({True: 0.877, False: math.nan})
    columns = pd.DataFrame(
        [
            ("mnist", "dense", "D-ReLU-0.1", "linf", 0.1, 0.804, 0.29, 0.29, 0.083, "masked 3/3"),
            ("mnist", "dense", "ReLU", "linf", 0.1, 0.034, None, None, None, "not examined"),
        ],
        columns=[
            *("dataset", "architecture", "training", "norm", "eps"),
            *("claimed", "standard", "autoattack", "adaptive", "verdict"),
        ],
    )
    return comparison(rows, columns)


def rows_of(*means: float, **changes: Any) -> pd.DataFrame:
    """One column of a table: trainings a, b, c ... with these means."""
    values = {"dataset": "d", "architecture": "a", "attack": "pgd", "norm": "linf", "eps": 0.1}
    trainings = [chr(ord("a") + number) for number in range(len(means))]
    return pd.DataFrame({**values, "training": trainings, "mean": means, **changes})


class TestRanks:
    @pytest.mark.parametrize(
        ("means", "ranks", "best"),
        [
            ([0.1, 0.3, 0.2], [3, 1, 2], [False, True, False]),
            ([0.3, 0.3, 0.2], [1.5, 1.5, 3], [True, True, False]),
            ([0.5, 0.5, 0.5], [2, 2, 2], [True, True, True]),
            # Equal as printed: 80.40 and 80.40.
            ([0.80401, 0.80399], [1.5, 1.5], [True, True]),
            ([0.1 + 0.2, 0.3], [1.5, 1.5], [True, True]),
            # Different as printed: 80.41 and 80.40.
            ([0.8041, 0.804], [1, 2], [True, False]),
            ([0.2, math.nan, 0.1], [1, math.nan, 2], [True, False, False]),
            ([math.nan], [math.nan], [False]),
        ],
    )
    def test_by_what_is_printed(
        self, means: list[float], ranks: list[float], best: list[bool]
    ) -> None:
        ranked = rank_cells(rows_of(*means))
        assert ranked["rank"].tolist() == pytest.approx(ranks, nan_ok=True, abs=0)
        assert ranked["best"].tolist() == best

    @pytest.mark.parametrize("other", ["dataset", "architecture", "attack", "norm", "eps"])
    def test_within_one_column_of_one_block(self, other: str) -> None:
        value = 0.2 if other == "eps" else "l2" if other == "norm" else "other"
        both = pd.concat([rows_of(0.9, 0.8), rows_of(0.2, 0.1, **{other: value})])
        assert rank_cells(both)["rank"].tolist() == [1, 2, 1, 2]

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_ranks_sum_to_the_triangle_number(self, means: list[float]) -> None:
        ranked = rank_cells(rows_of(*means))
        assert ranked["rank"].sum() == len(means) * (len(means) + 1) / 2
        printed = [f"{100 * mean:.2f}" for mean in means]
        top = max(printed, key=float)
        assert ranked["best"].tolist() == [text == top for text in printed]


class TestInput:
    def test_optional_columns_are_filled_in(self) -> None:
        made = comparison(rows_of(0.5))
        assert made.cells.loc[0, "n_seeds"] == 1
        assert math.isnan(made.cells.loc[0, "published"])
        assert made.columns.empty

    def test_the_callers_frame_is_left_alone(self) -> None:
        rows = rows_of(0.5)
        comparison(rows)
        assert list(rows.columns) == list(rows_of(0.5).columns)

    def test_a_missing_column_is_named(self) -> None:
        with pytest.raises(BadValue, match="no column mean"):
            comparison(rows_of(0.5).drop(columns="mean"))

    def test_a_cell_twice_is_named(self) -> None:
        with pytest.raises(BadValue, match=r"twice: d, a, a, pgd, linf, 0\.1"):
            comparison(pd.concat([rows_of(0.5), rows_of(0.6)]))

    def test_another_format(self) -> None:
        with pytest.raises(UnknownName, match="unknown table format 'pdf'"):
            render(sample(), "pdf")


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ("pgd", "PGD"),
        ("apgd_ce", "APGD-CE"),
        ("apgd_dlr", "APGD-DLR"),
        ("cw_l2", "CW-L2"),
        ("square", "Square"),
        ("fgsm", "FGSM"),
        ("clean", "Clean"),
        ("pgd:steps=100", "PGD:steps=100"),
        ("mine", "mine"),
    ],
)
def test_attacks_have_the_fields_names(given_: str, shown: str) -> None:
    assert attack_name(given_) == shown


@pytest.mark.parametrize(
    ("eps", "shown"),
    [
        (0.1, "0.1"),
        (0.01, "0.01"),
        (8 / 255, "8/255"),
        (1 / 255, "1/255"),
        (0.5, "0.5"),
        (0, "0"),
        (18.0, "18"),
        (1 / 3, "85/255"),
        (0.123456, "0.1235"),
    ],
)
def test_radii_are_written_as_people_do(eps: float, shown: str) -> None:
    assert eps_text(eps) == shown
    assert threat_text("linf", eps) == f"Linf {shown}"


def test_columns_come_in_the_fields_order_per_data_set() -> None:
    mnist, cifar = grids(sample())
    assert mnist.headers[:3] == ("Clean", "PGD (Linf 0.1)", "CW-L2 (L2 1.5)")
    assert mnist.headers[3:] == (
        *("claimed", "standard", "autoattack", "adaptive"),  # nobody has certified anything
        "verdict",
    )
    assert cifar.headers == ("APGD-CE (Linf 8/255)",)
    assert [block.architecture for block in mnist.blocks] == ["dense", "shallow_cnn"]


def test_several_threats_are_named_in_their_columns() -> None:
    keys = {"dataset": "d", "architecture": "a", "training": "a"}
    columns = pd.DataFrame(
        [
            {**keys, "norm": "linf", "eps": 0.1, "claimed": 0.8, "verdict": "masked"},
            {**keys, "norm": "linf", "eps": 0.3, "claimed": 0.5, "verdict": "suspicious"},
        ]
    )
    (grid,) = grids(comparison(rows_of(0.8), columns))
    assert grid.headers[1:] == (
        *("claimed (Linf 0.1)", "verdict (Linf 0.1)"),
        *("claimed (Linf 0.3)", "verdict (Linf 0.3)"),
    )
    assert [cell.value for cell in grid.blocks[0].rows[0][1][1:]] == [
        *("80.00", "masked"),
        *("50.00", "suspicious"),
    ]


@pytest.mark.parametrize("name", RENDERERS)
def test_golden(name: str) -> None:
    golden = GOLDEN / f"report_comparison.{name}"
    assert render(sample(), name, caption=CAPTION, notes=NOTES) == golden.read_text("utf-8")


def test_csv_is_data_at_full_precision() -> None:
    made = sample()
    text = render(made, "csv", caption=CAPTION, notes=NOTES)
    read = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    assert list(read["mean"]) == list(made.cells["mean"])
    assert list(read["eps"]) == list(made.cells["eps"])
    assert list(read.columns[: len(CELL)]) == CELL
    assert list(read["verdict"].dropna()) == ["not examined", "masked 3/3"]


@pytest.mark.parametrize("hostile", ["a_b & c%", "<script>alert(1)</script>", "x|y", "{$\\^~#}"])
def test_names_are_escaped(hostile: str) -> None:
    made = comparison(rows_of(0.5, training=[hostile], dataset=hostile, architecture=hostile))
    html = render(made, "html", caption=hostile, notes=[hostile])
    assert "<script>" not in html

    class Words(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_data(self, data: str) -> None:
            self.found.append(data.strip())

    words = Words()
    words.feed(html)
    assert words.found.count(hostile) == 6  # title, h1, h2, model, training, note
    tex = render(made, "tex", caption=hostile, notes=[hostile])
    body = tex.split("\n", 1)[1]
    assert len(re.findall(r"(?<!\\)&", body)) == 4  # two rows of three cells
    assert not re.search(r"(?<!\\)[%#_^~](?!\n)", body)
    row = render(made, "md").splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


class TestTerminal:
    @pytest.mark.parametrize("width", [220, 140, 100, 80, 60, 40, 30])
    def test_no_width_cuts_a_number_or_loses_one(self, width: int) -> None:
        out = io.StringIO()
        Console(file=out, width=width).print(to_rich(sample()))
        text = out.getvalue()
        assert "…" not in text
        assert max(len(line) for line in text.splitlines()) <= width
        shown = re.findall(r"(?<![\d.])\d+\.\d\d(?![\d.])", text)
        # Means, spreads, published values and columns, each as often as in the table.
        made = sample()
        numbers = [*made.cells["mean"], *made.cells["std"][made.cells["n_seeds"] > 1]]
        numbers += [*made.cells["published"], 0.804, 0.29, 0.29, 0.083, 0.034]
        expected = [f"{100 * number:.2f}" for number in numbers if not math.isnan(number)]
        assert sorted(shown) == sorted(expected)

    def test_the_best_is_bold(self) -> None:
        out = io.StringIO()
        console = Console(file=out, width=200, force_terminal=True, color_system="standard")
        console.print(to_rich(comparison(rows_of(0.1, 0.9))))
        assert "\x1b[1m90.00\x1b[0m (1)" in out.getvalue()
        assert "\x1b[1m10.00" not in out.getvalue()

    def test_markup_in_names_is_text(self) -> None:
        out = io.StringIO()
        Console(file=out, width=80).print(to_rich(comparison(rows_of(0.5, training=["[bold]x"]))))
        assert "[bold]x" in out.getvalue()


if __name__ == "__main__":
    for suffix in RENDERERS:
        text = render(sample(), suffix, caption=CAPTION, notes=NOTES)
        (GOLDEN / f"report_comparison.{suffix}").write_text(text, "utf-8")


@pytest.mark.parametrize("engine", ["torchattacks 3.5.1", "autoattack (pyautoattack 0.2.0)"])
def test_another_engine_s_column_is_named_in_full(engine):
    assert attack_name(f"apgd_ce:steps=9 [{engine}]") == f"APGD-CE:steps=9 [{engine}]"
    cells = pd.DataFrame(
        [
            {
                "dataset": "digits", "architecture": "dense", "training": "ReLU",
                "attack": f"pgd [{engine}]", "norm": "linf", "eps": 0.2, "mean": 0.5,
            }
        ]
    )  # fmt: skip
    console = Console(width=120)
    with console.capture() as shown:
        console.print(to_rich(comparison(cells)))
    text = shown.get()
    assert f"PGD [{engine}]" in text
    assert "(Linf 0.2)" in text
