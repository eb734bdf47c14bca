"""Jobs on this machine: one persistent process per slot, each with its own environment.

Why no pool of a library. `concurrent.futures.ProcessPoolExecutor` breaks for good when one
worker dies. pebble and loky replace a worker, but give all of them one environment, and a
worker has no place of its own: a GPU must be chosen by CUDA_VISIBLE_DEVICES before torch is
imported, and threads by OMP_NUM_THREADS, per process. What is left to write is small: a pipe, a
thread that reads it, and a queue.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from drelu_cli.core.errors import InternalError
from drelu_cli.runtime import processes
from drelu_cli.runtime.attempts import CANCELLED, TRIES, Attempt
from drelu_cli.runtime.executor import Job, OnEvent, Result, silent
from drelu_cli.runtime.slots import Slot

# A slot whose process dies so often before it is ready is given up: nothing can run there.
_STARTS = 3
# A child of the worker may hold its pipe for longer than it lives.
_JOIN_SECONDS = 5.0


@dataclass
class _Place:
    """A slot with its process of the moment."""

    slot: Slot
    process: subprocess.Popen[str] | None = None
    running: Attempt | None = None
    reader: threading.Thread | None = None
    failed_starts: int = 0


_Message = tuple[_Place, subprocess.Popen[str], dict[str, Any] | None]


@dataclass
class _Queues:
    """What waits: jobs for a slot, messages of processes, results for the driver."""

    jobs: deque[Attempt] = field(default_factory=deque)
    messages: queue.Queue[_Message] = field(default_factory=queue.Queue)
    results: deque[Result] = field(default_factory=deque)


class LocalExecutor:
    """Runs jobs in one process per slot; see `executor.Executor`.

    A process that dies is replaced and its job tried again; so is a job that raised something
    other than a DreluError. After `tries` tries the error is the result.

    Args:
        slots: the places.
        tries: how often a job is begun at most.
        on_event: told what happens to jobs, in the thread that reads `results`.
        logs: folder for what the processes print, a file per slot; None throws it away.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        tries: int = TRIES,
        on_event: OnEvent = silent,
        logs: Path | None = None,
    ) -> None:
        self._places = [_Place(slot) for slot in slots]
        self._tries = tries
        self._on_event = on_event
        self._logs = logs
        self._waiting = _Queues()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def width(self) -> int:
        """The number of slots."""
        return len(self._places)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by slot, of the processes that were started."""
        started = [(place.slot.name, place.process) for place in self._places]
        return {name: process.pid for name, process in started if process is not None}

    def submit(self, job: Job) -> None:
        """Takes a job into the queue."""
        self._waiting.jobs.append(Attempt(job))

    def cancel(self, name: str) -> None:
        """Takes a job from the queue, or kills the process that runs it."""
        for one in [one for one in self._waiting.jobs if one.job.name == name]:
            self._waiting.jobs.remove(one)
            self._waiting.results.append(one.result(error=CANCELLED))
        for place in self._places:
            if place.running is not None and place.running.job.name == name:
                place.running.cancelled = True
                if place.process is not None:
                    place.process.kill()

    def results(self) -> Iterator[Result]:
        """Results as they arrive, until no job is left."""
        while True:
            self._assign()
            if self._waiting.results:
                yield self._waiting.results.popleft()
            elif any(place.running for place in self._places):
                self._handle(*self._waiting.messages.get())
            else:
                return

    def close(self) -> None:
        """Ends all processes; their jobs are gone."""
        for place in self._places:
            if place.process is not None:
                place.process.terminate()
        for place in self._places:
            self._buried(place)

    # One job on one slot

    def _assign(self) -> None:
        """Gives waiting jobs to idle slots."""
        for place in self._places:
            if place.running is None and self._waiting.jobs and place.failed_starts < _STARTS:
                self._begin(place, self._waiting.jobs.popleft())
        if all(place.failed_starts >= _STARTS for place in self._places):
            while self._waiting.jobs:
                running = self._waiting.jobs.popleft()
                self._waiting.results.append(running.result(error="no worker process starts"))

    def _begin(self, place: _Place, running: Attempt) -> None:
        running.begin()
        place.running = running
        job = running.job
        process = place.process or self._started(place)
        self._on_event(job.name, place.slot.name, running.event, {"tries": running.tries})
        if process.stdin is None:
            raise InternalError("a worker without a pipe")
        with contextlib.suppress(BrokenPipeError):  # dead: the end of its other pipe says so
            process.stdin.write(json.dumps({"function": job.function, "config": job.config}) + "\n")
            process.stdin.flush()

    def _handle(
        self, place: _Place, process: subprocess.Popen[str], message: dict[str, Any] | None
    ) -> None:
        if process is not place.process:
            return  # the last words of one that was replaced
        if message is None:
            self._died(place)
            return
        kind, running = message["event"], place.running
        if kind == "ready":
            place.failed_starts = 0
        elif running is None:
            return
        elif kind == "progress":
            self._on_event(running.job.name, place.slot.name, message["kind"], message["fields"])
        elif kind == "result":
            self._ended(place, running)
            self._waiting.results.append(running.result(message["value"]))
        else:
            self._ended(place, running)
            self._failed(running, message["error"], final=message["final"])

    def _died(self, place: _Place) -> None:
        """The process of a slot is gone: its job goes on elsewhere, or has failed."""
        code = self._buried(place)
        place.failed_starts += 1
        running = place.running
        if running is None:
            return
        self._ended(place, running)
        self._failed(running, f"the worker process died ({processes.ending(code)})", final=False)

    def _ended(self, place: _Place, running: Attempt) -> None:
        running.end()
        place.running = None

    def _failed(self, running: Attempt, error: str, *, final: bool) -> None:
        result = running.failed(error, final=final, limit=self._tries)
        if result is None:
            self._waiting.jobs.appendleft(running)
        else:
            self._waiting.results.append(result)

    # One process

    def _started(self, place: _Place) -> subprocess.Popen[str]:
        process = processes.start(place.slot, self._logs)
        place.process = process
        place.reader = threading.Thread(target=self._read, args=(place, process), daemon=True)
        place.reader.start()
        return process

    def _read(self, place: _Place, process: subprocess.Popen[str]) -> None:
        """Feeds what a process says into the queue, then that it is gone."""
        for line in process.stdout or ():
            try:
                message: Mapping[str, Any] = json.loads(line)
            except ValueError:
                break  # cut off in the middle
            self._waiting.messages.put((place, process, dict(message)))
        self._waiting.messages.put((place, process, None))

    def _buried(self, place: _Place) -> int | None:
        """Waits for a process that ends; gives its exit code, None where there was none."""
        process, reader = place.process, place.reader
        place.process = place.reader = None
        if process is None:
            return None
        code = processes.ended(process)
        if reader is not None:
            reader.join(_JOIN_SECONDS)
        processes.close_pipes(process)
        return code
