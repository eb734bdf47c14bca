"""APGD on losses that a large scale of the logits does not blind."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.apgd import Apgd, over_restarts
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.losses import ce_rescaled, margin
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def apgd_margin(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD (2003.01690) on max_{i != y} z_i - z_y, the loss of CW (1608.04644).

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        steps: as in `apgd_ce`.
        restarts: as in `apgd_ce`.
        rho: as in `apgd_ce`.
    """
    ascent = Apgd(model, threat, margin, steps, rho)
    return over_restarts(x, y, threat, stream.at("apgd_margin"), ascent, restarts)


@attack(version=1, norms=("linf", "l2"))
def apgd_ce_rescaled(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD (2003.01690) on the cross entropy of logits brought to one scale.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        steps: as in `apgd_ce`.
        restarts: as in `apgd_ce`.
        rho: as in `apgd_ce`.
    """
    ascent = Apgd(model, threat, ce_rescaled, steps, rho)
    return over_restarts(x, y, threat, stream.at("apgd_ce_rescaled"), ascent, restarts)
