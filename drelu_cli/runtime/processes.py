"""The process behind a slot: how it starts and how it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from drelu_cli.runtime.calling import import_path
from drelu_cli.runtime.slots import Slot

_CLOSE_SECONDS = 5.0


def start(slot: Slot, logs: Path | None) -> subprocess.Popen[str]:
    """A worker with the slot's environment; its stderr goes to a file of the slot in `logs`."""
    log = _log(slot, logs)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "drelu_cli.runtime.worker", str(os.getpid())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path()), **slot.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if log is None else log,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
        )
    finally:
        if log is not None:
            log.close()


def ended(process: subprocess.Popen[str]) -> int:
    """Waits for a process that is to end, and ends it where it does not; gives its exit code."""
    try:
        return process.wait(_CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def close_pipes(process: subprocess.Popen[Any]) -> None:
    """Closes this end of the pipes of a process that has ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was to be written has no reader
                pipe.close()


def ending(code: int | None) -> str:
    """How a process ended, for people."""
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _log(slot: Slot, logs: Path | None) -> IO[bytes] | None:
    if logs is None:
        return None
    logs.mkdir(parents=True, exist_ok=True)
    return (logs / f"{slot.name}.log").open("ab")
