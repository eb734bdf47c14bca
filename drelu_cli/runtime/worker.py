"""The process behind one slot of the local executor: `python -m drelu_cli.runtime.worker PID`.

Jobs come as JSON lines on stdin; what happens goes back as JSON lines on the stdout that it was
started with. Whatever the job itself prints goes to stderr. It ends with its parent, whose
process id is the argument.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from drelu_cli.runtime.calling import called
from drelu_cli.runtime.channel import open_channel

_LOOK_EVERY = 0.25  # seconds between two looks at the parent


def main(arguments: list[str]) -> int:
    """Runs jobs until stdin ends."""
    follow(int(arguments[0]))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    keep_pipes()
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        with lock:
            _written(out, message)

    open_channel(lambda kind, fields: send({"event": "progress", "kind": kind, "fields": fields}))
    send({"event": "ready", "pid": os.getpid()})
    for line in jobs:
        job = json.loads(line)
        send(called(job["function"], job["config"]))
    return 0


def keep_pipes() -> None:
    """What a job prints goes to stderr, and what it reads is empty."""
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _written(out: TextIO, message: Mapping[str, Any]) -> None:
    try:
        out.write(json.dumps(message, default=str) + "\n")
        out.flush()
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more


def follow(parent: int) -> None:
    """Ends this process when the parent is gone, whatever it does at that moment."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
