"""How long training steps and attacks take here: real ones, cut short and timed on the spot."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from drelu_cli.attacks.costs import allotted
from drelu_cli.core.recipe import Phase, Recipe
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import as_float
from drelu_cli.evaluation.judge import predict
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.driver import DEFAULT_MICRO_BATCH
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.timing import PassTimes, median_seconds
from drelu_cli.training.batches import Images
from drelu_cli.training.costs import scheme_cost
from drelu_cli.training.fit import Fit
from drelu_cli.training.resume import save_state
from drelu_cli.training.validation import validated
from drelu_cli.workflows.fitting import prepared
from drelu_cli.workflows.plan import shortened

# Of a timed run of steps: long enough to read, short enough for a plan of many nets.
_AIM_SECONDS = 0.1
_BATCHES = 4
# Steps that a timed attack is cut to, and a radius within which it breaks nothing.
_STEPS = 4
_TINY_EPS = 1e-4
_FEW = 2
# Passes of a cut attack that are worth their time; one without such options stays whole.
_LONGEST = 500
# Where two images take longer than this, what comes on top of passes is little beside them.
_SLOW_SECONDS = 0.02


@dataclass(frozen=True)
class TrainingClock:
    """A scheme on one network.

    Attributes:
        image: seconds per training image and epoch: loss, gradients, optimiser, caps.
        validated: seconds per image of the validation split and epoch.
        state: seconds per epoch for the state on disk.
    """

    image: float
    validated: float
    state: float


@dataclass(frozen=True)
class AttackClock:
    """An attack on one network.

    Attributes:
        fixed: seconds that a pass of a batch takes whatever it holds.
        each: seconds per image more.
    """

    fixed: float
    each: float

    def seconds(self, passes: float, images: int, share: float = 1.0) -> float:
        """Of so many passes per image, on so many images that are attacked in lockstep.

        Args:
            passes: that an image takes which nothing breaks.
            images: how many.
            share: of the passes that an image takes on average; the last one left pays for all.
        """
        batches = math.ceil(images / DEFAULT_MICRO_BATCH)
        return passes * (batches * self.fixed + share * images * self.each)


def training_clock(
    recipe: Recipe, phase: Phase, data: DataSplits, device: torch.device, passes: PassTimes
) -> TrainingClock:
    """Times a few mini-batches of a phase, a part of its validation and one state on disk.

    A network whose passes are slow is billed by passes alone, and so is a scheme that cannot
    train this one (its sweep says why).

    Args:
        recipe: effective.
        phase: one of its phases.
        data: its data set.
        device: where it trains.
        passes: of this network, for a length that fits.
    """
    cost = scheme_cost(phase.scheme, phase.options)
    by_passes = (
        cost.forwards * passes.forward + cost.gradients * passes.gradient + cost.steps * passes.step
    )
    if _slow(passes):
        return TrainingClock(by_passes, by_passes, 0.0)
    fits = max(_FEW, int(_AIM_SECONDS / by_passes))
    batch = recipe.train.batch
    whole = min(fits // batch, _BATCHES) * batch
    alone = recipe.train.model_copy(update={"hops": 0})
    short = recipe.model_copy(update={"phase": [phase], "train": alone})
    try:
        images = _first(data, whole or fits, device)
        fit = prepared(short, data, device, (images, None))
        image = median_seconds(fit.train_epoch) / len(images)
        return TrainingClock(image, _validation_seconds(fit, images), _state_seconds(fit))
    except Exception:  # noqa: BLE001 - a plugin's error is the sweep's to tell, job by job
        return TrainingClock(by_passes, by_passes, 0.0)


def attack_clock(
    model: nn.Module, data: DataSplits, bound: Bound, norm: str, passes: PassTimes
) -> AttackClock:
    """Times an attack, cut to a few steps, on two images and on as many as were timed at once.

    The radius is so small that nothing breaks, and labels are the network's own predictions:
    every image takes all its passes. A network whose passes are slow is billed by passes alone,
    and so is an attack that cannot be cut or run here, or of which nobody knows its passes.

    Args:
        model: on its device.
        data: its data set.
        bound: the attack.
        norm: of its threat.
        passes: of this network.
    """
    each = passes.forward if bound.name == "square" else passes.gradient / 2
    if _slow(passes) or not 0 < allotted(shortened(bound, _STEPS), data.classes) <= _LONGEST:
        return AttackClock(0.0, each)
    device = next(model.parameters()).device
    threat = ThreatModel("l2" if norm == "l2" else "linf", _TINY_EPS)
    try:
        cut = shortened(bound, _STEPS)
        few, many = (
            _attack_seconds(model, data, cut, threat, count, device)
            for count in (_FEW, max(_FEW + 1, passes.batch))
        )
    except Exception:  # noqa: BLE001 - a plugin's error is the sweep's to tell, job by job
        return AttackClock(0.0, each)
    (count_few, time_few), (count_many, time_many) = few, many
    if count_many <= count_few or not time_few:
        return AttackClock(0.0, each)
    slope = max(0.0, (time_many - time_few) / (count_many - count_few))
    return AttackClock(max(0.0, time_few - count_few * slope), slope)


def _slow(passes: PassTimes) -> bool:
    return _FEW * passes.gradient > _SLOW_SECONDS


def _first(data: DataSplits, count: int, device: torch.device) -> Images:
    images, labels = data.train.images[:count], data.train.labels[:count]
    return Images(images.to(device), labels.to(device), torch.arange(len(labels)).to(device))


def _validation_seconds(fit: Fit, split: Images) -> float:
    """Per image of the validation split; the images are the training's, which cost the same."""
    scheme = fit.phases[0].scheme
    seconds = median_seconds(
        lambda: validated(
            fit.model, split, scheme, fit.lambda_, lambda index: fit.stream(index, "validation")
        )
    )
    return seconds / len(split)


def _state_seconds(fit: Fit) -> float:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder) / "state", fit.state())
    return time.perf_counter() - began


def _attack_seconds(
    model: nn.Module,
    data: DataSplits,
    bound: Bound,
    threat: ThreatModel,
    count: int,
    device: torch.device,
) -> tuple[int, float]:
    """How many images were attacked; seconds per pass that one of them took."""
    x = as_float(data.train.images[:count]).to(device)
    with evaluation_mode(model):
        y = predict(model, x)
    samples = Samples(torch.arange(len(x)).to(device), x, y)
    judged = run_attack(model, samples, bound, threat, seed=0)
    spent = max(one.forwards + one.backwards for one in judged.outcomes)
    seconds = median_seconds(lambda: run_attack(model, samples, bound, threat, seed=0))
    return len(x), seconds / spent if spent else 0.0
