"""`drelu gc`: the store without what nothing refers to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drelu_cli.core.records import ModelRecord
from drelu_cli.store.connect import Store, open_store
from drelu_cli.workflows.context import Context


def cleanup(
    *,
    dry_run: bool = False,
    force: bool = False,
    remove: Sequence[str] = (),
    context: Context | None = None,
) -> dict[str, Any]:
    """Removes half-written files and orphaned results; gives the JSON document of `drelu gc`.

    Args:
        dry_run: remove nothing, only report.
        force: interrupted trainings go too.
        remove: names, labels or key prefixes of models that go with all their results; a
            training's checkpoints go with it.
        context: the store.

    Raises:
        StoreError: there is no store, or it is damaged.
        UnknownName: a model to be removed is not there; nothing is removed then.
    """
    with open_store((context or Context()).store, create=False) as store:
        named = [store.find_model(reference) for reference in remove]
        records = _with_checkpoints(named, store)
        freed = 0 if dry_run else sum(store.remove_model(record.key) for record in records)
        report = store.gc(dry_run=dry_run, force=force)
    return {
        "dry_run": report.dry_run,
        "removed": [record.name for record in records],
        "temporary": [str(path) for path in report.temporary],
        "folders": [str(path) for path in report.folders],
        "evaluations": list(report.evaluations),
        "resumable": [str(path) for path in report.resumable],
        "without_folder": list(report.without_folder),
        "freed": report.freed + freed,
    }


def _with_checkpoints(named: Sequence[ModelRecord], store: Store) -> list[ModelRecord]:
    """The models, each once, and the checkpoints of those that are trainings."""
    keys = {record.key for record in named}
    return [
        record
        for record in store.models()
        if record.key in keys or record.summary.get("parent") in keys
    ]
