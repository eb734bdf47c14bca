"""Intervals and paired tests on per-sample outcomes, as sections of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drelu_cli.report.stats_results import p_text
from drelu_cli.report.stats_sections import Grid, Section

SHOWN_AT_MOST = 40


def outcome_sections(outcomes: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Section]:
    """Sections for `{"intervals": [...], "mcnemar": [...]}`; empty parts are left out."""
    sections = []
    if outcomes["intervals"]:
        rows = [
            (
                f"{entry['dataset']} / {entry['model']} / {entry['attack']}",
                str(entry["training"]),
                f"{entry['accuracy']:.2f}",
                f"{entry['ci95'][0]:.2f} to {entry['ci95'][1]:.2f}",
                str(entry["seeds"]),
                str(entry["method"]),
            )
            for entry in outcomes["intervals"]
        ]
        heads = ("cell", "training", "accuracy", "95 % interval", "seeds", "method")
        sections.append(_section("Intervals over test samples", heads, rows, (0, 1, 5)))
    if outcomes["mcnemar"]:
        pair_rows = [
            (
                f"{entry['dataset']} / {entry['model']} / {entry['attack']}",
                f"{entry['a']} - {entry['b']}",
                str(entry["seed"]),
                str(entry["only_a"]),
                str(entry["only_b"]),
                p_text(entry["p"]),
                p_text(entry["p_holm"]),
            )
            for entry in outcomes["mcnemar"]
        ]
        titles = ("cell", "pair a - b", "seed", "only a", "only b", "p", "Holm p")
        sections.append(_section("Paired samples: exact McNemar tests", titles, pair_rows, (0, 1)))
    return sections


def _section(
    title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], words: tuple[int, ...]
) -> Section:
    more = len(rows) - SHOWN_AT_MOST
    note = (f"The first {SHOWN_AT_MOST} of {len(rows)}; all are in --json.",) if more > 0 else ()
    return Section(title, note, Grid(heads, tuple(rows[:SHOWN_AT_MOST]), words))
