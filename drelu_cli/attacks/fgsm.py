"""FGSM: one gradient step of full length (Goodfellow et al. 2015, 1412.6572)."""

from __future__ import annotations

from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.losses import cross_entropy
from drelu_cli.attacks.pgd import Ascent
from drelu_cli.attacks.stages import KEPT, result, samples, untouched
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, drive
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def fgsm(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, stream: Stream
) -> AttackResult:
    """P(x + eps * sign of the gradient of the cross entropy); L2: the normalised gradient.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball.
        stream: not drawn from; FGSM is deterministic.
    """
    if threat.eps == 0:
        return untouched(x)
    ascent = Ascent(model, threat, cross_entropy, steps=1, rel_step=1.0)

    def start(rows: Rows) -> Rows:
        return ascent.start(rows, rows["x"])

    return result(drive(samples(x, y, stream), start, ascent.step, keep=KEPT))
