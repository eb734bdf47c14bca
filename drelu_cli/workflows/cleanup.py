"""`drelu gc`: the store without what nothing refers to."""

from __future__ import annotations

from typing import Any

from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context


def cleanup(
    *, dry_run: bool = False, force: bool = False, context: Context | None = None
) -> dict[str, Any]:
    """Removes half-written files and orphaned results; gives the JSON document of `drelu gc`.

    Args:
        dry_run: remove nothing, only report.
        force: interrupted trainings go too.
        context: the store.

    Raises:
        StoreError: there is no store, or it is damaged.
    """
    with open_store((context or Context()).store, create=False) as store:
        report = store.gc(dry_run=dry_run, force=force)
    return {
        "dry_run": report.dry_run,
        "temporary": [str(path) for path in report.temporary],
        "folders": [str(path) for path in report.folders],
        "evaluations": list(report.evaluations),
        "resumable": [str(path) for path in report.resumable],
        "without_folder": list(report.without_folder),
        "freed": report.freed,
    }
