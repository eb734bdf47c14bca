"""What a sweep with workers tells while it runs: to its own terminal, and to `--status`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drelu_cli.runtime.executor import Result
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.files import write_atomically
from drelu_cli.workflows.scratch import WORK, is_driven

STATUS_FILE = "status.json"
_WRITE_EVERY = 1.0
TRAINING, ATTACKS = "training", "attacks"


@dataclass
class _Phase:
    """Trainings, or attacks: one after the other.

    Attributes:
        jobs: how many there are.
        done: finished.
        failed: given up.
        seconds: spent on those that have ended.
    """

    jobs: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def ended(self) -> int:
        return self.done + self.failed


@dataclass
class _Running:
    """What a slot does."""

    job: str
    name: str
    what: str
    detail: str = ""
    epoch: int | None = None
    epochs: int | None = None
    began: float = field(default_factory=time.monotonic)


class Board:
    """Counts jobs, shows events and keeps `STORE/work/status.json`.

    Args:
        recipe: the sweep's name.
        context: its store, and whom it tells.
        width: how many jobs run at once.
    """

    def __init__(self, recipe: str, context: Context, width: int) -> None:
        self._recipe = recipe
        self._context = context
        self._width = width
        self._names: dict[str, str] = {}
        self._phases = {TRAINING: _Phase(), ATTACKS: _Phase()}
        self._what = TRAINING
        self._running: dict[str, _Running] = {}
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._written = 0.0

    def begin(self, what: str, names: Mapping[str, str]) -> None:
        """A phase begins.

        Args:
            what: TRAINING or ATTACKS.
            names: for people, by job.
        """
        self._what = what
        self._names = dict(names)
        self._phases[what].jobs = len(names)
        self._write(now=True)

    def widen(self, width: int) -> None:
        """How many jobs run at once, once that is known."""
        self._width = width

    def expect(self, attacks: int) -> None:
        """How many jobs of attacks will follow, so that they count as queued."""
        self._phases[ATTACKS].jobs = attacks

    def event(self, job: str, place: str, kind: str, fields: Mapping[str, Any]) -> None:
        """What an executor tells."""
        name = self._names.get(job, job)
        if kind in ("started", "again"):
            self._forget(job)  # a second try may be at another place
            self._running[place] = _Running(job, name, self._what)
            again = f", try {fields['tries']}" if kind == "again" else ""
            self._context.progress(
                "slot", {"slot": place, "job": name, "state": f"{self._what}{again}"}
            )
        else:
            self._note(place, kind, fields)
            self._context.progress(
                "slot", {"slot": place, "job": name, "kind": kind, "fields": fields}
            )
        self._write()

    def ended(self, result: Result, error: str | None) -> None:
        """A job is done, or has failed."""
        phase = self._phases[self._what]
        phase.done += error is None
        phase.failed += error is not None
        phase.seconds += result.seconds
        name = self._names.get(result.name, result.name)
        self._forget(result.name)
        state = (
            f"{self._what} done, {result.seconds:.1f} s" if error is None else f"failed: {error}"
        )
        at = {"number": phase.ended, "of": phase.jobs}
        self._context.progress("job", {**at, "job": name, "state": state})
        self._write()

    def _forget(self, job: str) -> None:
        self._running = {place: one for place, one in self._running.items() if one.job != job}

    def close(self) -> None:
        """The sweep has ended."""
        with contextlib.suppress(OSError):
            (self._context.store / WORK / STATUS_FILE).unlink(missing_ok=True)

    @property
    def document(self) -> dict[str, Any]:
        """What `--status` shows; times in seconds.

        `seconds_left` is of the trainings, then of the attacks; null before one has ended.
        """
        phases = self._phases.values()
        ended = sum(one.ended for one in phases)
        return {
            "recipe": self._recipe,
            "pid": os.getpid(),
            "started": self._started,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "queued": sum(one.jobs for one in phases) - ended - len(self._running),
            "running": [
                {
                    "where": place,
                    "job": one.name,
                    "what": one.what,
                    "epoch": one.epoch,
                    "epochs": one.epochs,
                    "detail": one.detail,
                    "seconds": round(time.monotonic() - one.began, 1),
                }
                for place, one in sorted(self._running.items())
            ],
            "done": sum(one.done for one in phases),
            "failed": sum(one.failed for one in phases),
            "seconds_left": self._left(),
        }

    def _left(self) -> float | None:
        """Mean time of a job times what is left of the phase, over the slots."""
        phase = self._phases[self._what]
        if not phase.ended:
            return None
        each = phase.seconds / phase.ended
        return round((phase.jobs - phase.ended) * each / self._width, 1)

    def _note(self, place: str, kind: str, fields: Mapping[str, Any]) -> None:
        one = self._running.get(place)
        if one is None:
            return
        if kind == "epoch":
            one.epoch, one.epochs = fields["done"], fields["of"]
        elif kind in ("attacking", "attack"):
            one.detail = f"{fields['attack']} at eps {fields['eps']:g}"

    def _write(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._written < _WRITE_EVERY:
            return
        self._written = time.monotonic()
        file = self._context.store / WORK / STATUS_FILE
        with contextlib.suppress(OSError):  # a full disk must not stop the sweep for its status
            write_atomically(file, json.dumps(self.document, indent=2) + "\n")


def status(root: Path) -> dict[str, Any] | None:
    """What the sweep with workers on the store at `root` does; None where none runs."""
    file = root / WORK / STATUS_FILE
    if not is_driven(root):
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # it has only just begun
    return found
