"""Jobs on a Ray cluster, or on a Ray that is started here for them.

Ray places jobs, gives each its share of a GPU and says when a worker or a node is lost. Tries are
counted here, as every executor counts them, so Ray itself retries nothing. A job is a generator:
what it tells and how it ends come back on the same way.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import drelu_cli
from drelu_cli.core.errors import BadValue, DreluError, MissingExtra
from drelu_cli.runtime.attempts import CANCELLED, TRIES, Attempt
from drelu_cli.runtime.calling import import_path
from drelu_cli.runtime.executor import Job, OnEvent, Result, silent
from drelu_cli.runtime.parcels import Manifest, marked, packed, unpacked
from drelu_cli.runtime.ray_node import DATA, FOLDER, Message, Order, work

# How long one look for news takes at most, in seconds: a job may have been cancelled meanwhile.
_LOOK = 1.0
# Arguments travel with the task; folders go through the object store, once per node.
_OBJECT_STORE = 256 * 2**20
# Ray replaces 127.0.0.1 by the machine's outer address; its neighbour stays what it is.
_LOOPBACK = "127.0.0.2"


@dataclass(frozen=True)
class RayPlace:
    """Which cluster, and how much of it.

    Attributes:
        address: `auto` for the one that this machine belongs to, or HOST:PORT of its head; None
            starts one here.
        jobs: how many at once; None for as many as the cluster has places.
        per_gpu: jobs on one GPU, where the cluster has GPUs; None leaves GPUs alone.
    """

    address: str | None = None
    jobs: int | None = None
    per_gpu: int | None = 1


def check_ray(address: str | None) -> None:
    """Refuses what cannot work before anything runs.

    Raises:
        MissingExtra: Ray is not installed.
        BadValue: no such kind of address.
    """
    if find_spec("ray") is None:
        raise MissingExtra.of("Ray", extra="ray")
    host, colon, port = (address or "auto").rpartition(":")
    if (address or "auto") != "auto" and not (host and colon and port.isdigit()):
        raise BadValue(
            f"--ray-address {address} is no address", hint="--ray-address auto, or HOST:PORT"
        )


class RayExecutor:
    """Runs jobs on Ray; see `executor.Executor`.

    Args:
        place: the cluster.
        data: files that the jobs read from `data_dir`; None leaves that entry as it is.
        on_event: told what happens to jobs, in the thread that reads `results`.
        tries: how often a job is begun at most.
        shared: False carries folders always; None finds out which nodes see the driver's.

    Raises:
        MissingExtra: Ray is not installed.
        BadValue: no cluster at this address.
    """

    def __init__(
        self,
        place: RayPlace,
        *,
        data: Manifest | None = None,
        on_event: OnEvent = silent,
        tries: int = TRIES,
        shared: bool | None = None,
    ) -> None:
        check_ray(place.address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        self._data = data if data is not None and data.files else None
        self._on_event, self._tries = on_event, tries
        self._shared = shared is not False
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, place)
        self._width, share = _capacity(ray.cluster_resources(), place)
        self._work = ray.remote(num_returns="streaming", max_retries=0, **share)(work)
        self._jobs: deque[Attempt] = deque()
        self._running: dict[Any, Attempt] = {}
        self._results: deque[Result] = deque()
        self._places: dict[Attempt, str] = {}
        # What is sent along, once a node has said that it does not see it.
        self._send: set[str] = set() if self._shared else {FOLDER, DATA}
        self._data_bytes: tuple[Any, ...] = ()

    def __enter__(self) -> RayExecutor:
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
        """How many jobs Ray is given at once."""
        return self._width

    def submit(self, job: Job) -> None:
        """Takes a job into the queue."""
        self._jobs.append(Attempt(job))

    def cancel(self, name: str) -> None:
        """Takes a job from the queue, or ends the worker that runs it."""
        for one in [one for one in self._jobs if one.job.name == name]:
            self._jobs.remove(one)
            self._results.append(one.result(error=CANCELLED))
        for generator, attempt in self._running.items():
            if attempt.job.name == name:
                attempt.cancelled = True
                self._stop(generator)

    def results(self) -> Iterator[Result]:
        """Results as they arrive, until no job is left."""
        while True:
            while self._jobs and len(self._running) < self._width:
                self._begin(self._jobs.popleft())
            if self._results:
                yield self._results.popleft()
            elif self._running:
                ready, _ = self._ray.wait([*self._running], num_returns=1, timeout=_LOOK)
                for generator in ready:
                    self._heard(generator)
            else:
                return

    def close(self) -> None:
        """Ends all jobs, and Ray where it was started or joined here."""
        for generator in self._running:
            self._stop(generator)
        self._running.clear()
        if self._ours:
            self._ray.shutdown()
            self._ours = False

    def _stop(self, generator: Any) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):  # it has ended by itself
            self._ray.cancel(generator, force=True)

    def _begin(self, attempt: Attempt) -> None:
        attempt.begin()
        try:
            self._hand_over(attempt)
        except (DreluError, OSError) as problem:
            attempt.end()
            self._results.append(attempt.result(error=str(problem)))

    def _hand_over(self, attempt: Attempt) -> None:
        job = attempt.job
        folder = Path(job.config["store"]) if "store" in job.config else None
        carries = folder is not None and FOLDER in self._send
        order = Order(
            job.name,
            job.function,
            dict(job.config),
            drelu_cli.__version__,
            str(Path.cwd()),
            import_path(),
            mark=None if folder is None else marked(folder),
            data=self._data if "data_dir" in job.config else None,
            shared=self._shared,
            folder_bytes=(self._ray.put(packed(folder)),) if folder and carries else (),
            data_bytes=self._sent_data(),
        )
        self._running[self._work.remote(order)] = attempt

    def _sent_data(self) -> tuple[Any, ...]:
        """The data in the object store: put there once, fetched once per node."""
        if self._data is not None and DATA in self._send and not self._data_bytes:
            self._data_bytes = (self._ray.put(self._data.packed()),)
        return self._data_bytes

    def _heard(self, generator: Any) -> None:
        """One message of a job, or the news that its worker is lost."""
        attempt = self._running[generator]
        try:
            message: Message = self._ray.get(next(generator))
        except StopIteration:
            message = _gone("the worker ended without a word")
        except self._ray.exceptions.RayError as problem:
            message = _gone(_lost(problem))
        goes_on = self._goes_on(attempt, message)
        del self._running[generator]
        if goes_on:
            self._running[generator] = attempt  # behind the others: they are heard, too

    def _goes_on(self, attempt: Attempt, message: Message) -> bool:
        kind, name = message["event"], attempt.job.name
        if kind == "started":
            self._places[attempt] = message["place"]
            self._on_event(name, message["place"], attempt.event, {"tries": attempt.tries})
        elif kind == "progress":
            self._on_event(name, self._places[attempt], message["kind"], message["fields"])
        elif kind == "unseen":
            self._send.add(message["what"])
            self._hand_over(attempt)
        else:
            self._ended(attempt, message)
        return kind in ("started", "progress")

    def _ended(self, attempt: Attempt, message: Message) -> None:
        if FOLDER in message:
            try:
                unpacked(message[FOLDER], Path(attempt.job.config["store"]))
            except DreluError as problem:
                self._failed(attempt, problem.message, final=True)
                return
        if message["event"] == "result":
            attempt.end()
            self._results.append(attempt.result(message["value"]))
        else:
            self._failed(attempt, message["error"], final=message["final"])

    def _failed(self, attempt: Attempt, error: str, *, final: bool) -> None:
        attempt.end()
        result = attempt.failed(error, final=final, limit=self._tries)
        if result is None:
            self._jobs.appendleft(attempt)
        else:
            self._results.append(result)


def _connect(ray: Any, place: RayPlace) -> None:
    options: dict[str, Any] = {"address": place.address}
    if place.address is None:
        options = {
            "address": "local",
            "num_cpus": place.jobs or _cores(),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
        }
        if sys.platform == "linux":
            options["_node_ip_address"] = _LOOPBACK
    try:
        ray.init(**options, log_to_driver=False, configure_logging=False)
        # Ray prints the death of a worker to stdout, which belongs to --json; there is no option.
        vars(sys.modules["ray._private.worker"])["_worker_logs_enabled"] = False
    except (ConnectionError, RuntimeError, ValueError) as problem:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else ""
        raise BadValue(
            f"no Ray at {place.address or 'this machine'}: {first or type(problem).__name__}",
            hint="`ray start --head` begins a cluster; without --ray-address one is started here",
        ) from problem


def _cores() -> int:
    found = getattr(os, "sched_getaffinity", None)
    return len(found(0)) if found else os.cpu_count() or 1


def _capacity(resources: dict[str, float], place: RayPlace) -> tuple[int, dict[str, float]]:
    """How many jobs at once, and what each takes of a node."""
    gpus = int(resources.get("GPU", 0)) if place.per_gpu else 0
    share: dict[str, float] = {"num_cpus": 1}
    count = int(resources.get("CPU", 0))
    if gpus and place.per_gpu:
        share["num_gpus"] = 1 / place.per_gpu
        count = min(count, gpus * place.per_gpu)
    # A cluster that grows on demand has nothing yet: --jobs says how much is wanted.
    return place.jobs or max(1, count), share


def _gone(error: str) -> Message:
    return {"event": "error", "error": error, "final": False}


def _lost(problem: Exception) -> str:
    cause = getattr(problem, "cause", None)
    if cause is not None:  # raised on the node, outside of the job
        return f"{type(cause).__name__}: {cause}"
    return f"the worker was lost ({type(problem).__name__})"
