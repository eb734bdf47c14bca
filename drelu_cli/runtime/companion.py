"""Processes beside this one that compute a part of what it computes.

For work of many short torch operations threads are no help: each operation gives up the
interpreter's lock and queues for it again. `python -m drelu_cli.runtime.companion PID` is such a
process: pickled calls come on its stdin, pickled results go back on its stdout. It ends with its
parent, whose process id is the argument.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from drelu_cli.runtime.allocator import keep_freed_memory
from drelu_cli.runtime.driver import Stopped, stop_asked
from drelu_cli.runtime.processes import close_pipes, spawned
from drelu_cli.runtime.slots import ONE_THREAD
from drelu_cli.runtime.worker import follow, keep_pipes

_LOOK_EVERY = 0.1  # seconds between two looks whether the caller still wants the result


class CompanionLost(Exception):
    """The process has no answer and will have none; the work is the caller's again."""


class Companion:
    """One process with one torch thread, started when it is made."""

    def __init__(self) -> None:
        self._answers: queue.Queue[tuple[bool, Any] | None] = queue.Queue()
        self._process = spawned("drelu_cli.runtime.companion", ONE_THREAD)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns over there.

        Raises:
            CompanionLost: the process ended, or the call cannot be pickled.
            Stopped: the drive that this is a part of was told to stop; the process is ended.
            Exception: what the function raised.
        """
        try:
            sent = pickle.dumps((function, arguments), protocol=pickle.HIGHEST_PROTOCOL)
            _put(self._process.stdin, sent)
        except (OSError, pickle.PicklingError, TypeError, AttributeError):
            raise CompanionLost from None
        while True:
            if stop_asked():
                self.close()
                raise Stopped
            with contextlib.suppress(queue.Empty):
                answer = self._answers.get(timeout=_LOOK_EVERY)
                break
        if answer is None:
            self.close()
            raise CompanionLost
        worked, value = answer
        if not worked:
            raise value
        return value

    def close(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        close_pipes(self._process)

    def _read(self) -> None:
        """Takes answers from the pipe until it ends."""
        out = self._process.stdout
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while out is not None:
                self._answers.put(pickle.load(out))  # noqa: S301 - written by our own process
        self._answers.put(None)


class _Company:
    """The companions of this process."""

    owner: int = 0
    members: list[Companion] = []  # noqa: RUF012 - one list for the whole process is meant


def companions(count: int) -> list[Companion]:
    """`count` companions, started where they are missing; they live until this process ends."""
    if _Company.owner != os.getpid():  # a forked child has none of its parent's
        _Company.owner, _Company.members = os.getpid(), []
    for one in company():
        if not one.alive:
            one.close()
            _Company.members.remove(one)
    while len(_Company.members) < count:
        _Company.members.append(Companion())
    return _Company.members[:count]


def company() -> list[Companion]:
    """Those that are there already."""
    return list(_Company.members) if _Company.owner == os.getpid() else []


@atexit.register
def dismiss() -> None:
    """Ends all companions."""
    for one in company():
        one.close()
    _Company.members = []


def main(arguments: list[str]) -> int:
    """Answers calls until stdin ends."""
    follow(int(arguments[0]))
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    keep_pipes()
    keep_freed_memory()
    while True:
        try:
            function, given = pickle.load(calls)  # noqa: S301 - by our own parent
        except EOFError:
            return 0
        try:
            found = (True, function(*given))
        except Exception as problem:  # noqa: BLE001 - it is raised again where it was asked for
            found = (False, problem)
        _put(answers, pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL))


def _put(pipe: BinaryIO | Any, what: bytes) -> None:
    pipe.write(what)
    pipe.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
