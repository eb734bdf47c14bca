"""Where a workflow runs: folders, device, and whom it tells about its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

# (kind of event, its fields): `epoch`, `attack`, `note` ...; the caller decides what to show.
Progress = Callable[[str, Mapping[str, Any]], None]


def silent(kind: str, fields: Mapping[str, Any]) -> None:
    """Progress for callers that want none."""


@dataclass(frozen=True)
class Context:
    """What all workflows share.

    Attributes:
        store: folder of models and results.
        data_dir: folder of data sets; None takes the user cache folder.
        device: auto, cpu, cuda, cuda:N or mps.
        progress: told about epochs, attacks and notes as they happen.
    """

    store: Path = Path("runs")
    data_dir: Path | None = None
    device: str = "auto"
    progress: Progress = silent

    @property
    def data_folder(self) -> Path:
        """The folder that data sets are read from and downloaded to."""
        if self.data_dir is not None:
            return self.data_dir.expanduser()
        return Path(platformdirs.user_cache_dir("drelu")) / "data"

    def note(self, text: str) -> None:
        """Tells the caller one sentence."""
        self.progress("note", {"text": text})
