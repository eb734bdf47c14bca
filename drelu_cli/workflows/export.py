"""`drelu export`: what is stored as csv, json or parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drelu_cli.store.connect import open_store
from drelu_cli.store.frames import export_frame, write_export
from drelu_cli.workflows.context import Context


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote.

    Attributes:
        what: outcomes, evaluations, models, examinations or certificates.
        out: the file, or None.
        text: the text, where there is no file and text was asked for.
        rows: number of rows.
        items: the rows as plain data, where there is neither file nor text.
    """

    what: str
    out: Path | None
    text: str | None
    rows: int
    items: list[dict[str, Any]] | None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu export`."""
        written = None if self.out is None else str(self.out)
        return {"what": self.what, "out": written, "rows": self.rows, "items": self.items}


def export(
    what: str = "outcomes",
    format_: str = "csv",
    *,
    out: Path | None = None,
    to_text: bool = True,
    context: Context | None = None,
) -> ExportReport:
    """Everything stored of one kind.

    Args:
        what: outcomes, evaluations, models, examinations or certificates.
        format_: csv, json or parquet.
        out: the file; None gives the text back.
        to_text: False gives plain rows back instead of text.
        context: the store.

    Raises:
        DreluError: no store, unknown kind or format, parquet without pyarrow or without a file.
    """
    with open_store((context or Context()).store, create=False) as store:
        frame = export_frame(store, what)
    if out is None and not to_text:
        items = json.loads(write_export(frame, None, "json") or "[]")
        return ExportReport(what, None, None, len(frame), items)
    return ExportReport(what, out, write_export(frame, out, format_), len(frame), None)
