"""Which images are proven: cheap bounds first, dearer ones for what they leave open."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from drelu_cli.certify.crown import (
    Bounds,
    crown_bounds,
    crown_interval_bounds,
    in_chunks,
    interval_bounds_of_margins,
)
from drelu_cli.certify.interval import ball
from drelu_cli.certify.network import layers_of
from drelu_cli.core.errors import UnknownName

Method = Literal["interval", "crown"]

# What a proven margin must exceed: float64 rounds far below it.
MARGIN = 1e-6

_STAGES: dict[str, tuple[Bounds, ...]] = {
    "interval": (interval_bounds_of_margins,),
    "crown": (interval_bounds_of_margins, crown_interval_bounds, crown_bounds),
}


@torch.no_grad()
def certified(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, *, method: Method = "crown"
) -> Tensor:
    """Which images no input of the Linf ball within [0, 1] can move from class `y`.

    True is a proof, for the network in exact arithmetic; False says nothing. The certified
    share is a lower bound of every robust accuracy at this radius.

    Args:
        model: a chain of supported layers, logits from images; read in evaluation mode, never
            changed.
        x: (N, ...) images in [0, 1].
        y: (N,) int64 labels.
        eps: radius, >= 0, in units of pixels in [0, 1].
        method: `interval` (Gowal et al. 2018, arXiv 1810.12715), or `crown`: intervals, then
            CROWN-IBP (arXiv 1906.06316), then CROWN (arXiv 1811.00866), each for the images
            that are still open.

    Returns:
        (N,) bool: every margin z_y - z_j is proven to exceed `MARGIN`.

    Raises:
        ModelError: a layer without bounds, by name.
        BadValue: pixels outside [0, 1], a label that is no class, a radius below 0.
        UnknownName: no such method.
    """
    if method not in _STAGES:
        raise UnknownName.among("method of certification", method, _STAGES)
    box = ball(x, eps)
    proven = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if not len(x):
        return proven
    layers = layers_of(model, box[0])
    # A wrong image, or one too near the border by itself, needs no bounds.
    clean = in_chunks(interval_bounds_of_margins, layers, ball(x, 0.0), y)
    open_ = _exceeds(clean).nonzero()[:, 0]
    for bounds in _STAGES[method]:
        if not len(open_):
            break
        margins = in_chunks(bounds, layers, (box[0][open_], box[1][open_]), y[open_])
        holds = _exceeds(margins)
        proven[open_[holds]] = True
        open_ = open_[~holds]
    return proven


def _exceeds(margins: Tensor) -> Tensor:
    """(N,) bool; a margin that is not a number proves nothing."""
    return (margins > MARGIN).all(dim=1)
