"""Findings as a report that a reviewer could paste, and as the JSON document of `drelu audit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from drelu_cli.report.stats_sections import Grid, Section

if TYPE_CHECKING:
    from drelu_cli.stats.audit.findings import Finding
    from drelu_cli.stats.claims import ClaimResult

# Why each code matters, one sentence; a third party's rule speaks through its messages.
MEANING = {
    "rank-mismatch": "The printed rank is none that the printed value can have; tests and sums of "
    "ranks taken from the table are wrong.",
    "tie-printed-as-order": "Equal values share the mean of their ranks; an order between them is "
    "invented.",
    "adversarial-above-clean": "An attack may return the clean image, so accuracy under attack "
    "cannot exceed clean accuracy (Carlini et al. 2019).",
    "iterative-weaker-than-single-step": "PGD contains FGSM; where it does worse, gradients are "
    "masked or PGD is set up badly (Athalye et al. 2018).",
    "blackbox-stronger-than-whitebox": "An attack without gradients beats all attacks with "
    "gradients: the gradients are masked (Athalye et al. 2018; Carlini et al. 2019).",
    "same-configuration-differs": "Clean accuracy does not depend on the attack; two values mean "
    "other nets or a misprint.",
    "off-grid": "Most cells are means of three trainings over 1,000 images; these are not.",
    "correlated-blocks": "Columns of one network are repeated measurements (Hurlbert 1984); tests "
    "that count them as independent blocks give p-values that are too small.",
    "underpowered": "With so few networks not even unanimous networks reach significance.",
    "impossible-at-bound": "Within the bound lies an image of another class for every test image, "
    "so a working attack leaves nothing.",
}


def audit_document(
    source: str,
    cells: int,
    findings: Sequence[Finding],
    counts: Mapping[str, int],
    not_checked: Mapping[str, str],
    claims: Sequence[ClaimResult],
) -> dict[str, Any]:
    """Everything below the keys drelu, command and schema."""
    return {
        "source": source,
        "cells": cells,
        "findings": [asdict(finding) for finding in findings],
        "counts": dict(counts),
        "not_checked": dict(not_checked),
        "claims": [
            {
                "name": result.claim.name,
                "statistic": result.claim.statistic,
                "printed": result.claim.printed,
                "recomputed": result.recomputed,
                "verdict": result.verdict,
                "variant": result.variant,
                "note": result.claim.note or None,
            }
            for result in claims
        ],
    }


def audit_sections(
    source: str,
    cells: int,
    findings: Sequence[Finding],
    counts: Mapping[str, int],
    not_checked: Mapping[str, str],
    claims: Sequence[ClaimResult],
) -> list[Section]:
    """Summary, one section per code with findings, then the claims."""
    sections = [_summary(source, cells, counts, not_checked)]
    for code in counts:
        own = [finding for finding in findings if finding.code == code]
        if own:
            sections.append(_code_section(code, own))
    if claims:
        sections.append(_claims_section(claims))
    return sections


def _summary(
    source: str, cells: int, counts: Mapping[str, int], not_checked: Mapping[str, str]
) -> Section:
    total = sum(counts.values())
    paragraphs = [f"{source}: {cells} cells, {total} finding(s). Values in percent."]
    paragraphs += [f"Not checked: {code}, since {reason}." for code, reason in not_checked.items()]
    rows = tuple((code, str(count)) for code, count in counts.items())
    return Section("Audit", tuple(paragraphs), Grid(("code", "findings"), rows))


def _code_section(code: str, findings: Sequence[Finding]) -> Section:
    rows = tuple(
        (_place(finding), _number(finding.printed), _number(finding.recomputed), finding.message)
        for finding in findings
    )
    severity = findings[0].severity
    meaning = MEANING.get(code)
    return Section(
        f"{code} ({severity}, {len(findings)})",
        () if meaning is None else (meaning,),
        Grid(("cell", "printed", "recomputed", "why"), rows, words=(0, 3), brief=(0, 3)),
    )


def _place(finding: Finding) -> str:
    table = f"table {finding.table}" if isinstance(finding.table, int) else finding.table
    parts = (table, finding.dataset, finding.model, finding.training, finding.attack)
    return " / ".join(str(part) for part in parts if part)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if value == round(value, 1) and abs(value) < 10 else f"{value:.2f}"


def _claims_section(claims: Sequence[ClaimResult]) -> Section:
    rows = tuple(
        (
            result.claim.name,
            result.claim.printed,
            "-" if result.recomputed is None else f"{result.recomputed:.4f}",
            result.verdict,
            _variant(result),
        )
        for result in claims
    )
    refuted = sum(result.verdict == "refuted" for result in claims)
    return Section(
        "Statistics printed in the text",
        (
            f"{len(claims)} claims, {refuted} refuted. Recomputed: blocks = cells, all columns, "
            "ranks recomputed, at the stated alpha.",
        ),
        Grid(("claim", "printed", "recomputed", "verdict", "what gives it"), rows, (0, 3, 4)),
    )


def _variant(result: ClaimResult) -> str:
    if result.variant is not None:
        return result.variant
    return "nothing tried" + (f"; {result.claim.note}" if result.claim.note else "")
