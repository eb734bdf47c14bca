"""The command as a user types it, in a process of its own or in this one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drelu_cli.cli import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def drelu(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """`drelu("train", "--epochs", "1")` in an empty folder, on CPU."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | os.PathLike[str]) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def own_store(small_store: Path, tmp_path: Path) -> Path:
    """A copy of the small store, for tests that write into it."""
    return shutil.copytree(small_store, tmp_path / "own")
