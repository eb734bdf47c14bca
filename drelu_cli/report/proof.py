"""What is said about a file of adversarial points: when it is saved, and when it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from drelu_cli.report.layout import threat_text


def saved_lines(saved: Mapping[str, Any]) -> list[str]:
    """`adversarial` of the JSON document of `drelu attack` as sentences."""
    lost, samples = saved["points"] + saved["clean_wrong"], saved["samples"]
    lines = [
        f"saved {saved['points']:,} adversarial points to {saved['file']}: robust accuracy is at "
        f"most {100 * saved['robust_accuracy_at_most']:.2f} % ({lost:,} of {samples:,} broken or "
        "wrong)"
    ]
    if saved["not_repeated"]:
        lines.append(
            f"{saved['not_repeated']:,} more were broken by stored attacks that could not be "
            "repeated here; they are not in the file"
        )
    return lines


def verify_tables(
    document: Mapping[str, Any], reasons: Mapping[str, int], made_for: str
) -> list[RenderableType]:
    """The JSON document of `drelu verify` as a short table and its conclusion.

    Args:
        document: as printed with `--json`.
        reasons: how many samples fail, by reason.
        made_for: the model and data set that the file names.
    """
    threat = threat_text(document["norm"], document["eps"])
    title = f"{document['file']}: {threat}, {made_for}, against {document['model']}"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("samples", overflow="fold")
    for heading in ("claimed", "valid", "invalid"):
        table.add_column(heading, justify="right", no_wrap=True)
    for words, claimed, valid in (
        ("broken by a point", document["points"], document["valid"]),
        ("misclassified as they are", document["clean_wrong"], document["valid_clean_wrong"]),
    ):
        table.add_row(words, f"{claimed:,}", f"{valid:,}", f"{claimed - valid:,}")
    for why, count in reasons.items():
        table.add_row(f"  {why}", "", "", f"{count:,}")
    share = 100 * document["robust_accuracy_at_most"]
    lines = [f"robust accuracy is at most {share:.2f} % on these {document['samples']:,} samples"]
    lines += [f"warning: {text}" for text in document["warnings"]]
    return [Text(title, style="bold"), table, *lines]
