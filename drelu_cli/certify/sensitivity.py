"""Sensitivity: how much of the output space a ball of inputs can reach, as a loss and a measure.

arXiv 1810.11726: the sensitivity of a network is the volume of an over-approximation of the set
of outputs that perturbations of an input reach, its robustness the inverse. The
over-approximation here is the box of interval arithmetic, so the volume is the product of the
logits' widths and its logarithm a sum. An upper bound: a large value proves nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from drelu_cli.certify.functionals import Box
from drelu_cli.certify.interval import ball_like, boxes_through
from drelu_cli.certify.network import layers_of
from drelu_cli.core.errors import BadValue, ModelError

WIDTH_FLOOR = 1e-12
"""The least width whose logarithm is taken: a net whose output never moves has width 0."""
_CHUNK = 250


@dataclass(frozen=True)
class Sensitivity:
    """The measure of one model on some images.

    Attributes:
        eps: Linf radius, in units of pixels in [0, 1].
        samples: number of images.
        mean_log_width: natural logarithm of a logit's width, mean over logits and images.
        log_volume: natural logarithm of the box' volume, mean over images: K times the above.
    """

    eps: float
    samples: int
    mean_log_width: float
    log_volume: float

    def as_mapping(self) -> dict[str, float]:
        """The four as plain data, under their own names."""
        return asdict(self)


def output_box(model: nn.Module, x: Tensor, eps: float) -> Box:
    """Bounds of the logits over the Linf ball around each image, cut with the box [0, 1].

    Interval arithmetic (Gowal et al. 2018, arXiv 1810.12715, equation 6), sound up to rounding
    in the dtype of `x`. Differentiable in weights and caps where model and `x` share a dtype.

    Args:
        model: a chain of layers with bounds, logits from images; read in evaluation mode.
        x: (N, ...) float in [0, 1], N >= 1.
        eps: radius, >= 0, in units of pixels.

    Returns:
        lower and upper bounds, (N, K) each.

    Raises:
        ModelError: a layer without bounds, by name.
        BadValue: pixels outside [0, 1], a negative radius, no image.
    """
    box = ball_like(x, eps)
    return boxes_through(layers_of(model, box[0]), box)[-1]


def log_widths(box: Box, floor: float = WIDTH_FLOOR) -> Tensor:
    """log(upper - lower) of each logit, (N, K); widths below `floor` count as that."""
    return (box[1] - box[0]).clamp_min(floor).log()


def mean_log_width(model: nn.Module, x: Tensor, eps: float, floor: float = WIDTH_FLOOR) -> Tensor:
    """The mean of `log_widths` over logits and images, 0-dimensional; see `output_box`.

    The log-volume divided by the number of logits, averaged over images.
    """
    return log_widths(output_box(model, x, eps), floor).mean()


@torch.no_grad()
def sensitivity(model: nn.Module, x: Tensor, eps: float) -> Sensitivity:
    """The measure on images `x`, (N, ...) float in [0, 1]; see `output_box`.

    Raises:
        ModelError: a layer without bounds, by name.
        BadValue: pixels outside [0, 1], a negative radius, no image.
    """
    if not len(x):
        raise BadValue("sensitivity on no image", hint="give one or more")
    parts = [log_widths(output_box(model, part, eps)).double() for part in torch.split(x, _CHUNK)]
    widths = torch.cat(parts)
    return Sensitivity(float(eps), len(x), float(widths.mean()), float(widths.sum(dim=1).mean()))


def require_bounds(model: nn.Module, x: Tensor) -> None:
    """Refuses a model without interval bounds, before anything is trained for it.

    Args:
        model: the network.
        x: (N, ...) one image or more, float in [0, 1].

    Raises:
        ModelError: names the layer.
    """
    try:
        layers_of(model, x)
    except ModelError as problem:
        raise ModelError(
            f"scheme sensitivity needs interval bounds: {problem.message}",
            hint="models dense and shallow_cnn have them",
        ) from problem
