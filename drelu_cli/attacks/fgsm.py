"""FGSM: one gradient step of full length (Goodfellow et al. 2015, 1412.6572)."""

from __future__ import annotations

from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import project, steepest
from drelu_cli.attacks.gradient import forward_backward
from drelu_cli.attacks.losses import cross_entropy
from drelu_cli.attacks.stages import KEPT, fresh, result, samples, untouched
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def fgsm(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, stream: Stream
) -> AttackResult:
    """P(x + eps * sign of the gradient of the cross entropy); L2: the normalised gradient.

    One forward and one backward pass: what the model makes of the point is for the evaluation
    to see.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball.
        stream: not drawn from; FGSM is deterministic.

    Returns:
        The point, or the input where that is misclassified already.
    """
    if threat.eps == 0:
        return untouched(x)

    def start(rows: Rows) -> Rows:
        return fresh(rows, rows["x"])

    def step(rows: Rows) -> Rows:
        here = rows["x"]
        seen = forward_backward(model, here, rows["y"], cross_entropy)
        along = steepest(seen.gradient, threat.norm).mul_(threat.eps)
        moved = project(along.add_(here), here, threat)
        return {
            **rows,
            "best": choose(seen.wrong, here, moved),
            "loss": seen.loss,
            "wrong": seen.wrong,
            "forwards": rows["forwards"] + 1,
            "backwards": rows["backwards"] + 1,
            "done": ~rows["done"],
        }

    return result(drive(samples(x, y, stream), start, step, keep=KEPT))
