"""Certificates in words: what is proven, and a proof that an attack contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drelu_cli.report.layout import attack_name

_BUG = "a bug of drelu: please report it with what `drelu doctor --json` prints"
_SHOWN = 5


def certificate_line(entry: Mapping[str, Any]) -> str | None:
    """`certified 941 of 1,000 (94.1 %) by CROWN at linf 0.1`, or None without a certificate."""
    found, threat = entry["certificate"], entry["threat"]
    if found is None:
        return None
    share = 100 * found["proven"] / found["samples"]
    return (
        f"certified {found['proven']:,} of {found['samples']:,} ({share:.1f} %) by "
        f"{found['method'].upper()} at {threat['norm']} {threat['eps']:g}"
    )


def violation_lines(violations: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence per certificate and attack that contradict each other."""
    return [_violation(one) for one in violations]


def _violation(one: Mapping[str, Any]) -> str:
    samples = one["samples"]
    named = ", ".join(map(str, samples[:_SHOWN]))
    more = f" and {len(samples) - _SHOWN} more" if len(samples) > _SHOWN else ""
    by = "" if one["engine"] == "drelu" else f" of {one['engine']}"
    return (
        f"certified, yet broken: {one['model']}, sample {named}{more}: proven by "
        f"{one['method'].upper()} at {one['norm']} {one['certified_eps']:g}, broken by "
        f"{attack_name(one['attack'])}{by} at {one['norm']} {one['eps']:g}; {_BUG}"
    )
