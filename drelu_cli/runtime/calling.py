"""A job carried out in this process: its result or its error as plain data."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import DreluError
from drelu_cli.runtime.allocator import keep_freed_memory


def import_path() -> tuple[str, ...]:
    """This process's import path, for workers: what can be imported here can be there."""
    return tuple(entry or str(Path.cwd()) for entry in sys.path)


def extend_import_path(entries: Iterable[str]) -> None:
    """Takes over what the driver could import, behind what this process has."""
    sys.path += [entry for entry in entries if entry not in sys.path]


def called(function: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The message that ends a job: `{"event": "result", "value": ...}`, or `error` and `final`.

    Args:
        function: `package.module:function`.
        config: its argument.
    """
    keep_freed_memory()
    try:
        value = _function(function)(config)
    except KeyboardInterrupt:
        raise
    except DreluError as problem:  # a second try would say the same
        return {"event": "error", "error": problem.message, "final": True}
    except Exception as problem:  # noqa: BLE001 - a job's error is a result, not this process's end
        error = f"{type(problem).__name__}: {problem}"
        return {"event": "error", "error": error, "final": False}
    return {"event": "result", "value": value}


def plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON would carry it: what it holds must not depend on how it travels."""
    found: dict[str, Any] = json.loads(json.dumps(message, default=str))
    return found


def _function(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
