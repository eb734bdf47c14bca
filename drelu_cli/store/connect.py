"""Opening a store: the one place that connects to SQLite."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from drelu_cli.core.errors import StoreError
from drelu_cli.store.archive import Store
from drelu_cli.store.database import BUSY_SECONDS, Database, faults_named
from drelu_cli.store.migrations import migrate, schema_version

__all__ = ["FILE_NAME", "Store", "open_store"]

FILE_NAME = "drelu.sqlite"


def open_store(root: Path, *, create: bool = True) -> Store:
    """The store in the folder `root`.

    Args:
        root: the folder; made where it is missing.
        create: False refuses to make a new store.

    Raises:
        StoreError: no store and `create` is False; a folder that cannot be written; a file that
            is damaged, not a store, or of a newer version. Nothing is overwritten then.
    """
    file = root / FILE_NAME
    if not create and not file.is_file():
        raise StoreError(
            f"there is no store in {root}",
            hint="`drelu train` makes one; --store DIR or DRELU_STORE names another folder",
        )
    try:
        (root / "models").mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(
            f"the store's folder {root} cannot be made: {problem.strerror}",
            hint="name another folder with --store or DRELU_STORE",
        ) from problem
    with faults_named(file):
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            return Store(root, _prepared(Database(file, connection)))
        except BaseException:
            connection.close()
            raise


def _prepared(database: Database) -> Database:
    """Settings of the connection and the newest schema; a foreign file stays as it is."""
    connection = database.connection
    connection.row_factory = sqlite3.Row
    if schema_version(database) == 0:
        # Only an empty file can take this; `gc` gives pages back without rewriting the file.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _write_ahead(database)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(database)
    return database


def _write_ahead(database: Database) -> None:
    """Switches to write-ahead logging.

    The switch of a new file needs it exclusively, and SQLite does not wait for that by itself:
    several processes starting on one empty folder are the usual case of a cluster.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = str(database.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as problem:
            busy = problem.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode.lower() != "wal":
            raise StoreError(
                f"{database.file}: this file system does not allow write-ahead logging",
                hint="put the store on a local disk with --store or DRELU_STORE",
            )
        return
