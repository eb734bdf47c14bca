"""What runs jobs somewhere else: the interface that every engine has.

A job is a function's name and a plain configuration, so that it can travel as JSON. The driver
submits jobs and takes results as they arrive; it alone writes the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

# (job, place, kind, fields): `started`, `again`, or what the function told of its progress.
OnEvent = Callable[[str, str, str, Mapping[str, Any]], None]


def silent(job: str, place: str, kind: str, fields: Mapping[str, Any]) -> None:
    """Events for callers that want none."""


@dataclass(frozen=True)
class Job:
    """One call.

    Attributes:
        name: unique among the jobs of an executor.
        function: `package.module:function`; takes the configuration, gives plain data.
        config: plain data. Two entries are folders, where they are there: `store`, which the job
            reads and writes, and `data_dir`, which it reads. An executor whose workers do not
            see them carries them there and back.
    """

    name: str
    function: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What became of a job.

    Attributes:
        name: of the job.
        value: what the function gave; None where it failed.
        error: one sentence; None where it worked.
        tries: how often it was begun; 0 where it was cancelled before.
        seconds: wall time of all tries.
    """

    name: str
    value: Any
    error: str | None
    tries: int
    seconds: float


class Executor(Protocol):
    """Runs jobs and streams results back; used as a context manager.

    Attributes:
        width: how many jobs run at once; a few more submitted ahead keep every place busy.
    """

    @property
    def width(self) -> int:
        """How many jobs run at once."""

    def submit(self, job: Job) -> None:
        """Takes a job into the queue."""

    def results(self) -> Iterator[Result]:
        """Results in the order in which they arrive, until no job is left.

        Jobs may be submitted and cancelled while it is being read.
        """

    def cancel(self, name: str) -> None:
        """Stops a job; its result has the error `cancelled`. Unknown and finished: no effect."""

    def close(self) -> None:
        """Stops everything at once; closing twice is fine."""

    def __enter__(self) -> Executor:
        """Itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes it."""
