"""How long a plan takes on so many slots: to book a cluster before anything runs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drelu_cli.core.errors import BadValue
from drelu_cli.workflows.estimate import Estimate

KINDS = ("gpu", "cpu")
_EXAMPLE = '--simulate "gpu=64"'


@dataclass(frozen=True)
class Simulation:
    """A plan on slots, one job each; attacks begin when all trainings are done, as in a sweep.

    Attributes:
        kind: `gpu` or `cpu`.
        slots: how many jobs run at once.
        training_seconds: until the last training ends, at most.
        attack_seconds: from then until the last attack ends, as expected.
        longest_seconds: the longest training and the longest attack: no cluster is faster.
        sequential_seconds: the same on one slot.
        measured_on: the device whose passes were timed.
    """

    kind: str
    slots: int
    training_seconds: float
    attack_seconds: float
    longest_seconds: float
    sequential_seconds: float
    measured_on: str

    @property
    def seconds(self) -> float:
        """The makespan."""
        return self.training_seconds + self.attack_seconds

    @property
    def document(self) -> dict[str, Any]:
        """As in the JSON document of `drelu sweep --simulate`."""
        return {**vars(self), "seconds": self.seconds}


def parse_slots(text: str) -> tuple[str, int]:
    """`gpu=64` as kind and number.

    Raises:
        BadValue: anything else.
    """
    kind, equals, number = text.partition("=")
    if not equals or kind not in KINDS or not number.isdigit() or int(number) < 1:
        raise BadValue(f"--simulate {text} is no number of slots", hint=f'{_EXAMPLE}, or "cpu=8"')
    return kind, int(number)


def simulated(plan: Estimate, kind: str, slots: int) -> Simulation:
    """The plan of an estimate on `slots` slots, longest job first (Graham 1969)."""
    trainings = [job.training_seconds for job in plan.jobs]
    attacks = [job.attack_seconds for job in plan.jobs]
    return Simulation(
        kind=kind,
        slots=slots,
        training_seconds=makespan(trainings, slots),
        attack_seconds=makespan(attacks, slots),
        longest_seconds=max(trainings, default=0.0) + max(attacks, default=0.0),
        sequential_seconds=sum(trainings) + sum(attacks),
        measured_on=plan.device,
    )


def makespan(seconds: Sequence[float], slots: int) -> float:
    """When the last job ends if a free slot always takes the longest job that is left.

    Args:
        seconds: per job, >= 0.
        slots: >= 1.
    """
    free = [0.0] * min(slots, max(len(seconds), 1))
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + each)
    return max(free)
