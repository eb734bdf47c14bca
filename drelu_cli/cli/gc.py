"""`drelu gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also remove interrupted trainings.")
    ] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove", metavar="MODEL", help="Remove a model and its results; repeatable."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Remove what nothing refers to any more: half-written files, orphaned results.

    Examples:
      drelu gc --dry-run
      drelu gc --remove digits-dense-relu-s0
    """
    from drelu_cli.workflows.cleanup import cleanup
    from drelu_cli.workflows.context import Context

    output = Output("gc", json=json)
    context = Context(store=store)
    document = cleanup(dry_run=dry_run, force=force, remove=remove or (), context=context)
    verb = "would be removed" if dry_run else "removed"
    output.human(
        f"{verb}: {len(document['temporary'])} half-written files, "
        f"{len(document['folders'])} model folders, {len(document['evaluations'])} evaluations; "
        f"{document['freed'] / 1e6:.2f} MB"
    )
    for name in document["removed"]:
        output.human(f"{verb}: {name} and its results")
    for folder in document["resumable"]:
        output.human(f"kept, an interrupted training: {folder} (--force removes it)")
    for name in document["without_folder"]:
        output.human(f"warning: the files of {name} are gone; its results are kept")
    output.document(document)
