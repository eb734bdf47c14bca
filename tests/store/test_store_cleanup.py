from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_samples import evaluation, model, outcome

from drelu_cli.core.errors import StoreError, UnknownName
from drelu_cli.store import cleanup
from drelu_cli.store.archive import Store
from drelu_cli.store.connect import open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "runs") as opened:
        yield opened


def written(path: Path, size: int, *, hours: float = 2.0) -> Path:
    """A file of `size` bytes, and its folder, last touched so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - 3600 * hours
    for touched in (path, path.parent):
        os.utime(touched, (then, then))
    return path


def registered(store: Store, name: str) -> str:
    """A trained model with its file and one evaluation."""
    record = store.add_model(model(name))
    written(store.model_dir(record.key) / "weights.safetensors", 100)
    store.add_outcomes(evaluation(record), [outcome(n) for n in range(50)], seconds=1)
    return record.key


def test_a_tidy_store_loses_nothing(store: Store) -> None:
    key = registered(store, "one")
    report = store.gc(dry_run=False)
    assert report == cleanup.GcReport(False, (), (), (), (), (), 0)
    assert (store.model_dir(key) / "weights.safetensors").exists()
    assert store.check() == 50


def test_what_nothing_refers_to_goes(store: Store) -> None:
    key = registered(store, "one")
    folder = written(store.model_dir("dead") / "history.csv", 30).parent
    in_folder = written(folder / ".weights.safetensors.tmp-12", 5)
    temporary = written(store.model_dir(key) / ".recipe.toml.tmp-7", 20)
    lost = evaluation(model("gone"))
    store.add_outcomes(lost, [outcome(n, clean_pred=9) for n in range(60)], seconds=1)
    store.add_finding(model("gone").key, "range", "x")

    planned = store.gc(dry_run=True)
    assert planned.temporary == (temporary,)
    assert planned.folders == (folder,)
    assert planned.evaluations == (lost.key,)
    assert planned.freed > 55
    assert in_folder.exists()
    assert temporary.exists()
    assert len(store.evaluations()) == 2

    done = store.gc(dry_run=False)
    assert (done.temporary, done.folders, done.evaluations) == (
        (temporary,),
        (folder,),
        (lost.key,),
    )
    assert done.freed == planned.freed
    assert not folder.exists()
    assert not temporary.exists()
    assert [found.evaluation.model_key for found in store.evaluations()] == [key]
    assert store.findings(model("gone").key) == []
    assert store._database.rows("SELECT count(*) FROM shared")[0][0] == 2
    assert store.check() == 50
    assert store.gc(dry_run=True).freed == 0


def test_evaluations_of_replaced_weights_go(store: Store) -> None:
    registered(store, "one")
    store.add_model(model("one", weights_digest="f" * 64))
    assert len(store.gc(dry_run=False).evaluations) == 1
    assert store.evaluations() == []


def test_what_was_touched_lately_may_be_in_use(store: Store) -> None:
    fresh = written(store.model_dir("fresh") / "history.csv", 30, hours=0.5)
    temporary = written(store.root / ".table.tmp-1", 30, hours=0.5)
    old_folder_new_file = written(store.model_dir("training") / "history.csv", 30, hours=0.0)
    os.utime(old_folder_new_file.parent, (0, 0))
    report = store.gc(dry_run=False)
    assert (report.folders, report.temporary) == ((), ())
    assert fresh.exists()
    assert temporary.exists()
    assert old_folder_new_file.exists()


def test_an_interrupted_training_stays_unless_forced(store: Store) -> None:
    folder = written(store.model_dir("half") / "resume.pt", 40).parent
    report = store.gc(dry_run=False)
    assert (report.resumable, report.folders) == ((folder,), ())
    assert folder.exists()
    report = store.gc(dry_run=False, force=True)
    assert (report.resumable, report.folders, report.freed) == ((), (folder,), 40)
    assert not folder.exists()


def test_models_without_their_folder_are_reported(store: Store) -> None:
    store.add_model(model("trained"))
    store.add_model(model("outside", source="file"))
    assert store.gc(dry_run=False).without_folder == ("trained",)
    assert len(store.models()) == 2


def test_a_removed_model_takes_everything_with_it(store: Store) -> None:
    key, other = registered(store, "one"), registered(store, "two")
    store.add_finding(key, "range", "x")
    assert store.remove_model(key) > 100
    assert [found.key for found in store.models()] == [other]
    assert [found.evaluation.model_key for found in store.evaluations()] == [other]
    assert store.findings(key) == []
    assert not store.model_dir(key).exists()
    # The sample list is shared with the other model's evaluation and stays.
    assert store.check() == 50
    with pytest.raises(UnknownName):
        store.remove_model(key)


def test_a_model_without_files_can_be_removed(store: Store) -> None:
    record = store.add_model(model("outside", source="file"))
    assert store.remove_model(record.key) == 0
    assert store.models() == []


def test_the_file_shrinks(store: Store) -> None:
    key = registered(store, "one")
    for seed in range(1, 60):
        outcomes = [outcome(n, clean_pred=(n * n + seed) % 999) for n in range(1000)]
        store.add_outcomes(evaluation(model("one"), seed=seed), outcomes, seconds=1)

    def pages() -> int:
        return int(store._database.rows("PRAGMA page_count")[0][0])

    before = pages()
    store.remove_model(key)
    assert pages() < before / 2


def test_a_file_that_cannot_be_removed_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store.model_dir("dead") / "history.csv", 30)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(cleanup.shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match="dead cannot be removed: Permission denied"):
        store.gc(dry_run=False)
