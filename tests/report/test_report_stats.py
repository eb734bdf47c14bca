"""The results section, the diagram as text and as a picture, the report's three forms."""

from __future__ import annotations

import json

import numpy as np
import pytest

from drelu_cli.core.errors import BadValue
from drelu_cli.published.tables import published_table
from drelu_cli.report import diagram
from drelu_cli.report.diagram import plot_diagram, text_diagram
from drelu_cli.report.stats_document import number, stats_document
from drelu_cli.report.stats_results import p_text, results_sections, value_text
from drelu_cli.report.stats_sections import (
    WIDTH,
    Grid,
    Section,
    check_suffix,
    latex_escape,
    render_sections,
)
from drelu_cli.stats.blocks import cells
from drelu_cli.stats.comparison import compare_treatments
from drelu_cli.stats.conclusion import conclusions

NAMES = ("AT", "TRADES-1", "TRADES-6", "D-ReLU")
RANKS = np.array([2.3889, 3.4167, 2.6667, 1.5278])


@pytest.fixture(scope="module")
def comparison():
    blocks = cells(published_table("published:table2"))
    return compare_treatments(blocks, seed=0, control="D-ReLU")


@pytest.fixture(scope="module")
def sections(comparison):
    return results_sections(
        comparison,
        source="published:table2",
        conclusion=conclusions(comparison),
        warnings=["few-networks: an example"],
        notes=["an example"],
    )


def test_the_papers_numbers_are_in_the_text(sections):
    text = render_sections(sections, ".txt")
    for figure in ("17.3973", "3.9246", "39.4333", "20.1288", "2.1367", "2.6911", "3.9738"):
        assert figure in text
    assert "Nemenyi CD 0.6972 / 0.7817 / 0.9473 at alpha .10 / .05 / .01." in text
    assert "Warning: few-networks: an example." in text
    assert "Note: an example." in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_markdown_tables_have_as_many_cells_as_headers(sections):
    text = render_sections(sections, ".md")
    assert text.startswith("## What was compared\n")
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 4
    for table in tables:
        lines = table.strip().splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert set(lines[1]) <= set("|-: ")


def test_latex_is_escaped_and_balanced(sections):
    text = render_sections(sections, ".tex")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    body = text.split(r"\begin{verbatim}")[0]
    assert r"apgd\_ce" in body
    assert "apgd_ce" not in body
    assert latex_escape("50 % & a_b {x} #1 $ ~ ^ \\ < >") == (
        r"50 \% \& a\_b \{x\} \#1 \$ \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{} \textless{} \textgreater{}"
    )


def test_wide_tables_become_lists_that_lose_nothing():
    words = "a rather long explanation that does not fit beside the others in any terminal"
    wide = Section("T", (), Grid(("cell", "printed", "why"), (("x" * 40, "12.34", words),)))
    text = render_sections([wide], ".txt")
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert " ".join(text.split()).endswith(f"{'x' * 40}: printed 12.34; why {words}")
    brief = Section("T", (), Grid(("cell", "p", "why"), (("x" * 40, "1", words),), brief=(0, 2)))
    assert "why" not in render_sections([brief], ".txt")


def test_pipes_in_names_do_not_break_markdown():
    grid = Grid(("name", "n"), (("a|b", "1"),))
    assert "| a\\|b | 1 |" in render_sections([Section("T", (), grid)], ".md")


def test_unknown_forms_are_refused_before_the_work(tmp_path):
    with pytest.raises(BadValue, match=r"'\.docx'"):
        render_sections([], ".docx")
    with pytest.raises(BadValue, match="the plot"):
        check_suffix(tmp_path / "x.bmp", (".svg",), "the plot")
    check_suffix(None, (), "nothing")


def test_numbers_as_text():
    assert [p_text(p) for p in (None, 0.05, 1e-4, 9.9e-5, 1.17e-9)] == [
        "-", "0.0500", "0.0001", "9.90e-05", "1.17e-09",
    ]  # fmt: skip
    assert [value_text(v) for v in (None, 1.0, float("inf"))] == ["-", "1.0000", "infinite"]
    assert number("F", float("inf")) == {"F": None, "F_is_infinite": True}
    assert number("F", 2.0) == {"F": 2.0}


def test_the_document_is_strict_json_with_the_documented_keys(comparison):
    document = stats_document(comparison, source="s", conclusion=["c"], warnings=[])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    documented = {
        "source", "unit", "treatments", "blocks", "alpha", "anova", "rm_anova", "friedman",
        "nemenyi", "bonferroni_dunn", "wilcoxon_holm", "bayes", "min_attainable_p", "conclusion",
    }  # fmt: skip
    assert documented <= set(document)
    assert document["unit"] == "percent"
    assert {"F", "df1", "df2", "p", "eta_squared", "critical"} <= set(document["anova"])
    assert {"F", "df1", "df2", "p", "gg_epsilon", "p_gg"} <= set(document["rm_anova"])
    assert {"a", "b", "p_a", "p_rope", "p_b"} == set(document["bayes"]["pairs"][0])
    assert document["min_attainable_p"] == pytest.approx(6 * 2.0**-35)
    difference = document["nemenyi"]["pairs"][2]
    assert (difference["a"], difference["b"]) == ("AT", "D-ReLU")
    ranks = document["friedman"]["average_ranks"]
    assert difference["rank_difference"] == ranks["AT"] - ranks["D-ReLU"]


def test_text_diagram_places_ranks_and_bars():
    lines = text_diagram(NAMES, RANKS, 0.7817, 0.05)
    rows = {line.split()[0]: line for line in lines[2:6]}
    assert list(rows) == ["D-ReLU", "AT", "TRADES-6", "TRADES-1"]
    start = lines[1].index("+")
    step = lines[1].index("+", start + 1) - start
    for name, rank in zip(NAMES, RANKS, strict=True):
        assert abs((rows[name].index("*") - start) / step + 1 - rank) <= 0.5 / step
        assert rows[name].endswith(f"{rank:.4f}")
    assert lines[-2].split()[0] == "=" * lines[-2].count("=")
    assert lines[-2].endswith("AT, TRADES-6")
    assert lines[-1].endswith("TRADES-6, TRADES-1")


def test_text_diagram_without_bars_says_so():
    lines = text_diagram(("a", "b"), np.array([1.0, 2.0]), 0.5, 0.05)
    assert lines[-1] == "every two ranks differ by more than it"


def crowded(k):
    """Ranks that crowd in the middle, one long name among them."""
    names = (*(f"D-ReLU-{10.0**-i:g}" for i in range(k - 1)), "ReLU6 with a long name")
    middle = (k + 1) / 2
    return names, middle + (np.arange(k) - (k - 1) / 2) * 0.01


@pytest.mark.parametrize("k", range(2, 13))
@pytest.mark.parametrize("spread", ["crowded", "even"])
def test_no_labels_overlap_up_to_12_treatments(k, spread, tmp_path, monkeypatch):
    """By the boxes that the renderer gives: none touch, none leave the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = []
    real = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **o: (drawn.append(self), real(self, *a, **o))[1]
    )
    names, ranks = crowded(k)
    ranks = ranks if spread == "crowded" else np.arange(1.0, k + 1)
    plot_diagram(tmp_path / "cd.png", names, ranks, 1.1, 0.05)
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == 2 * k + 1
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0
        assert one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0
        assert one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_pictures_are_what_their_names_say_and_the_same_every_time(tmp_path):
    heads = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert set(heads) == set(diagram.PLOT_FORMATS)
    for suffix, head in heads.items():
        one, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        for path in (one, other):
            plot_diagram(path, NAMES, RANKS, 0.7817, 0.05)
        assert one.read_bytes().startswith(head)
        assert one.read_bytes() == other.read_bytes()
    assert "TRADES-6" in (tmp_path / "a.svg").read_text()
