from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_samples import clean_wrong, evaluation, model, outcome

from drelu_cli.core.errors import DreluError, StoreError, UnknownName
from drelu_cli.core.records import State
from drelu_cli.store import exports
from drelu_cli.store.archive import Store
from drelu_cli.store.connect import open_store
from drelu_cli.store.frames import ACCURACY_COLUMNS, accuracy_frame, export_frame, write_export

ORDER = [7, 1, 5, 3, 0, 2, 4, 6]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One model, 6 of 8 samples: 3 robust, 2 broken, 1 wrong without attack."""
    with open_store(tmp_path / "runs") as opened:
        record = opened.add_model(model())
        opened.set_sample_order(record.dataset_digest, ORDER)
        outcomes = [
            outcome(7),
            outcome(1, State.BROKEN, distance=0.5),
            outcome(5, State.BROKEN, distance=0.25),
            clean_wrong(3),
            outcome(0),
            outcome(2),
        ]
        opened.add_outcomes(evaluation(eps=0.1), outcomes, seconds=1)
        yield opened


def by_attack(frame: pd.DataFrame) -> dict[str, pd.Series]:
    return {row["attack"]: row for _, row in frame.iterrows()}


def test_a_row_per_evaluation_and_one_for_the_clean_input(store: Store) -> None:
    frame = accuracy_frame(store)
    assert tuple(frame.columns) == ACCURACY_COLUMNS
    assert list(frame["attack"]) == ["clean", "pgd"]
    clean, pgd = (by_attack(frame)[name] for name in ("clean", "pgd"))
    assert (clean["norm"], clean["eps"], clean["n_samples"]) == ("", 0.0, 6)
    assert clean["accuracy"] == 5 / 6
    assert (pgd["norm"], pgd["eps"], pgd["options"]) == ("linf", 0.1, "steps=100")
    assert pgd["accuracy"] == 3 / 6
    assert pgd["median_distance"] == 0.375  # the clean error at distance 0 is left out
    assert pgd["forwards_per_sample"] == (3 * 41 + 2 * 7) / 6
    assert pgd["evaluation"] == evaluation(eps=0.1).key
    record = model()
    for row in (clean, pgd):
        assert row["model_key"] == record.key
        assert (row["lambda"], row["cap"], row["seed"]) == (1.0, 10.0, 0)
        assert (row["label"], row["architecture"]) == ("D-ReLU-1", "dense")


def test_the_first_samples_of_the_order(store: Store) -> None:
    rows = by_attack(accuracy_frame(store, samples=4))
    assert rows["pgd"]["n_samples"] == rows["clean"]["n_samples"] == 4
    assert rows["pgd"]["accuracy"] == 1 / 4
    assert rows["clean"]["accuracy"] == 3 / 4


def test_an_evaluation_that_does_not_cover_the_list_is_left_out(store: Store) -> None:
    store.add_outcomes(evaluation(attack="fgsm", seed=1), [outcome(7), outcome(1)], seconds=1)
    assert list(accuracy_frame(store)["attack"]) == ["clean", "pgd", "fgsm"]
    assert list(accuracy_frame(store, samples=6)["attack"]) == ["clean", "pgd"]
    assert list(accuracy_frame(store, samples=2)["attack"]) == ["clean", "pgd", "fgsm"]
    assert accuracy_frame(store, samples=7).empty
    # More than there are: the whole test set is the list, and it is not covered.
    assert accuracy_frame(store, samples=1000).empty


def test_more_samples_than_the_test_set_has_means_all_of_them(store: Store) -> None:
    store.add_outcomes(evaluation(eps=0.1), [outcome(4), outcome(6)], seconds=1)
    assert set(accuracy_frame(store, samples=1000)["n_samples"]) == {8}


def test_an_attack_on_survivors_has_no_accuracy_of_its_own(store: Store) -> None:
    outcomes = [outcome(n, State.NOT_RUN if n in (1, 5) else State.ROBUST) for n in ORDER]
    cascade = evaluation(attack="square", cascade="whitebox", given={})
    store.add_outcomes(cascade, outcomes, seconds=1)
    rows = by_attack(accuracy_frame(store))
    assert math.isnan(rows["square"]["accuracy"])
    assert (rows["square"]["cascade"], rows["square"]["options"]) == ("whitebox", "")
    # Samples 4 and 6 are known from the cascade, the others from PGD, which came first.
    assert rows["clean"]["n_samples"] == 8
    assert rows["clean"]["accuracy"] == 7 / 8


def test_outcomes_of_replaced_weights_do_not_count(store: Store) -> None:
    store.add_model(model(weights_digest="e" * 64))
    assert accuracy_frame(store).empty


def test_a_baseline_has_no_lambda(store: Store) -> None:
    relu = store.add_model(model("relu", lambda_=None, cap=None, seed=None, label="ReLU"))
    store.add_outcomes(evaluation(relu), [outcome(0)], seconds=1)
    row = accuracy_frame(store, where={"label": "ReLU"}).iloc[-1]
    assert math.isnan(row["lambda"])
    assert row["seed"] is pd.NA


@pytest.mark.parametrize(
    ("where", "attacks"),
    [
        ({"dataset": "digits"}, ["clean", "pgd"]),
        ({"dataset": "mnist"}, []),
        ({"lambda": "1"}, ["clean", "pgd"]),
        ({"lambda": "1.00", "seed": "0"}, ["clean", "pgd"]),
        ({"eps": "0.10"}, ["clean", "pgd"]),
        ({"eps": "0.3"}, ["clean"]),
        ({"norm": "l2"}, ["clean"]),
        ({"attack": "pgd", "norm": "linf"}, ["pgd"]),
    ],
)
def test_rows_are_selected(store: Store, where: dict[str, str], attacks: list[str]) -> None:
    assert list(accuracy_frame(store, where=where)["attack"]) == attacks


def test_a_column_that_does_not_exist(store: Store) -> None:
    with pytest.raises(UnknownName, match="unknown column 'datset'") as caught:
        accuracy_frame(store, where={"datset": "digits"})
    assert "did you mean dataset" in caught.value.hint


def test_samples_without_an_order(store: Store) -> None:
    other = store.add_model(model("other", dataset="mnist", dataset_digest="0" * 64))
    store.add_outcomes(evaluation(other), [outcome(0)], seconds=1)
    with pytest.raises(StoreError, match="no sample order is stored for the data set mnist"):
        accuracy_frame(store, samples=1)


def test_an_empty_store_gives_empty_frames(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert list(accuracy_frame(store, where={"seed": "0"}).columns) == list(ACCURACY_COLUMNS)
        for what in exports.EXPORTS:
            frame = export_frame(store, what)
            assert frame.empty
            assert "model_key" in frame.columns


class TestExport:
    def test_outcomes(self, store: Store) -> None:
        frame = export_frame(store)
        assert list(frame["sample"]) == [0, 1, 2, 3, 5, 7]
        assert list(frame["state"][:2]) == ["robust", "broken"]
        assert frame["distance"][1] == 0.5
        assert set(frame["name"]) == {model().name}

    def test_evaluations(self, store: Store) -> None:
        (row,) = export_frame(store, "evaluations").to_dict("records")
        assert (row["samples"], row["robust"], row["broken"], row["not run"]) == (6, 3, 3, 0)
        assert json.loads(row["effective"])["steps"] == 100
        assert row["warnings"] == "outputs look like probabilities"

    def test_models(self, store: Store) -> None:
        store.add_finding(model().key, "range", "x")
        (row,) = export_frame(store, "models").to_dict("records")
        assert row["summary.clean_accuracy"] == 0.975
        assert json.loads(row["recipe"]) == model().recipe
        assert json.loads(row["findings"]) == [["range", "x"]]

    def test_another_word(self, store: Store) -> None:
        with pytest.raises(UnknownName, match="unknown export 'outcome'"):
            export_frame(store, "outcome")

    def test_csv_keeps_every_digit(self, store: Store) -> None:
        frame = accuracy_frame(store)
        text = write_export(frame, None, "csv")
        assert text is not None
        read = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
        assert list(read["accuracy"]) == list(frame["accuracy"])
        assert list(read["eps"]) == list(frame["eps"])

    def test_json_is_a_list_of_rows_with_null(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "out.json"
        assert write_export(accuracy_frame(store), file, "json") is None
        clean, pgd = json.loads(file.read_text())
        assert clean["median_distance"] is None
        assert clean["attack_seed"] is None
        assert pgd["accuracy"] == 0.5
        assert pgd["seed"] == 0
        models = write_export(export_frame(store, "models"), None, "json")
        assert models is not None
        assert json.loads(models)[0]["summary.validation_loss"] is None  # it is infinite

    def test_parquet_without_its_extra(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DreluError, match="parquet needs pyarrow") as caught:
            write_export(accuracy_frame(store), tmp_path / "out.parquet", "parquet")
        assert "drelu-cli[parquet]" in caught.value.hint

    def test_parquet(self, store: Store, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        file = tmp_path / "out.parquet"
        write_export(export_frame(store), file, "parquet")
        pd.testing.assert_frame_equal(pd.read_parquet(file), export_frame(store))
        with pytest.raises(DreluError, match="needs a file"):
            write_export(export_frame(store), None, "parquet")

    def test_another_format(self, store: Store) -> None:
        with pytest.raises(UnknownName, match="unknown export format 'xlsx'"):
            write_export(accuracy_frame(store), None, "xlsx")

    def test_a_file_that_cannot_be_written_keeps_the_old_one(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "out.csv"
        file.write_text("old")

        def full(self: Path, content: bytes) -> int:
            self.touch()
            raise OSError(28, "No space left on device", str(self))

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match=r"out\.csv cannot be written: No space left"):
            write_export(accuracy_frame(store), file, "csv")
        assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["out.csv"]
        assert file.read_text() == "old"

    def test_a_folder_that_does_not_exist(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot be written: No such file"):
            write_export(accuracy_frame(store), tmp_path / "no" / "out.csv", "csv")


def test_arrays_match_outcomes(store: Store) -> None:
    key = evaluation(eps=0.1).key
    columns = store.columns(key, [3, 7])
    assert [columns.state.dtype, columns.distance.dtype] == [np.int8, np.float32]
    assert [o.state for o in store.outcomes(key, [3, 7])] == columns.state.tolist()
