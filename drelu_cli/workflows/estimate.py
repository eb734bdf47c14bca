"""What a plan will cost: time and disk, from passes that are timed on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from drelu_cli.attacks.costs import allotted, typical
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.registry import Bound
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import as_float
from drelu_cli.runtime.devices import pick_device
from drelu_cli.runtime.timing import PassTimes, measure_passes
from drelu_cli.training.costs import scheme_cost
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.fitting import build_model
from drelu_cli.workflows.plan import Task, Wanted, tasks_for

_MEASURED_ON = 128
# Passes of the court on a sample that nothing breaks, beside the attacks of the suite: remedies
# and as much again for the control. Measured on dense D-ReLU nets: docs/benchmarks/court.md.
COURT_PASSES = 22_000
# Bytes beside the weights. Of an evaluation: a line through the mean growth of five attacks on
# 100 to 10,000 images, by the measurement behind docs/benchmarks/runners.md.
TRAINING_BYTES = 5_000
EVALUATION_BYTES = 4_000
SAMPLE_BYTES = 2.15


@dataclass(frozen=True)
class Planned:
    """A training of the plan with what is still to do of it.

    Attributes:
        recipe: effective.
        data: its data set.
        train: whether the training is still to do.
        tasks: the attacks that are still to do, on its result and on weights along it.
        wanted: what they are part of.
        moments: weights along the training that are kept.
    """

    recipe: Recipe
    data: DataSplits
    train: bool
    tasks: Sequence[Task]
    wanted: Wanted
    moments: int = 0


@dataclass(frozen=True)
class Speed:
    """Measured passes of one architecture on one data set.

    Attributes:
        name: `dense on mnist`.
        passes: seconds per image.
        weights: parameters and buffers in bytes.
    """

    name: str
    passes: PassTimes
    weights: int


@dataclass(frozen=True)
class JobTime:
    """What one job is expected to take, in seconds.

    Attributes:
        training_seconds: at most.
        attack_seconds: as expected.
    """

    training_seconds: float
    attack_seconds: float


@dataclass(frozen=True)
class Estimate:
    """What is still to do.

    Attributes:
        trainings: still to do.
        evaluations: attacks on one model, still to do.
        training_images: images that the trainings see, epochs multiplied out.
        attacked_images: samples of the evaluations, added up.
        training_seconds: at most, one after the other: no training stops early.
        attack_seconds: at most, one after the other: no sample breaks early.
        expected_attack_seconds: with the shares of passes that runs on MNIST nets took.
        bytes: that the store will grow by.
        speeds: what was measured.
        device: where.
        jobs: the same, job by job.
    """

    trainings: int
    evaluations: int
    training_images: int
    attacked_images: int
    training_seconds: float
    attack_seconds: float
    expected_attack_seconds: float
    bytes: int
    speeds: tuple[Speed, ...]
    device: str
    jobs: tuple[JobTime, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """As in the JSON document of `drelu sweep --dry-run`."""
        nested = ("speeds", "jobs")
        flat = {name: value for name, value in vars(self).items() if name not in nested}
        speeds = [{"model": one.name, **asdict(one.passes)} for one in self.speeds]
        return {**flat, "speeds": speeds}


def estimate(planned: Iterable[Planned], context: Context) -> Estimate:
    """Times a few passes of every architecture and multiplies out.

    Args:
        planned: one entry per job; a training that several jobs share is marked in one of them.
        context: device.
    """
    device = pick_device(context.device)
    speeds: dict[str, Speed] = {}
    train_seconds = attack_seconds = expected = 0.0
    train_images = attacked = trainings = evaluations = size = 0
    times: list[JobTime] = []
    for job in planned:
        if not job.train and not job.tasks:
            continue
        speed = _speed(job, speeds, device, context)
        before = train_seconds
        if job.train:
            trainings += 1
            size += (speed.weights + TRAINING_BYTES) * (1 + job.moments)
            for images, seconds in _phases(job, speed.passes):
                train_images += images
                train_seconds += seconds
        samples = min(job.wanted.samples, len(job.data.test))
        evaluations += len(job.tasks)
        attacked += samples * len(job.tasks)
        size += round(len(job.tasks) * (EVALUATION_BYTES + samples * SAMPLE_BYTES))
        attack_seconds += samples * _attack_seconds(job, speed.passes, allotted)
        attack_expected = samples * _attack_seconds(job, speed.passes, typical)
        expected += attack_expected
        times.append(JobTime(train_seconds - before, attack_expected))
    return Estimate(
        trainings, evaluations, train_images, attacked, train_seconds, attack_seconds, expected,
        size, tuple(speeds.values()), str(device), tuple(times),
    )  # fmt: skip


def _speed(job: Planned, speeds: dict[str, Speed], device: torch.device, context: Context) -> Speed:
    """Passes of the architecture with its options, timed once, whatever the activation."""
    model = job.recipe.model
    at = "" if model.placement == "head" else f" ({model.placement})"
    name = f"{model.name}{at} on {job.recipe.data.name}"
    options = ", ".join(f"{key}={value}" for key, value in (model.model_extra or {}).items())
    key = f"{name}, {options}"
    if key not in speeds:
        if any(one.name == name for one in speeds.values()):
            name = key  # the same architecture with other options
        context.note(f"timing passes: {name}")
        net = build_model(job.recipe, job.data).to(device)
        images = as_float(job.data.train.images[:_MEASURED_ON]).to(device)
        labels = job.data.train.labels[:_MEASURED_ON].to(device)
        state = net.state_dict().values()
        size = sum(one.numel() * one.element_size() for one in state)
        speeds[key] = Speed(name, measure_passes(net, images, labels), size)
    return speeds[key]


def _phases(job: Planned, passes: PassTimes) -> Iterator[tuple[int, float]]:
    """Images and seconds of each phase and each basin hop."""
    limit = job.recipe.data.train_samples
    size = len(job.data.train) if limit is None else min(limit, len(job.data.train))
    hop = job.recipe.phase[-1].model_copy(update={"epochs": job.recipe.train.hop_epochs})
    for phase in (*job.recipe.phase, *[hop] * job.recipe.train.hops):
        cost = scheme_cost(phase.scheme, phase.options)
        images = size * (phase.epochs or 0)
        each = (
            cost.forwards * passes.forward
            + cost.gradients * passes.gradient
            + cost.steps * passes.step
        )
        yield images, images * each


def _attack_seconds(
    job: Planned, passes: PassTimes, budget: Callable[[Bound, int], float]
) -> float:
    """Seconds per sample: gradient attacks in pairs of passes, Square forward only."""
    seconds = 0.0
    for task in job.tasks:
        each = passes.forward if task.bound.name == "square" else passes.gradient / 2
        seconds += budget(task.bound, job.data.classes) * each
    whole = tasks_for(job.recipe.data.name, replace(job.wanted, max_steps=None))
    every = tasks_for(job.recipe.data.name, job.wanted)
    if job.wanted.adaptive and every == whole:  # nets whose attacks were cut are not examined
        seconds += len(job.tasks) / len(every) * COURT_PASSES * passes.gradient / 2
    return seconds
