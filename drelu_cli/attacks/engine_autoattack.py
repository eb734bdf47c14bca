"""Our attacks run by AutoAttack (Croce & Hein 2020, 2003.01690).

The attacks are called one by one: the library's own cascade would mix their outcomes, and its
check for dynamic defences resets the interpreter's trace function. Nothing that the wheel ships
beside its code (a pickled example model) is opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.engine_call import (
    Counted,
    Counterpart,
    Perturb,
    called,
    library_module,
    library_version,
    lookup,
    translated,
)
from drelu_cli.core.errors import MissingExtra
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound

PACKAGES = ("autoattack", "pyautoattack")
"""Names it is installed under, the original first; adversarial examples are bit-identical."""

NORMS = {"linf": "Linf", "l2": "L2"}

_ASCENT = {"steps": "n_iter", "restarts": "n_restarts", "rho": "rho"}
_FAB = {
    "steps": "n_iter",
    "restarts": "n_restarts",
    "targets": "n_target_classes",
    "alpha_max": "alpha_max",
    "eta": "eta",
    "beta": "beta",
}
_ATTACKS = {
    "apgd_ce": Counterpart("autopgd_base.APGDAttack", _ASCENT, {"loss": "ce"}),
    "apgd_dlr": Counterpart("autopgd_base.APGDAttack", _ASCENT, {"loss": "dlr"}),
    "apgd_t": Counterpart(
        "autopgd_base.APGDAttack_targeted", {**_ASCENT, "targets": "n_target_classes"}
    ),
    # FAB always goes on to its nearest point, so `exact` changes nothing there.
    "fab_t": Counterpart(
        "fab_pt.FABAttack_PT", _FAB, {"targeted": True}, either=frozenset({"exact"})
    ),
    "square": Counterpart(
        "square.SquareAttack", {"queries": "n_queries", "p": "p_init"}, {"resc_schedule": False}
    ),
}
TABLE: Mapping[tuple[str, str], Counterpart] = {
    (name, norm): counterpart for name, counterpart in _ATTACKS.items() for norm in NORMS
}


class AutoAttack:
    """The engine `autoattack`."""

    def __init__(self) -> None:
        self._package = _installed()
        version = library_version(self._package)
        self.label = f"autoattack ({self._package} {version})"

    def check(self, bound: Bound, threat: ThreatModel) -> None:
        """As `engines.Engine.check`."""
        self._arguments(bound, threat)

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, bound: Bound, threat: ThreatModel, seed: int
    ) -> AttackResult:
        """As `engines.Engine.attack`."""
        target, arguments = self._arguments(bound, threat)

        def build(counted: Counted, classes: int) -> Perturb:
            _limit(arguments, "n_target_classes", classes - 1)
            made = target(counted, seed=seed, device=x.device, **arguments)
            return made.perturb  # type: ignore[no-any-return]

        return called(model, x, y, threat, seed, build)

    def _arguments(self, bound: Bound, threat: ThreatModel) -> tuple[Any, dict[str, Any]]:
        counterpart = lookup(TABLE, bound, threat, self.label)
        arguments = translated(bound, counterpart, self.label)
        module, _, name = counterpart.target.partition(".")
        target = getattr(library_module(f"{self._package}.{module}"), name)
        return target, {**arguments, "norm": NORMS[threat.norm], "eps": threat.eps}


def _limit(arguments: dict[str, Any], name: str, most: int) -> None:
    if name in arguments:
        arguments[name] = min(arguments[name], most)


def _installed() -> str:
    for package in PACKAGES:
        if importlib.util.find_spec(package) is not None:
            return package
    raise MissingExtra.of("AutoAttack", extra="reference")
