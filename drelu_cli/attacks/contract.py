"""What every attack is: a function from a model and samples to points.

    attack(model, x, y, threat, stream, *, options) -> AttackResult

An attack finds points; the evaluation judges them. An attack touches nothing but its arguments:
no parameter's `.grad`, no train/eval mode, no global random state, no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor, nn

from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.runtime.streams import Stream


@dataclass(frozen=True)
class AttackResult:
    """What an attack returns for N samples, in the order they came.

    Attributes:
        x_adv: (N, ...) same dtype as the input, inside ball and box. A misclassified point
            where the attack saw one, else the best point it saw by its own loss (where an
            attack has no point inside the ball: the input).
        forwards: (N,) int64, forward passes spent on each sample.
        backwards: (N,) int64, backward passes spent on each sample.
    """

    x_adv: Tensor
    forwards: Tensor
    backwards: Tensor


class Attack(Protocol):
    """The signature of an attack, with what `@attack` declares."""

    version: int
    norms: tuple[Norm, ...]
    min_classes: int
    minimal_norm: bool

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        stream: Stream,
        **options: Any,
    ) -> AttackResult:
        """Attacks `x` (N, ...) in [0, 1] with labels `y` (N,) int64."""
        ...


F = TypeVar("F", bound=Callable[..., AttackResult])


def attack(
    *,
    version: int,
    norms: tuple[Norm, ...],
    min_classes: int = 2,
    minimal_norm: bool = False,
    prolongs: str | None = None,
) -> Callable[[F], F]:
    """Declares an attack.

    Args:
        version: raised only when outcomes change; it is part of every stored key.
        norms: the threat norms the attack is defined for.
        min_classes: fewest classes its loss is defined for.
        minimal_norm: it searches the smallest perturbation; suites use it at a bound of its own.
        prolongs: the option whose larger value only lets the same search go on, so that it may
            take up where a shorter run ended (`attacks.prolonged`).
    """

    def declare(function: F) -> F:
        declared = cast(Any, function)
        declared.version = version
        declared.norms = norms
        declared.min_classes = min_classes
        declared.minimal_norm = minimal_norm
        declared.prolongs = prolongs
        return function

    return declare
