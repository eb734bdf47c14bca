"""`drelu audit` as a user types it."""

from __future__ import annotations

import pytest


def test_all_published_tables_by_default(drelu):
    ran = drelu("audit", "--json")
    assert ran.code == 0
    document = ran.document
    assert (document["command"], document["source"], document["cells"]) == (
        "audit", "published:all", 876,
    )  # fmt: skip
    assert document["counts"]["rank-mismatch"] == 32
    assert "impossible-at-bound (error, 44)" in ran.err


def test_the_text_figures_of_the_paper(drelu):
    ran = drelu("audit", "published:table2")
    assert "10 claims, 4 refuted" in ran.out
    assert "20.1288 truncated instead of rounded" in " ".join(ran.out.split())
    assert "Statistics printed" not in drelu("audit", "published:table2", "--claims", "none").out


def test_fail_on(drelu):
    ran = drelu("audit", "published:table2", "--fail-on", "off-grid", "--fail-on", "rank-mismatch")
    assert ran.code == 1
    assert ran.err.strip() == "failed: off-grid, rank-mismatch (--fail-on)"
    assert drelu("audit", "published:table1", "--fail-on", "off-grid").code == 0
    with_json = drelu("audit", "published:table2", "--fail-on", "off-grid", "--json")
    assert with_json.code == 1
    assert with_json.document["counts"]["off-grid"] == 2


def test_the_report_is_written(drelu, tmp_path):
    ran = drelu("audit", "published:table3", "--out", "review.tex")
    assert "written: review.tex" in ran.out
    assert r"\paragraph{Audit}" in (tmp_path / "review.tex").read_text()


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["published:table0"], ["unknown published table", "published:all"]),
        (["nothing.csv"], ["there is no file nothing.csv"]),
        (["--fail-on", "rank-mismach"], ["unknown code", "did you mean rank-mismatch"]),
        (["--claims", "nothing.toml"], ["there is no file nothing.toml", "none"]),
        (["--out", "x.doc"], ["the report x.doc", ".md"]),
    ],
)
def test_mistakes_get_a_message_a_hint_and_exit_code_2(drelu, words, texts):
    ran = drelu("audit", *words)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err
    for text in texts:
        assert text in ran.err
