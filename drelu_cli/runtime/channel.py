"""How a job tells its executor about its progress, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Sink = Callable[[str, Mapping[str, Any]], None]


class _Channel:
    """Where events go; nowhere until an executor's worker says where."""

    sink: Sink | None = None


def open_channel(sink: Sink) -> None:
    """Sends the events of this process to `sink`."""
    _Channel.sink = sink


def tell(kind: str, fields: Mapping[str, Any]) -> None:
    """Sends one event: what a workflow gives to `Context.progress`."""
    if _Channel.sink is not None:
        _Channel.sink(kind, fields)
