"""The schema, as numbered steps; `user_version` says which of them a file has seen.

A step is never edited once released: a change is a new step, with an old database of the
version before it as a test fixture.
"""

from __future__ import annotations

from drelu_cli.core.errors import StoreError
from drelu_cli.store.database import Database

APPLICATION_ID = 0x4452454C  # "DREL": tells our files from other programs' SQLite files

_VERSION_1 = (
    """CREATE TABLE model (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE,
        label TEXT NOT NULL,
        source TEXT NOT NULL,
        dataset TEXT NOT NULL,
        dataset_digest TEXT NOT NULL,
        architecture TEXT NOT NULL,
        activation TEXT NOT NULL,
        placement TEXT NOT NULL,
        scheme TEXT NOT NULL,
        lambda REAL,
        cap REAL,
        seed INTEGER,
        weights_digest TEXT NOT NULL,
        recipe TEXT NOT NULL,
        summary TEXT NOT NULL,
        provenance TEXT NOT NULL,
        created TEXT NOT NULL
    )""",
    """CREATE TABLE evaluation (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        model_key TEXT NOT NULL,
        weights_digest TEXT NOT NULL,
        dataset TEXT NOT NULL,
        dataset_digest TEXT NOT NULL,
        attack TEXT NOT NULL,
        given TEXT NOT NULL,
        effective TEXT NOT NULL,
        identity TEXT NOT NULL,
        version INTEGER NOT NULL,
        norm TEXT NOT NULL,
        eps REAL NOT NULL,
        seed INTEGER NOT NULL,
        engine TEXT NOT NULL,
        cascade TEXT,
        warnings TEXT NOT NULL,
        provenance TEXT NOT NULL,
        created TEXT NOT NULL
    )""",
    "CREATE INDEX evaluation_of_model ON evaluation (model_key)",
    # Sample lists and clean predictions repeat from attack to attack: one copy of each.
    """CREATE TABLE shared (
        id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        content BLOB NOT NULL
    )""",
    """CREATE TABLE chunk (
        id INTEGER PRIMARY KEY,
        evaluation INTEGER NOT NULL REFERENCES evaluation (id) ON DELETE CASCADE,
        size INTEGER NOT NULL,
        seconds REAL NOT NULL,
        samples INTEGER NOT NULL REFERENCES shared (id),
        clean INTEGER NOT NULL REFERENCES shared (id),
        states BLOB NOT NULL,
        adversarial BLOB NOT NULL,
        distances BLOB NOT NULL,
        passes BLOB NOT NULL,
        created TEXT NOT NULL
    )""",
    "CREATE INDEX chunk_of_evaluation ON chunk (evaluation)",
    "CREATE INDEX chunk_samples ON chunk (samples)",
    "CREATE INDEX chunk_clean ON chunk (clean)",
    """CREATE TABLE sample_order (
        dataset_digest TEXT PRIMARY KEY,
        samples BLOB NOT NULL
    )""",
    """CREATE TABLE finding (
        id INTEGER PRIMARY KEY,
        model_key TEXT NOT NULL,
        code TEXT NOT NULL,
        detail TEXT NOT NULL,
        created TEXT NOT NULL,
        UNIQUE (model_key, code, detail)
    )""",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

# The court: what it found, and what is proven.
_VERSION_2 = (
    """CREATE TABLE examination (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        model_key TEXT NOT NULL,
        weights_digest TEXT NOT NULL,
        dataset_digest TEXT NOT NULL,
        norm TEXT NOT NULL,
        eps REAL NOT NULL,
        seed INTEGER NOT NULL,
        samples TEXT NOT NULL,
        count INTEGER NOT NULL,
        word TEXT NOT NULL,
        complete INTEGER NOT NULL,
        document TEXT NOT NULL,
        created TEXT NOT NULL
    )""",
    "CREATE INDEX examination_of_model ON examination (model_key)",
    """CREATE TABLE certificate (
        id INTEGER PRIMARY KEY,
        model_key TEXT NOT NULL,
        weights_digest TEXT NOT NULL,
        dataset_digest TEXT NOT NULL,
        norm TEXT NOT NULL,
        eps REAL NOT NULL,
        method TEXT NOT NULL,
        version INTEGER NOT NULL,
        size INTEGER NOT NULL,
        samples BLOB NOT NULL,
        proven BLOB NOT NULL,
        seconds REAL NOT NULL,
        created TEXT NOT NULL
    )""",
    "CREATE INDEX certificate_of_model ON certificate (model_key)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2)


def schema_version(database: Database) -> int:
    """The schema version of an open file; 0 for an empty one. Changes nothing.

    Raises:
        StoreError: another program's database, or a newer version's store.
    """
    version = _pragma(database, "user_version")
    foreign = _pragma(database, "application_id") != APPLICATION_ID
    if foreign and (version or database.row("SELECT name FROM sqlite_master LIMIT 1")):
        raise StoreError(
            f"{database.file}: this database was not written by drelu",
            hint="nothing was changed; name another folder with --store",
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{database.file}: written by a newer drelu (schema {version}, "
            f"this one knows up to {len(MIGRATIONS)})",
            hint="nothing was changed; upgrade drelu-cli, or name another folder with --store",
        )
    return version


def migrate(database: Database) -> None:
    """Brings the file to the newest schema: all missing steps in one transaction, or none."""
    if schema_version(database) == len(MIGRATIONS):
        return
    with database.transaction():
        # Read again under the lock: another process may have migrated meanwhile.
        for step in MIGRATIONS[schema_version(database) :]:
            for statement in step:
                database.connection.execute(statement)
        database.connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _pragma(database: Database, name: str) -> int:
    row = database.row(f"PRAGMA {name}")
    return int(row[0]) if row is not None else 0
