"""One SQLite connection with its transactions, and what its errors mean to a user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import BadValue, DreluError, StoreError

BUSY_SECONDS = 30.0

_MEANINGS = {
    sqlite3.SQLITE_FULL: (
        "no space left for the store",
        "free some space and repeat the command: what was finished is kept",
    ),
    sqlite3.SQLITE_IOERR: (
        "reading or writing the store failed",
        "check the disk and the space left on it; network file systems are not supported",
    ),
    sqlite3.SQLITE_BUSY: (
        f"another process has been holding the store for {BUSY_SECONDS:.0f} seconds",
        "repeat the command when the other process has finished",
    ),
    sqlite3.SQLITE_READONLY: ("the store cannot be written", "check the folder's permissions"),
    sqlite3.SQLITE_PERM: ("the store cannot be written", "check the folder's permissions"),
    sqlite3.SQLITE_CANTOPEN: (
        "the store cannot be opened",
        "check that its folder exists and can be written",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the store is damaged",
        "nothing was changed; put a copy in its place, or name another folder with --store",
    ),
    sqlite3.SQLITE_NOTADB: (
        "this file is not a drelu store, or it is damaged",
        "nothing was changed; move it away, or name another folder with --store",
    ),
}


def meaning(problem: sqlite3.Error | OverflowError, file: Path) -> DreluError:
    """The error for the user behind an error of SQLite on `file`."""
    if isinstance(problem, OverflowError):
        return BadValue(f"{file}: a whole number does not fit into 64 bits", hint="seeds: < 2^63")
    # Extended codes carry the primary code in their low byte.
    code = (getattr(problem, "sqlite_errorcode", 0) or 0) & 0xFF
    message, hint = _MEANINGS.get(code, (str(problem), ""))
    return StoreError(f"{file}: {message}", hint=hint)


@contextmanager
def faults_named(file: Path) -> Iterator[None]:
    """SQLite's errors inside the block leave it as errors that name `file`.

    Raises:
        StoreError: damaged, full, locked or not writable.
        BadValue: a number that SQLite cannot hold.
    """
    try:
        yield
    except (sqlite3.Error, OverflowError) as problem:
        raise meaning(problem, file) from problem


class Database:
    """A connection in autocommit mode; what belongs together goes through `transaction`."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self.connection = connection

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of one statement."""
        with faults_named(self.file):
            return self.connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of one statement, or None."""
        with faults_named(self.file):
            found: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
        return found

    def execute(self, sql: str, *values: Any) -> None:
        """One statement that gives nothing back."""
        self.rows(sql, *values)

    def insert(self, table: str, values: dict[str, Any]) -> int:
        """Inserts one row and gives its id; `table` and the column names are ours."""
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        with faults_named(self.file):
            cursor = self.connection.execute(
                f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
            )
        return int(cursor.lastrowid or 0)

    def shrink(self) -> None:
        """Gives free pages back to the disk; needs no lock beyond that of a write."""
        with faults_named(self.file):
            # `execute` steps this statement once, which frees a single page.
            self.connection.executescript("PRAGMA incremental_vacuum")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block or nothing of it.

        The write lock is taken at the start: a transaction that reads first and writes later
        could find that another process has written in between, and would have to fail. Inside
        another transaction the block becomes a part of that one.
        """
        within = self.connection.in_transaction
        if within:
            yield
            return
        with faults_named(self.file):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
