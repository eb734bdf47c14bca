"""`drelu audit`: the rules on a table, and the statistics that its text prints."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drelu_cli.core.errors import BadValue, DataError, UnknownName
from drelu_cli.published import is_published
from drelu_cli.report.audit import audit_document, audit_sections
from drelu_cli.report.stats_sections import FORMATS, WIDTH, check_suffix, render_sections
from drelu_cli.stats.audit import AUDIT_RULES
from drelu_cli.stats.audit.findings import Finding, NotChecked, prepare
from drelu_cli.stats.blocks import cells
from drelu_cli.stats.claim_reading import read_claims
from drelu_cli.stats.claims import ClaimResult, check_claims
from drelu_cli.workflows.files import check_folder, write_atomically
from drelu_cli.workflows.tabular import read_table, select

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class AuditReport:
    """What `audit` found.

    Attributes:
        cells: cells examined.
        findings: in the order of the rules, then of the table.
        counts: findings by code, 0 for a rule that ran and found nothing.
        not_checked: reason by code for the rules that could not run.
        claims: what became of the statistics printed in the text.
        failed: the codes of `fail_on` that were found.
    """

    source: str
    cells: int
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    not_checked: dict[str, str]
    claims: tuple[ClaimResult, ...]
    failed: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu audit`, in percent."""
        return audit_document(
            self.source, self.cells, self.findings, self.counts, self.not_checked, self.claims
        )

    def render(self, suffix: str = ".txt", *, width: int = WIDTH) -> str:
        """The report as `.txt` (at most `width` characters wide), `.md` or `.tex`."""
        sections = audit_sections(
            self.source, self.cells, self.findings, self.counts, self.not_checked, self.claims
        )
        return render_sections(sections, suffix, width=width)


def audit(
    table: str = "published:all",
    *,
    claims: str | Path | None = None,
    fail_on: Sequence[str] = (),
    out: Path | None = None,
) -> AuditReport:
    """The findings of every registered rule on a table.

    Args:
        table: `published:tableN`, `published:all`, or a CSV file (long form). Optional columns
            widen what can be checked: table, printed_rank, norm and eps (L2 bound), data
            (training images).
        claims: TOML file of printed statistics; `none` checks none; None takes the paper's own
            figures for its Table 2.
        fail_on: codes whose presence counts as a failure.
        out: file of the report: .txt, .md or .tex.

    Raises:
        DreluError: an unknown table, code or statistic; a damaged file.
    """
    check_suffix(out, FORMATS, "the report")
    for code in fail_on:
        if code not in AUDIT_RULES:
            raise UnknownName.among("code", code, AUDIT_RULES.names())
    frame = prepare(_table(table), name=table)
    findings: list[Finding] = []
    counts: dict[str, int] = {}
    not_checked: dict[str, str] = {}
    for code in AUDIT_RULES.names():
        try:
            found = AUDIT_RULES.resolve(code)(frame)
        except NotChecked as reason:
            not_checked[code] = str(reason)
            continue
        counts[code] = len(found)
        findings += found
    report = AuditReport(
        source=table,
        cells=len(frame),
        findings=tuple(findings),
        counts=counts,
        not_checked=not_checked,
        claims=tuple(_claims(table, frame, claims)),
        failed=tuple(code for code in dict.fromkeys(fail_on) if counts.get(code, 0)),
    )
    if out is not None:
        check_folder(out)
        write_atomically(out, report.render(out.suffix.lower()))
    return report


def _table(name: str) -> pd.DataFrame:
    if is_published(name):
        from drelu_cli.published.tables import published_table

        return published_table(name)
    return read_table(Path(name))


def _claims(table: str, frame: pd.DataFrame, claims: str | Path | None) -> list[ClaimResult]:
    if claims is None and not is_published(table):
        return []
    if claims == "none":
        return []
    if claims is None:
        from drelu_cli.published.tables import claims_text

        document = tomllib.loads(claims_text())
    else:
        document = _read_toml(Path(claims))
    about = document.get("table")
    if about is not None and is_published(str(about)) and is_published(table):
        number = str(about).removeprefix("published:table")
        if number not in {str(found) for found in frame["table"].unique()}:
            if claims is None:
                return []
            raise BadValue(
                f"{claims} is about {about}, not about {table}",
                hint=f"drelu audit {about} --claims {claims}",
            )
        frame = select(frame, {"table": number})
    return check_claims(frame, read_claims(document, cells(frame).treatments))


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="--claims FILE.toml, or --claims none")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} is not TOML: {problem}", hint="docs/audit.md shows one") from None
