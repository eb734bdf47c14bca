"""Our attacks run by torchattacks (Kim 2020, 2010.01950)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
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
from drelu_cli.attacks.geometry import within
from drelu_cli.core.errors import MissingExtra
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound

NORMS = {"linf": "Linf", "l2": "L2"}

_ASCENT = {"steps": "steps", "restarts": "n_restarts", "rho": "rho"}
_TARGETS = {"targets": "n_classes"}
_PGD = {"steps": "steps", "random_start": "random_start"}
_FAB = {
    **_TARGETS,
    "steps": "steps",
    "restarts": "n_restarts",
    "alpha_max": "alpha_max",
    "eta": "eta",
    "beta": "beta",
}
_BOTH_NORMS = {
    "apgd_ce": Counterpart("APGD", _ASCENT, {"loss": "ce"}),
    "apgd_dlr": Counterpart("APGD", _ASCENT, {"loss": "dlr"}),
    "apgd_t": Counterpart("APGDT", {**_ASCENT, **_TARGETS}),
    "fab_t": Counterpart("FAB", _FAB, {"multi_targeted": True}, either=frozenset({"exact"})),
    "square": Counterpart(
        "Square", {"queries": "n_queries", "p": "p_init"}, {"resc_schedule": False}
    ),
}
TABLE: Mapping[tuple[str, str], Counterpart] = {
    ("fgsm", "linf"): Counterpart("FGSM"),
    ("fgsm", "l2"): Counterpart("PGDL2", fixed={"steps": 1, "random_start": False}),
    ("pgd", "linf"): Counterpart("PGD", _PGD, either=frozenset({"rel_step"})),
    ("pgd", "l2"): Counterpart("PGDL2", _PGD, either=frozenset({"rel_step"})),
    # One c for all samples (its default, 1): there is no search to take these options.
    ("cw_l2", "l2"): Counterpart(
        "CW",
        {"max_steps": "steps", "learning_rate": "lr", "confidence": "kappa"},
        either=frozenset({"exact"}),
    ),
    **{(name, norm): part for name, part in _BOTH_NORMS.items() for norm in NORMS},
}


class Torchattacks:
    """The engine `torchattacks`."""

    def __init__(self) -> None:
        if importlib.util.find_spec("torchattacks") is None:
            raise MissingExtra.of("torchattacks", extra="reference")
        self.label = f"torchattacks {library_version('torchattacks')}"

    def check(self, bound: Bound, threat: ThreatModel) -> None:
        """As `engines.Engine.check`."""
        self._arguments(bound, threat)

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, bound: Bound, threat: ThreatModel, seed: int
    ) -> AttackResult:
        """As `engines.Engine.attack`; CW's points beyond the radius are replaced by the input."""
        target, arguments = self._arguments(bound, threat)

        def build(counted: Counted, classes: int) -> Perturb:
            # The library counts the label's class among `n_classes`.
            if "n_classes" in arguments:
                arguments["n_classes"] = min(arguments["n_classes"] + 1, classes)
            made = getattr(library_module("torchattacks"), target)(counted, **arguments)
            if hasattr(made, "seed"):
                made.seed = seed
            made.set_device(x.device)
            return made  # type: ignore[no-any-return]

        found = called(model, x, y, threat, seed, build)
        if bound.name != "cw_l2":
            return found
        inside = within(found.x_adv, x, threat).view(-1, *[1] * (x.ndim - 1))
        return AttackResult(torch.where(inside, found.x_adv, x), found.forwards, found.backwards)

    def _arguments(self, bound: Bound, threat: ThreatModel) -> tuple[str, dict[str, Any]]:
        counterpart = lookup(TABLE, bound, threat, self.label)
        arguments = translated(bound, counterpart, self.label)
        target = counterpart.target
        if target in ("PGD", "PGDL2"):
            arguments["alpha"] = threat.eps * bound.effective.get("rel_step", 1.0)
        if target in ("APGD", "APGDT", "FAB", "Square"):
            arguments["norm"] = NORMS[threat.norm]
        if target != "CW":
            arguments["eps"] = threat.eps
        return target, arguments
