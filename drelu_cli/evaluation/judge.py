"""The evaluation, not the attack, decides success; and it checks where the points lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from drelu_cli.core.errors import DreluError, InternalError
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.modes import evaluation_mode

TOLERANCE = 1e-6
_BATCH = 512


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """(N,) int64 predicted classes; -1 where any logit is not finite.

    argmax with the lowest index on ties. The model must be in evaluation mode.
    """
    found = []
    with torch.no_grad():
        for part in torch.split(x, _BATCH) if len(x) else ():
            logits = model(part)
            # torch.argmax documents the first index on ties.
            first = logits.argmax(dim=1)
            finite = torch.isfinite(logits).all(dim=1)
            found.append(torch.where(finite, first, torch.full_like(first, -1)))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64, device=x.device)


def accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, device: torch.device, *, batch: int = 1000
) -> float:
    """Share of correct predictions on uint8 images, in evaluation mode; modes are restored.

    Args:
        model: logits from images in [0, 1].
        images: (N, C, H, W) uint8, on any device.
        labels: (N,) int64.
        device: where the model is.
        batch: images per pass.
    """
    correct = 0
    with evaluation_mode(model):
        for start in range(0, len(labels), batch):
            x = images[start : start + batch].to(device).float() / 255.0
            found = predict(model, x)
            correct += int((found == labels[start : start + batch].to(device)).sum())
    return correct / len(labels)


def distance(x: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """(N,) float64 distance of each point from its input in `norm`."""
    difference = (_exact(x_adv) - _exact(x)).flatten(1)
    if norm == "linf":
        return difference.abs().amax(dim=1)
    length: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return length


def _exact(x: Tensor) -> Tensor:
    """In float64, which MPS does not have: there on the CPU."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def verify(x: Tensor, x_adv: Tensor, threat: ThreatModel, *, attack: str) -> Tensor:
    """(N,) float64 distances of points that lie inside ball and box.

    Raises:
        InternalError: a point outside; the attack is named, nothing is clipped.
    """
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise InternalError(
            f"attack {attack} returned {tuple(x_adv.shape)} {x_adv.dtype}, "
            f"expected {tuple(x.shape)} {x.dtype}"
        )
    if not len(x):
        return torch.empty(0, dtype=torch.float64, device=x.device)
    low, high = float(x_adv.min()), float(x_adv.max())
    if math.isnan(low) or low < -TOLERANCE or high > 1.0 + TOLERANCE:
        raise InternalError(
            f"attack {attack} left the box: pixels in [{low:.8g}, {high:.8g}], allowed [0, 1]"
        )
    lengths = distance(x, x_adv, threat.norm)
    worst = float(lengths.max())
    if not worst <= threat.eps + TOLERANCE:
        raise InternalError(
            f"attack {attack} left the ball: {threat.norm} distance {worst:.8g}, eps {threat.eps:g}"
        )
    return lengths


def returned_inputs(
    x: Tensor, x_adv: Tensor, threat: ThreatModel, *, attack: str
) -> tuple[Tensor, int]:
    """An outside library's points with the input where a point lies beyond ball or box.

    Libraries return points that they do not keep inside (a minimal-norm search, rounding): such
    a point breaks nothing under this threat. Nothing is projected.

    Returns:
        (N, ...) points inside ball and box, and how many were not.

    Raises:
        DreluError: points of another shape or type; the attack is named.
    """
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise DreluError(
            f"{attack} returned {tuple(x_adv.shape)} {x_adv.dtype}, "
            f"expected {tuple(x.shape)} {x.dtype}",
            hint="--engine drelu runs the same attack",
        )
    flat = x_adv.flatten(1)
    inside = (flat >= -TOLERANCE).all(1) & (flat <= 1.0 + TOLERANCE).all(1)
    inside &= (distance(x, x_adv, threat.norm) <= threat.eps + TOLERANCE).to(inside.device)
    kept = torch.where(inside.view(-1, *[1] * (x.dim() - 1)), x_adv, x)
    return kept, int((~inside).sum())
