"""A job as one task of a SLURM array: what it does on the node."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drelu_cli.runtime.calling import called, extend_import_path, plain
from drelu_cli.runtime.channel import open_channel


@dataclass(frozen=True)
class TaskOrder:
    """What the driver asks of a task.

    Attributes:
        function: `package.module:function`.
        config: its argument.
        events: file in the shared folder that the task's events are appended to.
        threads: of the computation.
        import_path: the driver's; what can be imported there can be here.
    """

    function: str
    config: dict[str, Any]
    events: str
    threads: int
    import_path: tuple[str, ...]


def task(order: TaskOrder) -> dict[str, Any]:
    """Runs the job; gives the message that ends it."""
    # submitit ignores SIGTERM, by which scancel asks for an end; a job needs no farewell.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(order.threads)
    extend_import_path(order.import_path)
    events = Path(order.events)
    _write(events, {"event": "started", "place": _place()})
    open_channel(
        lambda kind, fields: _write(events, {"event": "progress", "kind": kind, "fields": fields})
    )
    return plain(called(order.function, order.config))


def _place() -> str:
    """The node with the array task, or with the process where there is no SLURM."""
    number = os.environ.get("SLURM_ARRAY_TASK_ID") or os.environ.get("SLURM_ARRAY_JOB_ID")
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    told = f"{job}_{number}" if job and number else job
    return f"{socket.gethostname()}-{told or os.getpid()}"


def _write(events: Path, message: Mapping[str, Any]) -> None:
    try:
        with events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message, default=str) + "\n")
    except OSError:
        pass  # who looks on must not stop the work
