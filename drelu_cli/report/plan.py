"""What `drelu sweep --dry-run` shows: one row per training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rich import box
from rich.table import Table


class PlannedJob(Protocol):
    """What a row needs to know of a job."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def label(self) -> str:
        """The treatment in tables."""

    @property
    def trained(self) -> bool:
        """Found finished in the store."""

    @property
    def stored(self) -> int:
        """Attacks found finished in the store."""

    @property
    def tasks(self) -> tuple[object, ...]:
        """All attacks."""


def plan_table(jobs: Iterable[PlannedJob]) -> Table:
    """A row per training: what is in the store, what is to do."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("model", "treatment", "training"):
        table.add_column(heading, no_wrap=True)
    table.add_column("attacks stored", justify="right", no_wrap=True)
    for job in jobs:
        state = "in the store" if job.trained else "to do"
        table.add_row(job.name, job.label, state, f"{job.stored} of {len(job.tasks)}")
    return table
