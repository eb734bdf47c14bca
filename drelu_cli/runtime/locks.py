"""Locks that die with their process: `flock` on a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO

_PAUSE = 0.05


def take(path: Path, *, wait: float | None = 0.0) -> IO[str] | None:
    """The lock on `path` as an open file, to be closed; None where another process holds it.

    Args:
        path: its folder exists; the file is made, and stays.
        wait: seconds; None waits for as long as it takes.
    """
    file = path.open("a")
    try:
        import fcntl
    except ImportError:  # no such locks on this system: the atomic renames still hold
        return file
    deadline = None if wait is None else time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(_PAUSE)
        else:
            return file
