"""A job on its way: how often it was begun, for how long, and whether it is tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from drelu_cli.runtime.executor import Job, Result

CANCELLED = "cancelled"
# How often a job is begun at most: a machine may die under it, but not three times.
TRIES = 3


@dataclass(eq=False)
class Attempt:
    """A job, from its first try on.

    Attributes:
        job: what to do.
        tries: how often it was begun.
        seconds: wall time of the tries that have ended.
        began: when the newest one did.
        cancelled: by the driver, while it ran.
    """

    job: Job
    tries: int = 0
    seconds: float = 0.0
    began: float = 0.0
    cancelled: bool = False

    def begin(self) -> None:
        """One more try."""
        self.tries += 1
        self.began = time.monotonic()

    def end(self) -> None:
        """The try is over."""
        self.seconds += time.monotonic() - self.began

    @property
    def event(self) -> str:
        """What its beginning is called."""
        return "started" if self.tries == 1 else "again"

    def result(self, value: Any = None, error: str | None = None) -> Result:
        """Its result."""
        return Result(self.job.name, value, error, self.tries, self.seconds)

    def failed(self, error: str, *, final: bool, limit: int = TRIES) -> Result | None:
        """The result of a try that failed; None where the job is to be tried again."""
        if self.cancelled:
            return self.result(error=CANCELLED)
        if not final and self.tries < limit:
            return None
        tried = f"{error} (tried {self.tries} times)" if self.tries > 1 else error
        return self.result(error=tried)
