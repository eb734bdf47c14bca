"""What `drelu sweep --dry-run` shows: one row per training, and what is still to be spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

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


def estimate_lines(estimate: Mapping[str, Any]) -> list[str]:
    """Sentences about an estimate's document.

    Args:
        estimate: as in the JSON document of `drelu sweep --dry-run`.
    """
    if not estimate["trainings"] and not estimate["evaluations"]:
        return ["everything is in the store"]
    lines = [
        f"to train: {estimate['trainings']}, on {estimate['training_images']:,} images, epochs "
        f"multiplied out: at most {duration(estimate['training_seconds'])}",
        f"to attack: {estimate['evaluations']} times, {estimate['attacked_images']:,} images in "
        f"all: about {duration(estimate['expected_attack_seconds'])}, at most "
        f"{duration(estimate['attack_seconds'])}",
        f"disk: {size_text(estimate['bytes'])}",
        f"one after the other on {estimate['device']}; at most: nothing stops or breaks early; "
        "from steps of every scheme and attack timed just now; passes of the model alone:",
    ]
    lines += [_speed_line(speed) for speed in estimate["speeds"]]
    return lines


def simulation_lines(simulation: Mapping[str, Any]) -> list[str]:
    """Sentences about the plan on so many slots.

    Args:
        simulation: as in the JSON document of `drelu sweep --simulate`.
    """
    slots, kind, measured = simulation["slots"], simulation["kind"], simulation["measured_on"]
    lines = [
        f"on {slots} {kind} slots, longest job first: {duration(simulation['seconds'])} "
        f"(trainings at most {duration(simulation['training_seconds'])}, then attacks about "
        f"{duration(simulation['attack_seconds'])}); on one: "
        f"{duration(simulation['sequential_seconds'])}",
        f"no number of slots is faster than {duration(simulation['longest_seconds'])}: the longest "
        "training and the longest attacks",
    ]
    if (kind == "gpu") != measured.startswith("cuda"):
        lines.append(f"passes were timed on {measured}: run this on such a {kind} for its times")
    return lines


def _speed_line(speed: Mapping[str, Any]) -> str:
    return (
        f"  {speed['model']}: {_micro(speed['forward'])} forward, "
        f"{_micro(speed['gradient'])} with the input gradient, {_micro(speed['step'])} with "
        f"the weights' ({speed['batch']} images at once, {speed['threads']} threads)"
    )


def duration(seconds: float) -> str:
    """Seconds as `50 s`, `12 min`, `3.5 h` or `12 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size_text(count: float) -> str:
    """Bytes as `800 kB`, `12 MB` or `3.4 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _micro(seconds: float) -> str:
    """Time per image."""
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
