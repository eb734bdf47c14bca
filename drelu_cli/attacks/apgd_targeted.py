"""APGD towards one class after the other, on the targeted DLR loss (2003.01690)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.apgd import Apgd
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import random_on_sphere
from drelu_cli.attacks.gradient import Loss
from drelu_cli.attacks.losses import margin, targeted_dlr
from drelu_cli.attacks.stages import KEPT, drawn_for, samples, untouched
from drelu_cli.attacks.targets import Aim, over_targets
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, drive
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"), min_classes=4)
def apgd_t(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    targets: Annotated[int, Field(ge=1)] = 9,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD on the targeted DLR loss, class after class, as in AutoAttack (2003.01690).

    Targets are the classes of the largest clean logits other than `y`, in that order; the look
    at the input costs one forward pass. Any misclassified point breaks a sample, whichever class
    it was aimed at.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        steps: gradient steps per target and restart; steps + 1 points are looked at.
        restarts: runs per target from different random starts, on samples that still stand.
        targets: classes that are aimed at; at most K - 1.
        rho: as in `apgd_ce`.

    Raises:
        BadValue: the model has fewer than 4 classes.
    """
    if threat.eps == 0:
        return untouched(x)
    ascent = TargetedApgd(model, threat, margin, steps, rho)

    def run(queue: Rows, aim: Aim) -> Rows:
        def start(rows: Rows) -> Rows:
            drawn = drawn_for(aim.stream, rows)
            return ascent.start(rows, random_on_sphere(rows["x"], threat, drawn))

        return drive(queue, start, ascent.step, keep=KEPT)

    return over_targets(
        model, samples(x, y, stream), stream.at("apgd_t"), run, targets=targets, restarts=restarts
    )


class TargetedApgd(Apgd):
    """APGD whose loss aims at each sample's own `target`, (n,) int64 in its rows."""

    def loss_of(self, rows: Rows) -> Loss:
        """The targeted DLR loss at these samples."""
        target = rows["target"]
        return lambda logits, y: targeted_dlr(logits, y, target)
