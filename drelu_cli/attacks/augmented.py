"""What the options of `augment` do to the model and the stream of an attack."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.generic import surrogate_model
from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.geometry import project
from drelu_cli.attacks.reduced import ReducedGradients, require_tf32
from drelu_cli.core.errors import DeviceError, ModelError
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream

_PROBES = 64


def run(
    attack: Callable[..., Any],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    options: Mapping[str, Any],
    *,
    backward: str = "own",
    precision: str = "own",
    round: int = 1,  # noqa: A002 - the word people type
) -> AttackResult:
    """Runs `attack` on the changed model.

    Points found in float64 are rounded to the dtype of `x` and brought back into ball and box:
    what rounding makes robust again is robust, since the evaluation judges what is returned.
    Building the changed model sends `probes` through it once; they belong to no sample and are
    not counted.

    Args:
        attack: called as (model, x, y, threat, stream, **options).
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball.
        stream: random numbers; one level deeper from the second round on.
        options: the attack's own.
        backward: as in `augment.plain`.
        precision: as in `augment.plain`.
        round: as in `augment.plain`.

    Raises:
        UnknownName: no activation of the model declares the slope `backward`.
        ModelError: the model cannot be copied.
        DeviceError: the device has no float64, or no TF32.
    """
    points = x
    if precision == "float64":
        model, points = in_float64(model, x), x.double()
    if backward != "own":
        model = surrogate_model(model, backward, probes(points))
    if precision == "tf32":
        require_tf32(x.device)
        model = ReducedGradients(model, "tf32")
    elif precision == "bf16":
        model = ReducedGradients(model, "bf16")
    drawn = stream if round == 1 else stream.at("round", round)
    found: AttackResult = attack(model, points, y, threat, drawn, **options)
    if points.dtype == x.dtype:
        return found
    return replace(found, x_adv=project(found.x_adv.to(x.dtype), x.detach(), threat))


def probes(x: Tensor) -> Tensor:
    """(64, ...) uniform in [0, 1), on which it is measured what is flat.

    They depend on the shape and dtype of `x` (N, ...), never on its images: outcomes must not
    depend on which samples share a call.
    """
    stream = Stream(0, torch.arange(_PROBES), ("augment",))
    return stream.uniform("probes", x.shape[1:], dtype=x.dtype).to(x.device)


def in_float64(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of the model in double precision, with parameters of its own.

    Raises:
        ModelError: the model cannot be copied.
        DeviceError: the device of `x` has no float64.
    """
    if x.device.type == "mps":
        raise DeviceError("MPS has no float64", hint="--device cpu, or without precision=float64")
    try:
        return copy.deepcopy(model).double()
    except (TypeError, RuntimeError, AttributeError) as problem:
        raise ModelError(
            f"the model cannot be copied to float64: {problem}",
            hint="keep locks, files and computed tensors out of the module's attributes",
        ) from problem
