"""Shortcuts through a model for points that differ from known ones inside a window.

A search that asks for thousands of such points need not run the whole model for each: a first
dense layer changes by the changed pixels alone, and convolutions only within their receptive
field. Where only whole passes are left they are made cheaper (`folded`). The numbers are those of
the full pass up to rounding; nothing is approximated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drelu_cli.attacks.chain import is_pointwise, layers_of
from drelu_cli.attacks.first_dense import FirstDense
from drelu_cli.attacks.folded import folded
from drelu_cli.attacks.receptive import receptive
from drelu_cli.attacks.shortcut import Shortcut


def shortcut_through(model: nn.Module, x: Tensor) -> Shortcut | None:
    """A shortcut through `model` for images like `x`, or None: ask the model itself.

    On CPUs only: on a GPU a full pass of a small net is one of many launches, and nothing was
    measured there.

    Args:
        model: in evaluation mode.
        x: (N, C, H, W) in [0, 1], N >= 1.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or x.dim() != 4:
        return None
    layers = layers_of(model, x)
    if layers is None:
        return folded(model, x)
    first = next((at for at, layer in enumerate(layers) if not is_pointwise(layer)), len(layers))
    before, rest = layers[:first], layers[first:]
    return _dense(before, rest, x) or receptive(before, rest, x.shape[1:])


def _dense(before: list[nn.Module], rest: list[nn.Module], x: Tensor) -> Shortcut | None:
    if len(rest) < 2 or type(rest[0]) is not nn.Flatten or type(rest[1]) is not nn.Linear:
        return None
    whole = rest[0].start_dim == 1 and rest[0].end_dim in (-1, 3)
    if not whole or rest[1].weight.dtype != x.dtype:
        return None
    return FirstDense(before, rest[1], rest[2:])
