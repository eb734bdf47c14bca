from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from store_samples import evaluation, model, outcome

from drelu_cli.core.errors import StoreError
from drelu_cli.store import connect, database, migrations
from drelu_cli.store.connect import FILE_NAME, open_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a small, closed store."""
    with open_store(tmp_path) as store:
        store.add_model(model())
        store.add_outcomes(evaluation(), [outcome(n) for n in range(1000)], seconds=1)
    return tmp_path


def refuses(root: Path, message: str) -> None:
    """Opening fails with `message`, names the file and leaves its bytes alone."""
    file = root / FILE_NAME
    before = file.read_bytes()
    with pytest.raises(StoreError, match=message) as caught:
        open_store(root)
    assert str(file) in caught.value.message
    assert "nothing was changed" in caught.value.hint
    assert file.read_bytes() == before


def test_no_store_where_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store in") as caught:
        open_store(tmp_path / "runs", create=False)
    assert "drelu train" in caught.value.hint
    assert not (tmp_path / "runs").exists()


def test_a_newer_store_is_refused(root: Path) -> None:
    with sqlite3.connect(root / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    refuses(root, "newer drelu .schema 99")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("CREATE TABLE recipes (cake TEXT)")
    connection.close()
    refuses(tmp_path, "was not written by drelu")


@pytest.mark.parametrize(
    "content", [b"not a database at all, but text" * 40, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    refuses(tmp_path, "not a drelu store, or it is damaged|the store is damaged")


def test_a_truncated_store_is_named(root: Path) -> None:
    file = root / FILE_NAME
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="the store is damaged") as caught:
        open_store(root).check()
    assert str(file) in caught.value.message


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    # What a process leaves that was killed before its first transaction.
    (tmp_path / FILE_NAME).touch()
    with open_store(tmp_path) as store:
        assert store.models() == []


@pytest.mark.parametrize("column", ["states", "adversarial", "distances", "passes"])
def test_damaged_outcomes_name_their_evaluation(root: Path, column: str) -> None:
    connection = sqlite3.connect(root / FILE_NAME)
    (blob,) = connection.execute(f"SELECT {column} FROM chunk").fetchone()
    connection.execute(f"UPDATE chunk SET {column} = ?", (blob[:-1] + bytes([blob[-1] ^ 1]),))
    connection.commit()
    connection.close()
    with open_store(root) as store:
        with pytest.raises(StoreError, match=f"damaged: {evaluation().key} {column}"):
            store.outcomes(evaluation().key)
        with pytest.raises(StoreError, match="damaged"):
            store.check()


def test_an_evaluation_that_was_edited_is_named(root: Path) -> None:
    connection = sqlite3.connect(root / FILE_NAME)
    connection.execute("UPDATE evaluation SET eps = 0.5")
    connection.commit()
    connection.close()
    with open_store(root) as store, pytest.raises(StoreError, match="does not match its key"):
        store.evaluations()


@pytest.mark.parametrize("place", ["models", "runs"])
def test_a_file_in_the_way_of_the_folder(tmp_path: Path, place: str) -> None:
    root = tmp_path / "runs"
    if place == "models":
        root.mkdir()
    (root if place == "runs" else root / "models").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        open_store(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be made: Permission denied"):
            open_store(tmp_path / "runs")
    finally:
        tmp_path.chmod(0o700)


def test_a_store_that_cannot_be_written(root: Path) -> None:
    with open_store(root) as store:
        store._database.connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="the store cannot be written") as caught:
            store.add_model(model("other"))
    assert str(root / FILE_NAME) in caught.value.message


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StoreError, match="the store cannot be opened"):
        open_store(tmp_path)


def test_a_full_disk_keeps_what_was_finished(root: Path) -> None:
    with open_store(root) as store:
        connection = store._database.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        done = 0

        def fill() -> None:
            nonlocal done
            for done in range(100):
                outcomes = [outcome(n, clean_pred=(n * n + done) % 999) for n in range(1000)]
                store.add_outcomes(evaluation(seed=done + 1), outcomes, seconds=1)

        with pytest.raises(StoreError, match="no space left") as caught:
            fill()
        assert "what was finished is kept" in caught.value.hint
        stored = store.evaluations()
        assert [one.evaluation.seed for one in stored] == list(range(done + 1))
        assert store.check() == 1000 * (done + 1)
        # The connection goes on working when there is room again.
        connection.execute(f"PRAGMA max_page_count = {pages + 100}")
        store.add_outcomes(evaluation(seed=500), [outcome(0)], seconds=1)


def test_a_lock_that_is_never_released(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "BUSY_SECONDS", 0.05)
    with open_store(root) as holder, holder._database.transaction(), open_store(root) as waiting:
        with pytest.raises(StoreError, match="another process has been holding the store"):
            waiting.add_model(model("other"))
        assert len(waiting.models()) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (sqlite3.SQLITE_IOERR_WRITE, "reading or writing the store failed"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "the store cannot be written"),
        (sqlite3.SQLITE_CORRUPT_INDEX, "the store is damaged"),
        (sqlite3.SQLITE_MISUSE, "bad parameter"),
    ],
)
def test_extended_codes_mean_what_their_class_means(code: int, message: str) -> None:
    problem = sqlite3.OperationalError("bad parameter or other API misuse")
    problem.sqlite_errorcode = code
    assert message in database.meaning(problem, Path("drelu.sqlite")).message


class TestMigrations:
    def test_a_new_store_has_the_newest_schema(self, root: Path) -> None:
        with open_store(root) as store:
            assert migrations.schema_version(store._database) == len(migrations.MIGRATIONS)

    def test_steps_run_once_and_in_order(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = (
            *migrations.MIGRATIONS,
            ("ALTER TABLE model ADD COLUMN note TEXT", "UPDATE model SET note = 'two'"),
            ("UPDATE model SET note = note || ' three'",),
        )
        monkeypatch.setattr(migrations, "MIGRATIONS", steps)
        for _ in range(2):
            with open_store(root) as store:
                assert store._database.rows("SELECT note FROM model")[0][0] == "two three"
                assert store._database.rows("PRAGMA user_version")[0][0] == len(steps)

    def test_a_step_that_fails_changes_nothing(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = ("ALTER TABLE model ADD COLUMN note TEXT", "UPDATE missing SET note = 1")
        before = len(migrations.MIGRATIONS)
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, bad))
            with pytest.raises(StoreError, match="no such table: missing"):
                open_store(root)
        with open_store(root) as store:
            assert migrations.schema_version(store._database) == before
            assert store.models() == [model()]
            columns = store._database.rows("PRAGMA table_info(model)")
            assert "note" not in [column["name"] for column in columns]


def test_settings_that_keep_acknowledged_results(root: Path) -> None:
    with open_store(root) as store:

        def settings(name: str) -> object:
            return store._database.rows(f"PRAGMA {name}")[0][0]

        assert settings("journal_mode") == "wal"
        assert settings("synchronous") == 2  # FULL
        assert settings("foreign_keys") == 1
        assert settings("busy_timeout") == 30_000
        assert settings("auto_vacuum") == 2  # INCREMENTAL
