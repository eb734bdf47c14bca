"""Transfer: points that another network leads to, judged by the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.augment import TRANSFER
from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.led import LedApgd, led_run
from drelu_cli.attacks.losses import cross_entropy, margin
from drelu_cli.attacks.stages import samples, untouched, worst_over
from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.core.registry import Bound, bound_to
from drelu_cli.runtime.driver import Rows
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import Stream

_LOSSES = {"ce": cross_entropy, "margin": margin}
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Transfer:
    """APGD on another network, an attack on the model that never asks it for a gradient.

    Attributes:
        twin: the other network: same images, same classes, on the model's device.
    """

    twin: nn.Module
    version: int = 1
    norms: tuple[Norm, ...] = ("linf", "l2")
    min_classes: int = 2
    minimal_norm: bool = False

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        stream: Stream,
        *,
        source: str,  # noqa: ARG002 - it names the twin in keys
        steps: Annotated[int, Field(ge=1)] = 100,
        restarts: Annotated[int, Field(ge=1)] = 1,
        rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
    ) -> AttackResult:
        """APGD (2003.01690) on the twin's cross entropy, then on its margin.

        The model judges every point on the way: a sample is broken by the first that it
        misclassifies. Each point costs a forward pass through either network.

        Args:
            model: (n, ...) -> logits (n, K), in evaluation mode.
            x: (N, ...) in [0, 1].
            y: (N,) int64.
            threat: ball, Linf or L2.
            stream: random numbers.
            source: digest of the twin.
            steps: gradient steps per loss and restart.
            restarts: runs per loss from different random starts, on samples that still stand.
            rho: as in `apgd_ce`.
        """
        if threat.eps == 0:
            return untouched(x)
        stages = [
            (name, stream.at(TRANSFER, name, "restart", number))
            for number in range(restarts)
            for name in _LOSSES
        ]

        def run(queue: Rows, stage: tuple[str, Stream]) -> Rows:
            name, drawn = stage
            ascent = LedApgd(self.twin, model, threat, _LOSSES[name], steps, rho, own=margin)
            return led_run(queue, ascent, drawn)

        with evaluation_mode(self.twin):
            return worst_over(samples(x, y, stream), stages, run)


def transfer_from(twin: nn.Module, digest: str, /, **options: Any) -> Bound:
    """The attack with points of `twin`; it is not registered, since it needs a network.

    Args:
        twin: images (n, ...) -> logits (n, K), on the device of the model to be attacked.
        digest: of the twin's weights; its first 12 digits enter the key as option `source`.
        options: `steps`, `restarts`, `rho`.

    Raises:
        UnknownName: unknown option.
        BadValue: an option out of range.
    """
    given = {**options, "source": digest[:_SHOWN]}
    return bound_to(Transfer(twin), given, kind="attack", name=TRANSFER)
