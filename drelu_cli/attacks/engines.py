"""Outside attack libraries, met in one adapter file each.

An engine runs an attack of ours by its name through another library. It keeps that library's own
randomness and batches, so its results depend on the whole list of samples; the evaluation still
judges every point itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from drelu_cli.core.registry import Bound, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from drelu_cli.attacks.contract import AttackResult
    from drelu_cli.core.records import ThreatModel

ENGINES = Registry(
    "engine",
    {
        "torchattacks": "drelu_cli.attacks.engine_torchattacks:Torchattacks",
        "autoattack": "drelu_cli.attacks.engine_autoattack:AutoAttack",
    },
    group="drelu.engines",
)


class Engine(Protocol):
    """What an adapter is; made without arguments.

    Raises on creation:
        MissingExtra: the library is not installed; the hint names the extra `reference`.
    """

    label: str
    """Library and version as stored in keys, e.g. `autoattack (pyautoattack 0.2.0)`."""

    def check(self, bound: Bound, threat: ThreatModel) -> None:
        """Refuses what the library cannot do with the same options.

        Raises:
            BadValue: the attack, an option's value or the norm does not exist there.
        """
        ...

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, bound: Bound, threat: ThreatModel, seed: int
    ) -> AttackResult:
        """Runs the attack on all of `x` (N, ...) in [0, 1], `y` (N,) int64.

        The global random state and the model's modes and gradients are as before afterwards.

        Returns:
            The library's points; forwards and backwards are the passes that the whole list cost,
            divided evenly (rounded up): a library does not tell them apart.
        """
        ...
