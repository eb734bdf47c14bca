"""What a sweep did: how many trainings and evaluations, and what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drelu_cli.workflows.estimate import Estimate
from drelu_cli.workflows.jobs import Job
from drelu_cli.workflows.simulate import Simulation


@dataclass
class Tally:
    """How many of something were planned, found, done and failed."""

    planned: int = 0
    reused: int = 0
    done: int = 0
    failed: int = 0

    def as_json(self) -> dict[str, int]:
        """As in the JSON document."""
        return vars(self).copy()


@dataclass
class SweepReport:
    """What `sweep` did.

    Attributes:
        recipe: the recipe's name.
        jobs: the plan.
        trainings: planned, reused, done, failed.
        evaluations: the same; a failed training fails its evaluations.
        failures: job and error, for each training or attack that failed.
        model_keys: keys of the models that the sweep is about.
        tried: keys of the trainings that were begun or found.
        stacked: trainings that ran as one program with others, or would.
        seconds: wall time.
        estimate: what is still to do; of a dry run only.
        simulation: the same on so many slots, where asked for.
    """

    recipe: str
    jobs: tuple[Job, ...]
    trainings: Tally = field(default_factory=Tally)
    evaluations: Tally = field(default_factory=Tally)
    failures: list[dict[str, str]] = field(default_factory=list)
    model_keys: list[str] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    stacked: int = 0
    seconds: float = 0.0
    estimate: Estimate | None = None
    simulation: Simulation | None = None

    @property
    def against(self) -> str | None:
        """The published table that the recipe's `[report]` puts beside the results."""
        return next((job.recipe.report.against for job in self.jobs), None) or None

    @property
    def moments(self) -> int:
        """Weights along the trainings of the plan that become models of their own, at most."""
        return sum({job.key: job.moments for job in self.jobs}.values())

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu sweep`."""
        return {
            "recipe": self.recipe,
            "trainings": self.trainings.as_json(),
            "evaluations": self.evaluations.as_json(),
            "stacked": self.stacked,
            "failures": self.failures,
            "seconds": self.seconds,
            "estimate": None if self.estimate is None else self.estimate.document,
            "simulation": None if self.simulation is None else self.simulation.document,
        }
