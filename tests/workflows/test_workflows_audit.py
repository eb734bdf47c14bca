"""`audit` on the published tables and on files."""

from __future__ import annotations

import json

import pytest

from drelu_cli.core.errors import BadValue, DataError, UnknownName
from drelu_cli.published.tables import claims_text, published_table
from drelu_cli.stats.audit import AUDIT_RULES
from drelu_cli.workflows.audit import audit

COUNTS = {
    "rank-mismatch": 32,
    "tie-printed-as-order": 2,
    "adversarial-above-clean": 5,
    "iterative-weaker-than-single-step": 25,
    "blackbox-stronger-than-whitebox": 32,
    "same-configuration-differs": 18,
    "off-grid": 10,
    "correlated-blocks": 9,
    "underpowered": 4,
    "impossible-at-bound": 44,
}


@pytest.fixture(scope="module")
def everything():
    return audit()


def test_all_published_tables(everything):
    document = everything.document
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["source"] == "published:all"
    assert document["cells"] == 876
    assert document["counts"] == COUNTS
    assert len(document["findings"]) == sum(COUNTS.values())
    assert set(document["findings"][0]) == {
        "code", "severity", "table", "dataset", "model", "training", "attack", "printed",
        "recomputed", "message",
    }  # fmt: skip
    assert document["not_checked"] == {}
    assert [claim["verdict"] for claim in document["claims"]].count("refuted") == 4


def test_a_report_that_can_be_pasted(everything, tmp_path):
    text = everything.render()
    assert (
        "- table 2 / CIFAR10 / ResNet101 / TRADES-1 / clean: printed rank 1, but 74.60 % has "
        in text
    )
    markdown = everything.render(".md")
    for code, count in COUNTS.items():
        assert f"({count})" in markdown or f", {count})" in markdown
        assert code in markdown
    assert (
        "| critical difference of average ranks (Nemenyi) | 0.656 | 0.7817 | refuted |" in markdown
    )
    assert markdown.count("\n| table ") == sum(COUNTS.values())
    audit("published:table2", out=tmp_path / "review.md")
    assert (tmp_path / "review.md").read_text().startswith("## Audit")


def test_claims_belong_to_their_table():
    assert len(audit("published:table2").claims) == 10
    assert audit("published:table1").claims == ()
    assert audit("published:table2", claims="none").claims == ()


def test_claims_from_a_file(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text('[[claim]]\nname = "F"\nstatistic = "anova.F"\nprinted = "1.00"\n')
    (result,) = audit("published:table3", claims=path).claims
    assert result.verdict == "refuted"
    path.write_text(claims_text())
    assert len(audit("published:all", claims=str(path)).claims) == 10
    with pytest.raises(BadValue, match="about published:table2, not about published:table3"):
        audit("published:table3", claims=path)
    path.write_text("claim = [")
    with pytest.raises(DataError, match="not TOML"):
        audit("published:table2", claims=path)
    with pytest.raises(DataError, match="there is no file"):
        audit("published:table2", claims=tmp_path / "nothing.toml")


def test_fail_on_reports_only_what_was_found():
    assert audit("published:table2", fail_on=("rank-mismatch",)).failed == ("rank-mismatch",)
    assert audit("published:table1", fail_on=("rank-mismatch",)).failed == ()
    with pytest.raises(UnknownName) as caught:
        audit("published:table1", fail_on=("rank-mismatches",))
    assert "did you mean rank-mismatch" in caught.value.hint


def test_a_file_without_ranks_says_what_was_not_checked(tmp_path):
    path = tmp_path / "mine.csv"
    frame = published_table("published:table1")
    frame[["dataset", "model", "training", "attack", "accuracy"]].to_csv(path, index=False)
    report = audit(str(path))
    assert set(report.not_checked) == {
        "rank-mismatch",
        "tie-printed-as-order",
        "blackbox-stronger-than-whitebox",
        "same-configuration-differs",
        "impossible-at-bound",
    }
    assert set(report.counts) | set(report.not_checked) == set(AUDIT_RULES.names())
    assert "Not checked: rank-mismatch, since the table has no column 'printed_rank'." in (
        report.render()
    )
    assert report.counts["iterative-weaker-than-single-step"] == 1
    assert report.claims == ()


def test_a_clean_table_has_no_findings(tmp_path):
    path = tmp_path / "good.csv"
    rows = ["dataset,model,training,attack,accuracy,printed_rank"]
    for network in range(8):
        for training, rank in (("A", 1), ("B", 2)):
            rows.append(f"d,n{network},{training},clean,{80 - 10 * rank + network},{rank}")
    path.write_text("\n".join(rows))
    report = audit(str(path))
    assert report.findings == ()
    assert sum(report.counts.values()) == 0
