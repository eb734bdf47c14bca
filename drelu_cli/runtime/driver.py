"""The micro-batch driver that all attacks share.

An attack is two functions over a set of active samples: `start` gives newly admitted samples
their state, `step` advances every active sample once. The driver admits samples from the queue,
writes finished ones back, drops them once a small share of the micro-batch is done, refills, and
halves the micro-batch when CUDA memory runs out. Samples at different steps share a batch, so
counters are tensors with one entry per sample, as everything else in the state is.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drelu_cli.core.errors import BadValue, InternalError

Rows = dict[str, Tensor]
"""Named tensors that share their leading dimension: one row per sample."""

# Measured on dense nets: 512 takes 1.05 to 1.1 times as long, 2048 no less.
DEFAULT_MICRO_BATCH = 1024
# Dropping finished samples copies the whole state: it pays once this share of it is done
# (measured on dense nets: 1/32 takes 0.87 of the time that 1/8 takes, 1/512 no less).
_COMPACT_SHARE = 1 / 32

_size: ContextVar[int] = ContextVar("micro_batch", default=DEFAULT_MICRO_BATCH)
_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


class MicroBatchHalved(UserWarning):
    """CUDA memory ran out; the attack goes on with half the micro-batch."""


@contextmanager
def micro_batch(size: int) -> Iterator[None]:
    """Lets drives inside the block work on at most `size` samples at a time.

    Outcomes do not depend on it (float64: exactly; float32: up to rounding in matrix products).

    Raises:
        BadValue: `size` below 1.
    """
    if size < 1:
        raise BadValue(
            f"micro-batch {size} is below 1", hint=f"{DEFAULT_MICRO_BATCH} is the default"
        )
    token = _size.set(size)
    try:
        yield
    finally:
        _size.reset(token)


class Stopped(Exception):
    """The caller of a drive in another thread wants no result any more."""


@contextmanager
def stoppable(event: threading.Event) -> Iterator[None]:
    """Lets drives inside the block end with `Stopped` at their next step once `event` is set."""
    token = _stop.set(event)
    try:
        yield
    finally:
        _stop.reset(token)


def stop_asked() -> bool:
    """Whether the event of `stoppable` is set: the caller wants no result any more."""
    event = _stop.get()
    return event is not None and event.is_set()


def micro_batch_size() -> int:
    """The number of samples a drive works on at a time."""
    return _size.get()


def count(rows: Rows) -> int:
    """How many samples `rows` holds."""
    return len(next(iter(rows.values())))


def taken(rows: Rows, selection: Tensor | slice) -> Rows:
    """Some of the samples, by mask, indices or slice."""
    if isinstance(selection, Tensor):
        # index_select copies whole samples: several times faster than indexing by a mask.
        chosen = selection.nonzero()[:, 0] if selection.dtype == torch.bool else selection
        return {name: rows[name].index_select(0, chosen) for name in rows}
    return {name: rows[name][selection] for name in rows}


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Per sample: `yes` where `mask` (n,), else `no`; both (n, ...); always a new tensor."""
    if mask.is_cpu and yes.dim() > 1 and yes.shape == no.shape and yes.dtype == no.dtype:
        # Only what is chosen is copied over: half the time of an elementwise choice.
        chosen = mask.nonzero()[:, 0]
        if len(chosen) == len(mask):
            return yes.clone()
        return no.index_copy(0, chosen, yes.index_select(0, chosen))
    return torch.where(mask.view(-1, *[1] * (yes.dim() - 1)), yes, no)


def drive(
    queue: Rows,
    start: Callable[[Rows], Rows],
    step: Callable[[Rows], Rows],
    *,
    keep: Sequence[str],
) -> Rows:
    """Runs every sample of `queue` from `start` until its state says `done`.

    Args:
        queue: all samples, each tensor (N, ...). At most `micro_batch_size()` of them are
            active at a time, so memory beyond queue and result is bounded by that.
        start: queue rows -> state of newly admitted samples; must contain `done`, (n,) bool.
            It should not call the model: what it starts joins the next step's batch.
        step: state -> state of all active samples. It returns new tensors and never writes
            into those it was given, so that it can be repeated on half of them. A sample that
            is `done` may be stepped a few times more; what it does then is ignored.
        keep: the state's names that make up the result.

    Returns:
        The kept tensors, (N, ...), as they were when each sample became done.

    Raises:
        Stopped: inside `stoppable`, once its event is set.
    """
    if count(queue) == 0:
        empty = start(queue)
        return {name: empty[name] for name in keep}
    run = _Run(queue, start, step, tuple(keep), micro_batch_size())
    while run.admit():
        if stop_asked():
            raise Stopped
        run.collect()
        if not run.compact():
            run.advance()
    return run.results


@dataclass
class _Batch:
    """Active samples: their state, their rows in the queue, whether already written back."""

    state: Rows
    rows: Tensor
    written: Tensor

    def taken(self, selection: Tensor | slice) -> _Batch:
        if isinstance(selection, Tensor):
            selection = selection.nonzero()[:, 0]
        return _Batch(taken(self.state, selection), self.rows[selection], self.written[selection])

    def with_more(self, other: _Batch) -> _Batch:
        state = {name: torch.cat([self.state[name], other.state[name]]) for name in self.state}
        rows = torch.cat([self.rows, other.rows])
        return _Batch(state, rows, torch.cat([self.written, other.written]))


@dataclass
class _Run:
    """One drive under way."""

    queue: Rows
    start: Callable[[Rows], Rows]
    step: Callable[[Rows], Rows]
    keep: tuple[str, ...]
    capacity: int
    results: Rows = field(default_factory=dict)
    batch: _Batch | None = None
    next_row: int = 0
    # Halves that were split off when memory ran out, in the middle of their steps.
    parked: list[_Batch] = field(default_factory=list)

    @property
    def active(self) -> int:
        return 0 if self.batch is None else len(self.batch.rows)

    def admit(self) -> bool:
        """Fills the micro-batch; False once nothing is left to do."""
        while self.active < self.capacity and (self.parked or self.next_row < count(self.queue)):
            more = self.parked.pop() if self.parked else self._started()
            if more is None:
                continue
            room = self.capacity - self.active
            if len(more.rows) > room:
                self.parked.append(more.taken(slice(room, None)))
                more = more.taken(slice(room))
            self.batch = more if self.batch is None else self.batch.with_more(more)
        return self.batch is not None

    def collect(self) -> None:
        """Writes newly finished samples into the results."""
        assert self.batch is not None
        fresh = (self.batch.state["done"] & ~self.batch.written).nonzero()[:, 0]
        if len(fresh) == 0:
            return
        rows = self.batch.rows[fresh]
        for name in self.keep:
            values = self.batch.state[name]
            if name not in self.results:
                self.results[name] = values.new_zeros((count(self.queue), *values.shape[1:]))
            self.results[name][rows] = values[fresh]
        self.batch.written[fresh] = True

    def compact(self) -> bool:
        """Drops finished samples where enough of them are; True where it did."""
        assert self.batch is not None
        written = int(self.batch.written.sum())
        if written == 0 or written < _COMPACT_SHARE * self.active:
            return False
        self.batch = None if written == self.active else self.batch.taken(~self.batch.written)
        return True

    def advance(self) -> None:
        """One step of all active samples, or a smaller micro-batch."""
        assert self.batch is not None
        state = _unless_out_of_memory(self.step, self.batch.state)
        if state is not None:
            _check_detached(state)
            self.batch.state = state
            return
        self._halve(self.active)
        self.parked.append(self.batch.taken(slice(self.capacity, None)))
        self.batch = self.batch.taken(slice(self.capacity))

    def _started(self) -> _Batch | None:
        """The next samples of the queue with their first state; None where memory ran out."""
        end = min(self.next_row + self.capacity - self.active, count(self.queue))
        fresh = taken(self.queue, slice(self.next_row, end))
        state = _unless_out_of_memory(self.start, fresh)
        if state is None:
            self._halve(self.active + end - self.next_row)
            return None
        rows = torch.arange(self.next_row, end, device=state["done"].device)
        self.next_row = end
        return _Batch(state, rows, torch.zeros_like(state["done"]))

    def _halve(self, tried: int) -> None:
        if tried <= 1:
            raise torch.cuda.OutOfMemoryError("CUDA memory does not hold a single sample")
        self.capacity = max(tried // 2, 1)
        warnings.warn(
            f"CUDA memory ran out with {tried} samples; going on with {self.capacity}",
            MicroBatchHalved,
            stacklevel=4,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _check_detached(state: Rows) -> None:
    # A graph that goes on from step to step keeps every tensor of every step alive.
    attached = [name for name, values in state.items() if values.requires_grad]
    if attached:
        raise InternalError(
            f"a step of an attack returned {', '.join(attached)} with an autograd graph",
            hint="compute the state under torch.no_grad(), or detach it",
        )


def _unless_out_of_memory(function: Callable[[Rows], Rows], rows: Rows) -> Rows | None:
    # The exception keeps the failed pass's tensors alive: it must be gone before another try.
    try:
        return function(rows)
    except torch.cuda.OutOfMemoryError:
        return None
