"""The images an evaluation works on, and one attack on them in this thread."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.prolonged import Ended, going_on
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.runtime.streams import Stream


@dataclass(frozen=True)
class Samples:
    """The images an evaluation works on.

    Attributes:
        index: (N,) int64, index in the data set's test split.
        x: (N, C, H, W) float in [0, 1].
        y: (N,) int64 labels.
    """

    index: Tensor
    x: Tensor
    y: Tensor

    def rows(self, selection: Tensor) -> Samples:
        """Some of the samples, by mask or indices."""
        return Samples(self.index[selection], self.x[selection], self.y[selection])

    def __len__(self) -> int:
        return len(self.y)


def attacked(
    model: nn.Module,
    samples: Samples,
    bound: Bound,
    threat: ThreatModel,
    seed: int,
    ended: Ended | None = None,
) -> AttackResult:
    """What the attack finds; draws depend on seed, the attack's name and the samples' indices.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        samples: classified correctly, all of them.
        bound: the attack.
        threat: ball.
        seed: the attack's.
        ended: where a shorter run of the same search left these samples.
    """
    stream = Stream(seed, samples.index, (bound.name,))
    with going_on(ended):
        result: AttackResult = bound(model, samples.x, samples.y, threat, stream)
    return result
