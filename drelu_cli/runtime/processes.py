"""The process behind a slot: how it starts and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from drelu_cli.runtime.calling import import_path
from drelu_cli.runtime.slots import Slot

_CLOSE_SECONDS = 5.0


def start(slot: Slot, logs: Path | None) -> subprocess.Popen[str]:
    """A worker with the slot's environment; its stderr goes to a file of the slot in `logs`."""
    log = _log(slot, logs)
    try:
        stderr = subprocess.DEVNULL if log is None else log
        return spawned("drelu_cli.runtime.worker", slot.environment, text=True, stderr=stderr)
    finally:
        if log is not None:
            log.close()


def spawned(
    module: str,
    environment: Mapping[str, str],
    *,
    text: bool = False,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[Any]:
    """`python -m module PID` with pipes, PID being this process, which it is to end with.

    Args:
        module: imports what this process can import.
        environment: variables beside this process's.
        text: pipes of utf-8 text, else of bytes.
        stderr: as for Popen; None is this process's.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(os.getpid())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path()), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8" if text else None,
        start_new_session=True,  # Ctrl-C is for the caller, which then ends this process
    )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Processes started inside hear SIGINT, even where this one ignores it (nohup, `&`).

    What is ignored is inherited; Python then sets no handler, and nobody could cancel them so.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


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
