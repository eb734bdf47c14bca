"""Options that every attack has: another backward pass, another precision, another round.

They change the model or the stream that an attack is given, not the attack, so attacks of third
parties have them too. At their defaults they leave no trace: the keys of plain attacks stay as
they are. Importing this module imports no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from drelu_cli.attacks import ATTACKS
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import OWN, Evaluation, Norm, ThreatModel
from drelu_cli.core.registry import Bound, bound_to

if TYPE_CHECKING:
    from torch import Tensor, nn

    from drelu_cli.attacks.contract import AttackResult
    from drelu_cli.runtime.streams import Stream


def plain(
    *,
    backward: Annotated[str, Field(min_length=1)] = "own",
    precision: Literal["own", "float64", "tf32", "bf16"] = "own",
    round: Annotated[int, Field(ge=1)] = 1,  # noqa: A002 - the word people type
) -> None:
    """The options that every attack gains, as a signature.

    Args:
        backward: `own`; a slope that an activation of the model declares (`relu`, `leaky_cap`,
            ...), which replaces its derivative in backward passes (1802.00420); or `generic`, a
            leaky slope on every module that is flat on a part of its range.
        precision: `own`; `float64`: model and images in double precision; `tf32` (CUDA) or
            `bf16`: gradients only, what is misclassified is decided in the model's own precision.
        round: from 2 on, the same attack with other random numbers.
    """


CHANGES = tuple(inspect.signature(plain, eval_str=True).parameters.values())


@dataclass(frozen=True)
class Augmented:
    """An attack with the options `CHANGES` beside its own.

    Attributes:
        attack: the registered attack.
    """

    attack: Callable[..., Any]

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        stream: Stream,
        **options: Any,
    ) -> AttackResult:
        """Attacks `x` (N, ...) with what the changes make of the model and the stream."""
        from drelu_cli.attacks import augmented  # torch: only where one runs

        changes = {one.name: options.pop(one.name, one.default) for one in self.changes}
        return augmented.run(self.attack, model, x, y, threat, stream, options, **changes)

    @property
    def changes(self) -> tuple[inspect.Parameter, ...]:
        """`CHANGES`, without those that the attack has itself."""
        own = inspect.signature(self.attack).parameters
        return tuple(one for one in CHANGES if one.name not in own)

    @property
    def __signature__(self) -> inspect.Signature:
        """The attack's signature with the changes after its own options."""
        signature = inspect.signature(self.attack, eval_str=True)
        own = list(signature.parameters.values())
        rest = [one for one in own if one.kind is inspect.Parameter.VAR_KEYWORD]
        kept = [one for one in own if one not in rest]
        return signature.replace(parameters=[*kept, *self.changes, *rest])

    @property
    def __name__(self) -> str:
        """The attack's name."""
        return getattr(self.attack, "__name__", "attack")

    @property
    def version(self) -> int:
        """As the attack declares it."""
        return int(getattr(self.attack, "version", 0))

    @property
    def norms(self) -> tuple[Norm, ...]:
        """As the attack declares them."""
        return getattr(self.attack, "norms", ("linf", "l2"))

    @property
    def min_classes(self) -> int:
        """As the attack declares it."""
        return int(getattr(self.attack, "min_classes", 2))

    @property
    def minimal_norm(self) -> bool:
        """As the attack declares it."""
        return bool(getattr(self.attack, "minimal_norm", False))

    @property
    def prolongs(self) -> str | None:
        """As the attack declares it."""
        return getattr(self.attack, "prolongs", None)


def bind_attack(name: str, /, **options: Any) -> Bound:
    """The attack `name` with its own options and those that every attack has.

    Args:
        name: as in `ATTACKS`.
        options: as `ATTACKS.bind` takes them, and those of `plain`.

    Returns:
        What `ATTACKS.bind` returns where `backward`, `precision` and `round` have their
        defaults; else a bound `Augmented`, whose options hold the changes that differ.

    Raises:
        UnknownName: unknown attack or option. An unknown slope is found when the attack runs:
            the error then lists those of the model.
        BadValue: an option of the wrong type or out of range.
    """
    target = Augmented(ATTACKS.resolve(name))
    checked = bound_to(target, options, kind=ATTACKS.kind, name=name)
    idle = {one.name for one in target.changes if checked.effective[one.name] == one.default}
    if len(idle) == len(target.changes):
        return ATTACKS.bind(name, **_without(options, idle))
    return Bound(
        name,
        target,
        _without(checked.given, idle),
        _without(checked.effective, idle),
        checked.late,
    )


def rebind(evaluation: Evaluation) -> Bound:
    """The attack of a stored evaluation, ready to run again.

    Raises:
        BadValue: the evaluation cannot be repeated from its options alone: an outside engine's,
            another version's, or `transfer`, which needs the other network.
        UnknownName: no attack has its name any more.
    """
    name = evaluation.attack
    if evaluation.engine != OWN:
        raise BadValue(
            f"{name} was run by {evaluation.engine}, which cannot repeat single samples",
            hint="only evaluations of the engine drelu can be run again",
        )
    if name == TRANSFER:
        raise BadValue(
            f"{TRANSFER} needs the points of another network", hint="bind it with transfer_from"
        )
    bound = bind_attack(name, **evaluation.effective)
    version = int(getattr(bound.target, "version", 0))
    if version != evaluation.version or dict(bound.identity) != dict(evaluation.identity):
        raise BadValue(
            f"{name} is version {version} here and was version {evaluation.version}, or its "
            "options have changed",
            hint="run drelu attack again",
        )
    return bound


TRANSFER = "transfer"
"""The name of attacks that `transfer.transfer_from` makes; no registered attack has it."""


def _without(options: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
