"""Jobs as arrays of SLURM, for clusters that allow nothing that stays.

submitit writes the scripts and carries function and result as files of the shared folder. Who is
still in the queue is asked of squeue: that needs no accounting, and a task that was cancelled, or
whose node died, is missed at once. Tries are counted here, as every executor counts them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from drelu_cli.core.errors import BadValue, MissingExtra
from drelu_cli.runtime.attempts import CANCELLED, TRIES, Attempt
from drelu_cli.runtime.calling import import_path
from drelu_cli.runtime.executor import Job, OnEvent, Result, silent
from drelu_cli.runtime.processes import interruptible
from drelu_cli.runtime.slurm_options import SlurmOptions
from drelu_cli.runtime.slurm_task import TaskOrder, task

# How many array tasks SLURM is given at once where --jobs does not say.
DEFAULT_JOBS = 100
# A result may be seen later than the end of its task: files of a shared folder take a while.
_LOOKS = 3
_ENDING_SECONDS = 40.0  # SLURM itself waits 30 s between asking for an end and enforcing it
# Ids of what was submitted: a driver that was killed leaves them.
_IDS = "slurm.ids"
# Of a queue of processes there is nothing to be spared.
_LOCAL_POLL = 0.05


def check_slurm(options: SlurmOptions) -> None:
    """Refuses what cannot work before anything runs.

    Raises:
        MissingExtra: submitit is not installed.
        BadValue: no SLURM on this machine.
    """
    if find_spec("submitit") is None:
        raise MissingExtra.of("submitit", extra="slurm")
    if options.cluster == "slurm" and shutil.which("sbatch") is None:
        raise BadValue(
            "there is no sbatch on this machine",
            hint="--runner slurm is started where jobs are submitted, usually a login node",
        )


@dataclass(eq=False)
class _Task:
    """An attempt in the queue.

    Attributes:
        attempt: the job.
        submitted: submitit's job.
        events: what it tells.
        read: how far that was read, in bytes.
        place: where it runs, once it has said so.
        missed: looks in a row at which it was not in the queue, without a result.
    """

    attempt: Attempt
    submitted: Any
    events: Path
    read: int = 0
    place: str = ""
    missed: int = 0


class SlurmArrays:
    """Runs jobs as array tasks; see `executor.Executor`.

    Args:
        options: what a task gets.
        folder: in a file system that all nodes share; scripts, logs and results.
        jobs: how many tasks SLURM is given at once.
        on_event: told what happens to jobs, in the thread that reads `results`.
        tries: how often a job is begun at most.

    Raises:
        MissingExtra: submitit is not installed.
        BadValue: no SLURM on this machine.
    """

    def __init__(
        self,
        options: SlurmOptions,
        folder: Path,
        *,
        jobs: int = DEFAULT_JOBS,
        on_event: OnEvent = silent,
        tries: int = TRIES,
    ) -> None:
        check_slurm(options)
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._local = options.cluster == "local"
        self._poll = _LOCAL_POLL if self._local else options.poll
        self._queue = _submitit(options, self._folder)
        self._threads = options.cpus
        self._width, self._tries, self._on_event = jobs, tries, on_event
        self._number = 0
        self._jobs: deque[Attempt] = deque()
        self._running: list[_Task] = []
        self._results: deque[Result] = deque()

    def __enter__(self) -> SlurmArrays:
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
        """How many tasks SLURM is given at once."""
        return self._width

    def submit(self, job: Job) -> None:
        """Takes a job; those that have gathered become one array."""
        self._jobs.append(Attempt(job))

    def cancel(self, name: str) -> None:
        """Takes a job from the queue here, or from that of SLURM."""
        for attempt in [one for one in self._jobs if one.job.name == name]:
            self._jobs.remove(attempt)
            self._results.append(attempt.result(error=CANCELLED))
        for one in self._running:
            if one.attempt.job.name == name:
                one.attempt.cancelled = True
                one.submitted.cancel(check=False)

    def results(self) -> Iterator[Result]:
        """Results as they arrive, until no job is left."""
        while True:
            if self._results:
                yield self._results.popleft()
                continue
            self._submit_array()
            if not self._running:
                return
            self._look()
            if not self._results:
                time.sleep(self._poll)

    def close(self) -> None:
        """Cancels what is in the queue, and waits until it is gone."""
        for one in self._running:
            one.submitted.cancel(check=False)
        deadline = time.monotonic() + _ENDING_SECONDS
        while self._queued(self._running) and time.monotonic() < deadline:
            time.sleep(self._poll)
        self._running.clear()
        (self._folder / _IDS).unlink(missing_ok=True)

    # The queue

    def _submit_array(self) -> None:
        """All that waits and fits becomes one array."""
        count = min(len(self._jobs), self._width - len(self._running))
        attempts = [self._jobs.popleft() for _ in range(count)]
        if not attempts:
            return
        new = []
        # What submitit runs here is cancelled by SIGINT.
        with interruptible(), self._queue.batch():
            for attempt in attempts:
                attempt.begin()
                self._number += 1
                events = self._folder / f"{self._number}.events"
                order = TaskOrder(
                    attempt.job.function,
                    dict(attempt.job.config),
                    str(events),
                    self._threads,
                    import_path(),
                )
                new.append(_Task(attempt, self._queue.submit(task, order), events))
        self._running += new
        if not self._local:
            with (self._folder / _IDS).open("a") as file:
                file.writelines(f"{one.submitted.job_id}\n" for one in new)

    def _look(self) -> None:
        """Hears what tasks tell, takes results, and misses those that are gone."""
        queued = self._queued(self._running)
        for one in list(self._running):
            self._hear(one)
            if one.submitted.paths.result_pickle.exists():
                self._running.remove(one)
                self._take(one)
            elif queued is not None and one not in queued:
                self._miss(one)

    def _queued(self, tasks: Sequence[_Task]) -> list[_Task] | None:
        """Those that wait or run; None where the queue cannot be asked now."""
        if self._local:
            return [one for one in tasks if not one.submitted.done()]
        ids = _in_queue() if tasks else set()
        return None if ids is None else [one for one in tasks if one.submitted.job_id in ids]

    def _hear(self, one: _Task) -> None:
        with suppress(OSError), one.events.open("rb") as file:
            file.seek(one.read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                one.read += len(line)
                self._event(one, json.loads(line))

    def _event(self, one: _Task, message: dict[str, Any]) -> None:
        name, attempt = one.attempt.job.name, one.attempt
        if message["event"] == "started":
            one.place = message["place"]
            self._on_event(name, one.place, attempt.event, {"tries": attempt.tries})
        else:
            self._on_event(name, one.place, message["kind"], message["fields"])

    def _take(self, one: _Task) -> None:
        attempt = one.attempt
        try:
            message = one.submitted.result()
        except Exception as problem:  # noqa: BLE001 - whatever stopped it before the job began
            self._failed(attempt, _last_line(problem), final=False)
            return
        if message["event"] == "result":
            attempt.end()
            self._results.append(attempt.result(message["value"]))
        else:
            self._failed(attempt, message["error"], final=message["final"])

    def _miss(self, one: _Task) -> None:
        """A task that is not in the queue: its result is on the way, or it is lost."""
        one.missed += 1
        if one.missed < _LOOKS:
            return
        self._running.remove(one)
        error = (
            f"task {one.submitted.job_id} ended without a result, see {one.submitted.paths.stderr}"
        )
        self._failed(one.attempt, error, final=False)

    def _failed(self, attempt: Attempt, error: str, *, final: bool) -> None:
        attempt.end()
        result = attempt.failed(error, final=final, limit=self._tries)
        if result is None:
            self._jobs.append(attempt)
        else:
            self._results.append(result)


def end_abandoned(folder: Path) -> None:
    """Cancels what a killed driver left in the queue, and waits until it is gone.

    Args:
        folder: of its executor.
    """
    try:
        left = set((folder / _IDS).read_text().split())
    except OSError:
        return
    deadline = time.monotonic() + _ENDING_SECONDS
    if shutil.which("scancel") and (left := left & (_in_queue() or set())):
        subprocess.run(["scancel", *sorted(left)], check=False, capture_output=True)
        while left & (_in_queue() or set()) and time.monotonic() < deadline:
            time.sleep(1.0)
    (folder / _IDS).unlink(missing_ok=True)


def _submitit(options: SlurmOptions, folder: Path) -> Any:
    """The executor of submitit, with the parameters that it calls otherwise."""
    import submitit

    if options.cluster == "local":
        found: Any = submitit.LocalExecutor(folder)
        found.update_parameters(
            timeout_min=options.time, gpus_per_node=options.gpus, setup=list(options.setup)
        )
        return found
    names = ("partition", "time", "account", "qos", "constraint", "exclude", "nodelist")
    given = {name: getattr(options, name) for name in names}
    given["cpus_per_task"] = options.cpus
    given["gpus_per_node"] = options.gpus or None
    given["mem"] = None if options.mem_gb is None else f"{round(1024 * options.mem_gb)}MB"
    given["setup"] = list(options.setup) or None
    found = submitit.SlurmExecutor(folder)
    kept = {name: value for name, value in given.items() if value is not None}
    found.update_parameters(job_name="drelu", **kept)
    return found


def _in_queue() -> set[str] | None:
    """Ids of this user's tasks that wait or run, `12_0` for those of arrays; None: no answer."""
    found = subprocess.run(
        ["squeue", "--me", "--array", "--noheader", "--format=%i"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(found.stdout.split()) if found.returncode == 0 else None


def _last_line(problem: Exception) -> str:
    lines = [line for line in str(problem).splitlines() if line.strip(" -")]
    told = [line for line in lines if not line.startswith(("You can check", "or at", "  - "))]
    return told[-1] if told else type(problem).__name__
