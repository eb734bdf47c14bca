"""A running sweep in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drelu_cli.report.plan import duration


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """What `drelu sweep --status` prints: the counts, then a line per running job.

    Args:
        status: the document that the sweep keeps.
    """
    left = status["seconds_left"]
    time = "not known yet" if left is None else f"about {duration(left)}"
    return [
        f"{status['recipe']}: {status['queued']} queued, {len(status['running'])} running, "
        f"{status['done']} done, {status['failed']} failed",
        f"left of this part, the trainings or the attacks: {time}",
        *(_running(one) for one in status["running"]),
    ]


def _running(one: Mapping[str, Any]) -> str:
    words = [f"  {one['where']}: {one['job']}, {one['what']}"]
    if one["epoch"] is not None and one["what"] == "training":
        words.append(f"epoch {one['epoch']} of {one['epochs']}")
    words += [one["detail"]] if one["detail"] else []
    words.append(f"since {duration(one['seconds'])}")
    return ", ".join(words)
