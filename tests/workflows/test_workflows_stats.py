"""`stats` on published tables, CSV files and a store."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from drelu_cli.core.errors import BadValue, DataError, StoreError, UnknownName
from drelu_cli.published.tables import published_table, table_names
from drelu_cli.workflows.stats import stats
from drelu_cli.workflows.tabular import read_table, select

STATISTICS = ("anova", "rm_anova", "friedman", "nemenyi", "wilcoxon_holm", "bayes")


@pytest.fixture
def long_csv(tmp_path):
    path = tmp_path / "long.csv"
    published_table("published:table2")[
        ["dataset", "model", "training", "attack", "accuracy", "printed_rank"]
    ].to_csv(path, index=False)
    return path


@pytest.fixture
def wide_csv(tmp_path):
    path = tmp_path / "wide.csv"
    frame = published_table("published:table2")
    wide = frame.pivot(index=["dataset", "model", "attack"], columns="training", values="accuracy")
    wide[["AT", "TRADES-1", "TRADES-6", "D-ReLU"]].to_csv(path)
    return path


def test_the_papers_table():
    document = stats("published:table2").document
    assert document["blocks"]["unit"] == "cell"
    assert document["blocks"]["n"] == 36
    assert document["anova"]["F"] == pytest.approx(17.3973, abs=5e-5)
    assert document["friedman"]["chi2"] == pytest.approx(39.4333, abs=5e-5)
    assert document["friedman"]["F_F"] == pytest.approx(20.1288, abs=5e-5)
    cd = document["nemenyi"]["cd"]
    assert [round(value, 4) for value in cd.values()] == [0.6972, 0.7817, 0.9473]
    assert document["bonferroni_dunn"]["control"] == "D-ReLU"


@pytest.mark.parametrize("name", table_names())
@pytest.mark.parametrize("blocks", ["cell", "network"])
def test_every_published_table_has_every_part(name, blocks):
    report = stats(name, blocks=blocks)
    document = report.document
    k = len(document["treatments"])
    assert len(document["wilcoxon_holm"]["pairs"]) == k * (k - 1) // 2
    assert document["friedman"]["chi2"] > 0
    assert set(STATISTICS) <= set(document)
    assert document["conclusion"]
    assert report.render(".md").count("## ") == 7


def test_long_and_wide_files_give_the_same_statistics(long_csv, wide_csv):
    published = stats("published:table2", control="AT").document
    for path in (long_csv, wide_csv):
        document = stats(str(path), blocks="cell", control="AT").document
        assert document["treatments"] == published["treatments"]
        for part in ("anova", "rm_anova"):
            for key in ("F", "p", "df1", "df2"):
                assert document[part][key] == pytest.approx(published[part][key])
        assert document["friedman"]["chi2"] == pytest.approx(published["friedman"]["chi2"])
        assert document["friedman"]["average_ranks"] == published["friedman"]["average_ranks"]


def test_files_default_to_auto(long_csv):
    report = stats(str(long_csv))
    assert report.document["blocks"]["unit"] == "network"
    assert report.comparison.control is None
    few = stats(str(long_csv), where={"model": "Dense"})
    assert few.document["blocks"]["unit"] == "cell"
    assert few.warnings[0].startswith("few-networks: 1 network")
    assert "one network" in few.conclusion[0]


def test_asking_for_auto_overrules_the_published_default():
    assert stats("published:table2", blocks="auto").document["blocks"]["unit"] == "network"


def test_a_wide_file_of_bare_rows(tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text("set,ours,theirs\na,90,80\nb,70,75\nc,60,50\n")
    document = stats(str(path)).document
    assert document["treatments"] == ["ours", "theirs"]
    assert document["blocks"]["names"] == ["a / accuracy", "b / accuracy", "c / accuracy"]
    assert document["blocks"]["networks"] == 3
    path.write_text("ours,theirs\n90,80\n70,75\n")
    assert stats(str(path)).document["blocks"]["n"] == 2


def test_printed_ranks_from_a_file(long_csv):
    document = stats(str(long_csv), blocks="cell", ranks="printed").document
    assert document["friedman"]["chi2"] == pytest.approx(32.3)
    with pytest.raises(BadValue, match="no printed ranks"):
        stats(str(long_csv), blocks="network", ranks="printed")


def test_missing_cells_of_a_file_are_named(wide_csv):
    frame = pd.read_csv(wide_csv)
    frame.loc[3, "AT"] = np.nan
    frame.to_csv(wide_csv, index=False)
    report = stats(str(wide_csv), blocks="cell")
    (lost,) = report.document["blocks"]["missing"]
    assert lost["treatments"] == ["AT"]
    assert f"1 block(s) left out: {lost['block']} (no AT)." in " ".join(report.render().split())


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DataError, "not a CSV"),
        ("a,b\n", DataError, "no rows"),
        ("dataset,model,accuracy\nd,m,50\n", DataError, "training, attack"),
        ("training,accuracy\nA,50\n", DataError, "dataset, model, attack"),
        ("dataset,model,training,attack,accuracy\nd,m,A,pgd,5o\n", BadValue, "line 2: '5o'"),
        ("dataset,model,training,attack,accuracy\nd,,A,pgd,50\n", DataError, "line 2: model"),
        ("x,A,B\nr,0.5,0.6\nq,0.7,0.1\n", BadValue, "fractions"),
        ("x,A\nr,50\n", DataError, "neither long nor wide"),
        ("x,A,B\nr,50,6O\nq,40,30\n", BadValue, "line 2: '6O'"),
        ("x,A,B\nr,50,160\n", BadValue, "outside 0"),
        ("A\xff,B\n1,2\n", DataError, "not a CSV"),
    ],
)
def test_unusable_files_are_named(tmp_path, text, error, message):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(error, match=message):
        stats(str(path))


def test_a_missing_file_suggests_the_nearest(tmp_path):
    (tmp_path / "results.csv").write_text("x,A,B\nr,50,60\n")
    with pytest.raises(DataError, match="there is no file") as caught:
        read_table(tmp_path / "result.csv")
    assert "results.csv" in caught.value.hint
    assert "published:table1" in caught.value.hint


def test_where_selects_rows_and_names_the_nearest_value():
    frame = published_table("published:all")
    assert set(select(frame, {"table": "2"})["table"]) == {2}
    assert set(select(frame, {"table": "8/4"})["table"]) == {2}
    assert (
        len(stats("published:table5", where={"dataset": "CIFAR100"}).document["blocks"]["names"])
        == 12
    )
    for where in ({"datset": "MNIST"}, {"dataset": "MNITS"}):
        with pytest.raises(UnknownName) as caught:
            select(frame, where)
        assert "did you mean" in caught.value.hint


def test_wrong_requests():
    with pytest.raises(UnknownName, match="published:table12"):
        stats("published:table12")
    with pytest.raises(BadValue, match="nine tables"):
        stats("published:all")
    with pytest.raises(BadValue, match="--suite"):
        stats("published:table2", suite="whitebox")


def test_outputs_are_written_and_refused_early(tmp_path):
    report = stats("published:table2", plot=tmp_path / "cd.svg", out=tmp_path / "r.tex")
    assert (tmp_path / "r.tex").read_text() == report.render(".tex")
    assert (tmp_path / "cd.svg").stat().st_size > 1000
    with pytest.raises(BadValue, match="the plot"):
        stats("published:table2", plot=tmp_path / "cd.bmp")
    with pytest.raises(BadValue, match="the report"):
        stats("published:table2", out=tmp_path / "r.docx")


def test_the_seed_decides_the_draws_and_nothing_else_does():
    def bayes(seed):
        return stats("published:table2", seed=seed).document["bayes"]["pairs"]

    assert bayes(1) == bayes(1)
    assert bayes(1) != bayes(2)


def test_the_store(small_store):
    from drelu_cli.store.connect import open_store
    from drelu_cli.store.frames import accuracy_frame

    report = stats(store=small_store)
    document = report.document
    assert document["source"] == f"store {small_store}"
    with open_store(small_store) as store:
        frame = accuracy_frame(store)
    assert document["blocks"]["n"] == frame["attack"].nunique() == 3
    assert document["treatments"] == list(dict.fromkeys(frame["label"]))
    for label, mean in document["mean_accuracy"].items():
        own = frame.loc[frame["label"] == label, "accuracy"]
        assert mean == pytest.approx(100 * own.mean())
    intervals = document["outcomes"]["intervals"]
    assert len(intervals) == 4
    for entry in intervals:
        assert entry["ci95"][0] <= entry["accuracy"] <= entry["ci95"][1]
        name = entry["attack"].partition(":")[0]
        stored = frame[(frame["label"] == entry["training"]) & (frame["attack"] == name)]
        assert entry["accuracy"] == pytest.approx(100 * stored["accuracy"].item())
    for test in document["outcomes"]["mcnemar"]:
        difference = test["only_a"] - test["only_b"]
        a, b = (
            next(
                entry["accuracy"]
                for entry in intervals
                if (entry["training"], entry["attack"]) == (name, test["attack"])
            )
            for name in (test["a"], test["b"])
        )
        assert difference == pytest.approx((a - b) / 100 * 40)
    assert "exact McNemar" in report.render()


def test_the_store_by_suite_and_by_filter(small_store):
    assert stats(store=small_store, suite="smoke").document["blocks"]["n"] == 3
    assert stats(store=small_store, columns="attacks").document["blocks"]["n"] == 2
    with pytest.raises(UnknownName):
        stats(store=small_store, suite="smokey")
    with pytest.raises(BadValue, match="1 treatment"):
        stats(store=small_store, where={"activation": "relu"})


def test_no_store_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        stats(store=tmp_path / "nothing")


def test_published_tables_need_no_torch():
    code = (
        "import sys; from drelu_cli.workflows.stats import stats; "
        "from drelu_cli.workflows.audit import audit; "
        "stats('published:table2').render(); audit().render(); "
        "print([m for m in ('torch', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
