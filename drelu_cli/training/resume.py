"""The resumable state on disk: written whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

_FORMAT = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` by atomic rename: a killed process leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        torch.save({"format": _FORMAT, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The state in `path`; None where there is none or it cannot be read.

    An unreadable state costs the epochs it held, nothing else: the training starts afresh.
    Nothing in the file is executed (`weights_only=True`).
    """
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return None
    state = found["state"]
    return state if isinstance(state, dict) else None
