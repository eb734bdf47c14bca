"""What can go: files of killed processes, folders and evaluations that nothing refers to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drelu_cli.core.errors import StoreError
from drelu_cli.store.database import Database
from drelu_cli.store.registry import model_by_key

# A file or folder that was touched within this time may belong to a running process.
SECONDS_AT_REST = 3600.0
RESUME_FILE = "resume.pt"
_TEMPORARY = "*.tmp*"

# An evaluation is of no use without the very weights that it attacked.
_ORPHANS = """
    SELECT evaluation.id FROM evaluation LEFT JOIN model
    ON model.key = evaluation.model_key AND model.weights_digest = evaluation.weights_digest
    WHERE model.id IS NULL
"""
# Nor is what the court found or proved.
_COURT = ("examination", "certificate")
_OF_NOTHING = """
    NOT EXISTS (SELECT 1 FROM model WHERE model.key = {table}.model_key
                AND model.weights_digest = {table}.weights_digest)
"""
_BLOB_BYTES = "length(states) + length(adversarial) + length(distances) + length(passes)"
_UNSHARED = """
    SELECT id FROM shared
    WHERE id NOT IN (SELECT samples FROM chunk) AND id NOT IN (SELECT clean FROM chunk)
"""


@dataclass(frozen=True, slots=True)
class GcReport:
    """What `gc` removed, or would remove.

    Attributes:
        dry_run: nothing was removed.
        temporary: half-written files of processes that are gone.
        folders: model folders without a registered model.
        evaluations: keys of evaluations whose model or weights are gone.
        resumable: folders that are kept: an interrupted training goes on from there.
        without_folder: names of trained models whose folder is gone; only reported.
        freed: bytes of files and blobs.
    """

    dry_run: bool
    temporary: tuple[Path, ...]
    folders: tuple[Path, ...]
    evaluations: tuple[str, ...]
    resumable: tuple[Path, ...]
    without_folder: tuple[str, ...]
    freed: int


def gc(database: Database, root: Path, *, dry_run: bool, force: bool) -> GcReport:
    """Finds what nothing refers to, and removes it unless `dry_run`.

    Files and folders go only when nothing touched them for an hour. A folder with `resume.pt`
    is an interrupted training and stays, unless `force`.

    Raises:
        StoreError: a file that cannot be removed.
    """
    idle = [folder for folder in _unregistered(database, root) if _at_rest(folder)]
    resumable = tuple(f for f in idle if (f / RESUME_FILE).exists() and not force)
    folders = tuple(f for f in idle if f not in resumable)
    temporary = tuple(
        file
        for file in sorted(root.rglob(_TEMPORARY))
        if file.is_file() and _at_rest(file) and not any(f in file.parents for f in folders)
    )
    freed = sum(_size(path) for path in (*temporary, *folders))
    with database.transaction():
        keys, blobs = _drop_evaluations(database, _ORPHANS, dry_run=dry_run)
        if not dry_run:
            database.execute("DELETE FROM finding WHERE model_key NOT IN (SELECT key FROM model)")
            for table in _COURT:
                database.execute(f"DELETE FROM {table} WHERE {_OF_NOTHING.format(table=table)}")
    if not dry_run:
        for path in (*temporary, *folders):
            _remove(path)
        database.shrink()
    return GcReport(
        dry_run, temporary, folders, keys, resumable, _without_folder(database, root), freed + blobs
    )


def remove_model(database: Database, key: str, folder: Path) -> int:
    """Removes one model with all that belongs to it; gives the bytes freed."""
    with database.transaction():
        model_by_key(database, key)
        database.execute("DELETE FROM model WHERE key = ?", key)
        for table in ("finding", *_COURT):
            database.execute(f"DELETE FROM {table} WHERE model_key = ?", key)
        orphans = "SELECT id FROM evaluation WHERE model_key = ?"
        _, blobs = _drop_evaluations(database, orphans, key)
    # The row goes first: a folder without a row is found by gc, a row without weights misleads.
    freed = _size(folder) if folder.exists() else 0
    _remove(folder)
    database.shrink()
    return freed + blobs


def check_file(database: Database) -> None:
    """SQLite's own check of the whole file.

    Raises:
        StoreError: with the first problem found.
    """
    first = database.rows("PRAGMA integrity_check")[0][0]
    if first != "ok":
        raise StoreError(
            f"{database.file}: the store is damaged: {first}", hint="put a copy in its place"
        )


def _drop_evaluations(
    database: Database, which: str, *values: str, dry_run: bool = False
) -> tuple[tuple[str, ...], int]:
    """Keys and blob bytes of the evaluations that `which` selects; deleted unless `dry_run`."""
    rows = database.rows(f"SELECT key FROM evaluation WHERE id IN ({which}) ORDER BY id", *values)
    (blobs,) = database.rows(
        f"SELECT coalesce(sum({_BLOB_BYTES}), 0) FROM chunk WHERE evaluation IN ({which})", *values
    )
    if not dry_run:
        database.execute(f"DELETE FROM evaluation WHERE id IN ({which})", *values)
        database.execute(f"DELETE FROM shared WHERE id IN ({_UNSHARED})")
    return tuple(row["key"] for row in rows), int(blobs[0])


def _unregistered(database: Database, root: Path) -> list[Path]:
    known = {row["key"] for row in database.rows("SELECT key FROM model")}
    return [f for f in sorted((root / "models").iterdir()) if f.is_dir() and f.name not in known]


def _without_folder(database: Database, root: Path) -> tuple[str, ...]:
    rows = database.rows("SELECT key, name FROM model WHERE source = 'trained' ORDER BY id")
    return tuple(row["name"] for row in rows if not (root / "models" / row["key"]).is_dir())


def _files(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        yield from path.rglob("*")


def _at_rest(path: Path) -> bool:
    newest = max(_stat(file)[0] for file in _files(path))
    return time.time() - newest > SECONDS_AT_REST


def _size(path: Path) -> int:
    return sum(_stat(file)[1] for file in _files(path) if not file.is_dir())


def _stat(file: Path) -> tuple[float, int]:
    """Time of change and size; a file that vanishes meanwhile counts as changed just now."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return time.time(), 0
    return found.st_mtime, found.st_size


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as problem:
        raise StoreError(
            f"{path} cannot be removed: {problem.strerror}", hint="check the folder's permissions"
        ) from problem
