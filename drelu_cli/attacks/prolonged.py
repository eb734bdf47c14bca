"""Searches that go on where a shorter run of theirs ended, instead of repeating what it did.

A search whose numbers are counted walks the same way whatever its length: a run of 10,000 queries
begins with the run of 5,000. A caller who has the shorter run's end at hand lends it (`going_on`);
the longer run takes it up (`shorter_run`) and gives what it would have given from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Ended:
    """Where a run ended that broke none of these samples.

    Attributes:
        points: (N, ...) the points that it returned.
        forwards: (N,) int64, passes that it took.
        backwards: (N,) int64.
        length: the value of the option that a longer run prolongs, e.g. 5,000 queries.
    """

    points: Tensor
    forwards: Tensor
    backwards: Tensor
    length: int

    def rows(self, selection: Tensor) -> Ended:
        """Some of the samples, by mask or indices."""
        return Ended(
            self.points[selection],
            self.forwards[selection],
            self.backwards[selection],
            self.length,
        )


_ended: ContextVar[Ended | None] = ContextVar("ended", default=None)


@contextmanager
def going_on(ended: Ended | None) -> Iterator[None]:
    """Lends the end of a shorter run to the attack that is called inside the block.

    Args:
        ended: of the same attack with the same options but a smaller length, on the same model,
            samples, threat and seed; None: the attack begins at its start.
    """
    token = _ended.set(ended)
    try:
        yield
    finally:
        _ended.reset(token)


def shorter_run(length: int) -> Ended | None:
    """The run to go on from, where the caller has lent one shorter than `length`."""
    ended = _ended.get()
    return ended if ended is not None and ended.length < length else None
