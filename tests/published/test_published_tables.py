"""The paper's tables as package data."""

from __future__ import annotations

import subprocess
import sys

import pytest

from drelu_cli.core.errors import UnknownName
from drelu_cli.published import DATASETS, MODELS, is_published
from drelu_cli.published.tables import provenance, published_table, table_names, table_numbers


def test_all_cells_are_there():
    frame = published_table("published:all")
    assert len(frame) == 876 == provenance()["cells"]
    sizes = frame.groupby("table").size().to_dict()
    assert sizes == {1: 48, 2: 144, 3: 144, 4: 144, 5: 108, 6: 72, 7: 72, 8: 72, 9: 72}
    assert frame["accuracy"].between(0, 100).all()
    assert not frame.duplicated(["table", "dataset", "model", "training", "attack"]).any()


def test_a_known_cell():
    frame = published_table("published:table2")
    cell = frame[
        (frame["model"] == "ResNet101")
        & (frame["training"] == "D-ReLU")
        & (frame["attack"] == "pgd")
    ].iloc[0]
    assert (cell["accuracy"], cell["printed_rank"], cell["norm"], cell["eps"]) == (
        75.37, 1, "linf", 0.01,
    )  # fmt: skip


def test_threats_and_training_images():
    frame = published_table("published:all")
    assert set(frame.loc[frame["attack"] == "cw_l2", "eps"]) == {18.0}
    mnist = frame[(frame["dataset"] == "MNIST") & (frame["norm"] == "linf")]
    assert set(mnist["eps"]) == {0.1}
    assert frame.loc[frame["attack"] == "clean", "eps"].isna().all()
    assert set(frame.loc[frame["data"] == "generated", "table"]) == {6, 7, 8, 9}


def test_a_caller_cannot_change_the_next_callers_table():
    frame = published_table("published:table1")
    frame["accuracy"] = 0.0
    assert published_table("published:table1")["accuracy"].max() == 99.4


def test_names():
    assert table_names() == [f"published:table{n}" for n in range(1, 10)]
    assert table_numbers("published:table4") == [4]
    assert is_published("published:nonsense")
    assert not is_published("mine.csv")
    with pytest.raises(UnknownName) as caught:
        published_table("published:table22")
    assert "published:table2" in caught.value.hint


def test_every_name_of_the_paper_has_ours():
    frame = published_table("published:all")
    assert set(frame["dataset"]) == set(DATASETS)
    assert set(frame["model"]) == set(MODELS)


def test_importing_the_room_imports_no_pandas():
    code = "import drelu_cli.published, sys; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
