"""What `drelu attack` shows: a table per model and threat, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from drelu_cli.core.quantities import part_text
from drelu_cli.core.records import OWN
from drelu_cli.report.certificates import certificate_line
from drelu_cli.report.layout import attack_name, threat_text
from drelu_cli.report.verdicts import verdict_lines


def evaluation_tables(entries: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """A table and a closing sentence per entry of the JSON document."""
    shown: list[RenderableType] = []
    for entry in entries:
        shown += [_table(entry), Text(_closing(entry))]
    return shown


def warning_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was noticed about the models, each once."""
    details = (finding["detail"] for entry in entries for finding in entry["findings"])
    return [f"warning: {detail}" for detail in dict.fromkeys(details)]


def _table(entry: Mapping[str, Any]) -> Table:
    threat = entry["threat"]
    by = "" if entry["engine"] == OWN else f" by {entry['engine']}"
    title = (
        f"{entry['name']}{by}: {threat_text(threat['norm'], threat['eps'])}, "
        f"{entry['samples']} samples, clean accuracy {_percent(entry['clean_accuracy'])} %"
    )
    table = Table(
        title=Text(title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1, 0, 0),
    )
    # Numbers are never cut: a narrow terminal folds the attack's options instead.
    table.add_column("attack", overflow="fold")
    for heading in (
        "robust\n%",
        "95 %\ninterval",
        "left\n%",
        "median\ndistance",
        "passes\nforward",
        "passes\nbackward",
        "seconds",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for attack in entry["attacks"]:
        table.add_row(*_row(attack))
    return table


def _row(attack: Mapping[str, Any]) -> list[str]:
    interval = attack["ci95"]
    low_high = "-" if interval is None else "..".join(_percent(end) for end in interval)
    distance = attack["median_distance"]
    seconds = "stored" if attack["reused"] else f"{attack['seconds']:.1f}"
    return [
        attack_name(part_text(attack["attack"], attack["given"])),
        _percent(attack["robust_accuracy"]),
        low_high,
        _percent(attack["cumulative_robust_accuracy"]),
        "-" if distance is None else f"{distance:.4g}",
        f"{attack['forwards_per_sample']:.1f}",
        f"{attack['backwards_per_sample']:.1f}",
        seconds,
    ]


def _closing(entry: Mapping[str, Any]) -> str:
    worst = _percent(entry["worst_case"]["robust_accuracy"])
    lines = [f"worst case over these attacks {worst} %", *verdict_lines(entry)]
    if any(attack["robust_accuracy"] is None for attack in entry["attacks"]):
        lines.append("-: ran only on what was left; --exhaustive gives every attack its own number")
    certificate = certificate_line(entry)
    lines += [certificate] if certificate else []
    return "\n".join([*lines, *warning_lines([entry])]) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
