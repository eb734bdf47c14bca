"""How long one pass through a model takes here: what estimates of a plan rest on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from drelu_cli.runtime.modes import evaluation_mode

# Large enough that the time of a pass is the work's, small enough for a deep net on a CPU.
_LONGEST_BATCH = 128
_SHORTEST_BATCH = 8
_AIM_SECONDS = 0.05
_REPEATS = 3
# A run this long is read once: what comes before the first one's end is little beside it.
_LONG_SECONDS = 0.5


@dataclass(frozen=True)
class PassTimes:
    """Seconds per image.

    Attributes:
        forward: a forward pass without gradients.
        gradient: forward and backward to the input, in evaluation mode.
        step: forward and backward to the weights, in training mode, without the optimiser.
        batch: images per pass that was timed.
        threads: of torch on a CPU.
    """

    forward: float
    gradient: float
    step: float
    batch: int
    threads: int


def measure_passes(model: nn.Module, images: Tensor, labels: Tensor) -> PassTimes:
    """Times passes through `model`: a warm-up each, then the median of three.

    Weights stay as they are; running statistics of batch norm move, so hand in a model that is
    not needed afterwards.

    Args:
        model: on its device.
        images: (N, C, H, W) float in [0, 1] on the same device; at most 128 are used.
        labels: (N,) int64.
    """
    one = median_seconds(lambda: _forward(model, images[:2]))
    fits = max(_SHORTEST_BATCH, int(2 * _AIM_SECONDS / max(one, 1e-6)))
    count = min(len(images), _LONGEST_BATCH, fits)
    x, y = images[:count], labels[:count]
    taken = len(x)
    return PassTimes(
        median_seconds(lambda: _forward(model, x)) / taken,
        median_seconds(lambda: _gradient(model, x, y)) / taken,
        median_seconds(lambda: _step(model, x, y)) / taken,
        taken,
        torch.get_num_threads(),
    )


def median_seconds(work: Callable[[], object]) -> float:
    """The median of a few runs after one that does not count; of a long one its own time.

    Args:
        work: is called up to four times.
    """
    began = time.perf_counter()
    work()
    first = time.perf_counter() - began
    if first > _LONG_SECONDS:
        return first
    taken = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _forward(model: nn.Module, x: Tensor) -> None:
    with evaluation_mode(model), torch.no_grad():
        _wait(model(x))


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with evaluation_mode(model), torch.enable_grad():
        point = x.detach().requires_grad_(True)
        loss = functional.cross_entropy(model(point), y)
        (gradient,) = torch.autograd.grad(loss, point)
        _wait(gradient)


def _step(model: nn.Module, x: Tensor, y: Tensor) -> None:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    model.train()
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            functional.cross_entropy(model(x), y), weights, allow_unused=True
        )
    _wait(next(one for one in gradients if one is not None))


def _wait(result: Tensor) -> None:
    """A GPU answers before it has worked; reading one number waits for it."""
    result.reshape(-1)[0].item()
