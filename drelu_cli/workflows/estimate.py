"""What a plan will cost: time and disk, from steps and attacks that are timed on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from drelu_cli.attacks.costs import allotted, typical_share
from drelu_cli.core.recipe import Phase, Recipe
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import as_float
from drelu_cli.runtime.devices import pick_device
from drelu_cli.runtime.timing import PassTimes, measure_passes
from drelu_cli.workflows.clocks import AttackClock, TrainingClock, attack_clock, training_clock
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.fitting import build_model
from drelu_cli.workflows.plan import Task, Wanted, tasks_for

_T = TypeVar("_T")
_MEASURED_ON = 128
# Passes of the court on a sample that nothing breaks, beside the attacks of the suite: remedies
# and as much again for the control. Measured on dense D-ReLU nets: docs/benchmarks/court.md.
COURT_PASSES = 22_000
_REMEDY = "apgd_ce"  # what remedies and the control run takes what this takes
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
        passes: seconds per image at so many images at once.
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
    """Times a few steps of every scheme and attack on every architecture and multiplies out.

    Args:
        planned: one entry per job; a training that several jobs share is marked in one of them.
        context: device.
    """
    device = pick_device(context.device)
    clocks = _Clocks(device, context)
    train_seconds = attack_seconds = expected = 0.0
    train_images = attacked = trainings = evaluations = size = 0
    times: list[JobTime] = []
    for job in planned:
        if not job.train and not job.tasks:
            continue
        before = train_seconds
        if job.train:
            trainings += 1
            size += (clocks.speed(job).weights + TRAINING_BYTES) * (1 + job.moments)
            for images, seconds in _phases(job, clocks):
                train_images += images
                train_seconds += seconds
        samples = min(job.wanted.samples, len(job.data.test))
        evaluations += len(job.tasks)
        attacked += samples * len(job.tasks)
        size += round(len(job.tasks) * (EVALUATION_BYTES + samples * SAMPLE_BYTES))
        most, likely = _attack_seconds(job, samples, clocks)
        attack_seconds += most
        expected += likely
        times.append(JobTime(train_seconds - before, likely))
    return Estimate(
        trainings, evaluations, train_images, attacked, train_seconds, attack_seconds, expected,
        size, tuple(clocks.speeds.values()), str(device), tuple(times),
    )  # fmt: skip


@dataclass
class _Clocks:
    """What was timed, each once: per architecture, activation, scheme and attack."""

    device: torch.device
    context: Context
    speeds: dict[str, Speed] = field(default_factory=dict)
    _nets: dict[str, nn.Module] = field(default_factory=dict)
    _trainings: dict[str, TrainingClock] = field(default_factory=dict)
    _attacks: dict[str, AttackClock] = field(default_factory=dict)

    def speed(self, job: Planned) -> Speed:
        """Passes of the architecture with its options, timed once, whatever the activation."""
        name, key = _names(job.recipe)
        if key not in self.speeds:
            if any(one.name == name for one in self.speeds.values()):
                name = key  # the same architecture with other options
            self.context.note(f"timing: {name}")
            net = build_model(job.recipe, job.data).to(self.device)
            images = as_float(job.data.train.images[:_MEASURED_ON]).to(self.device)
            labels = job.data.train.labels[:_MEASURED_ON].to(self.device)
            state = net.state_dict().values()
            size = sum(one.numel() * one.element_size() for one in state)
            self.speeds[key] = Speed(name, measure_passes(net, images, labels), size)
        return self.speeds[key]

    def training(self, job: Planned, phase: Phase) -> TrainingClock:
        """Of a phase on this network."""
        scheme = f"{phase.scheme} {phase.options} {job.recipe.train.batch}"
        key = f"{_names(job.recipe)[1]} {job.recipe.activation.name} {scheme}"

        def timed() -> TrainingClock:
            passes = self.speed(job).passes
            return training_clock(job.recipe, phase, job.data, self.device, passes)

        return _once(self._trainings, key, timed)

    def attack(self, job: Planned, task: Task) -> AttackClock:
        """Of an attack on this network."""
        net = f"{_names(job.recipe)[1]} {job.recipe.activation.name}"
        key = f"{net} {task.bound.name} {task.bound.given} {task.threat.norm}"

        def timed() -> AttackClock:
            model = _once(self._nets, net, lambda: build_model(job.recipe, job.data))
            passes = self.speed(job).passes
            return attack_clock(
                model.to(self.device), job.data, task.bound, task.threat.norm, passes
            )

        return _once(self._attacks, key, timed)


def _once(kept: dict[str, _T], key: str, make: Callable[[], _T]) -> _T:
    """What is kept under `key`; made where nothing is."""
    if key not in kept:
        kept[key] = make()
    return kept[key]


def _names(recipe: Recipe) -> tuple[str, str]:
    """An architecture on a data set for people, and with its options."""
    model = recipe.model
    at = "" if model.placement == "head" else f" ({model.placement})"
    name = f"{model.name}{at} on {recipe.data.name}"
    options = ", ".join(f"{key}={value}" for key, value in (model.model_extra or {}).items())
    return name, f"{name}, {options}"


def _phases(job: Planned, clocks: _Clocks) -> Iterator[tuple[int, float]]:
    """Images and seconds of each phase and each basin hop."""
    section, train = job.recipe.data, job.recipe.train
    size = _limited(len(job.data.train), section.train_samples)
    held_out = _limited(len(job.data.validation), section.validation_samples)
    hop = job.recipe.phase[-1].model_copy(update={"epochs": train.hop_epochs})
    for phase in (*job.recipe.phase, *[hop] * train.hops):
        epochs = phase.epochs or 0
        if not epochs:
            continue
        clock = clocks.training(job, phase)
        each = size * clock.image + clock.state
        if train.validation:
            each += held_out * clock.validated
        yield epochs * size, epochs * each


def _limited(count: int, most: int | None) -> int:
    return count if most is None else min(count, most)


def _attack_seconds(job: Planned, samples: int, clocks: _Clocks) -> tuple[float, float]:
    """Seconds at most and as expected of the attacks, and of the court where it follows."""
    most = likely = 0.0
    for task in job.tasks:
        clock = clocks.attack(job, task)
        passes = allotted(task.bound, job.data.classes)
        most += clock.seconds(passes, samples)
        likely += clock.seconds(passes, samples, typical_share(task.bound))
    whole = tasks_for(job.recipe.data.name, replace(job.wanted, max_steps=None))
    every = tasks_for(job.recipe.data.name, job.wanted)
    cut = [one.bound.identity for one in every] != [one.bound.identity for one in whole]
    if job.tasks and job.wanted.adaptive and not cut:  # cut attacks are not examined
        gradient = next((one for one in every if one.bound.name == _REMEDY), every[0])
        passes = round(len(job.tasks) / len(every) * COURT_PASSES)
        court = clocks.attack(job, gradient).seconds(passes, samples)
        most, likely = most + court, likely + court
    return most, likely
