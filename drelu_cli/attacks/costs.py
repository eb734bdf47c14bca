"""How many passes an attack may spend on a sample: what it costs where nothing ends early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drelu_cli.core.registry import Bound


def allotted(bound: Bound, classes: int) -> int:
    """Forward and backward passes for one sample that never breaks; 0 for unknown attacks.

    Early exits spend fewer, on masked networks almost none: costs are compared by what was
    allotted, so that a flat loss does not make an attack look cheap.
    """
    cost = _COSTS.get(bound.name)
    return 0 if cost is None else cost(bound.effective, classes)


def typical_share(bound: Bound) -> float:
    """Share of what is allotted that a sample takes on average: for estimates only.

    1 for attacks that were not measured. Shares: medians over 15 to 47 runs on MNIST nets,
    masked, undefended and adversarially trained, 1,000 images each:
    `python benchmarks/pass_shares.py`. Single runs lie anywhere between 0 and all.
    """
    return _SHARES.get(bound.name, 1.0)


def _ascent(options: Mapping[str, Any], classes: int) -> int:  # noqa: ARG001
    return int((2 * options["steps"] + 1) * options["restarts"])


def _targeted(options: Mapping[str, Any], classes: int) -> int:
    return _ascent(options, classes) * min(int(options["targets"]), classes - 1) + 1


_COSTS: Mapping[str, Callable[[Mapping[str, Any], int], int]] = {
    "fgsm": lambda _, __: 3,
    "pgd": _ascent,
    "apgd_ce": _ascent,
    "apgd_dlr": _ascent,
    "apgd_margin": _ascent,
    "apgd_ce_rescaled": _ascent,
    "apgd_restarts": lambda options, _: int(options["passes"]),
    "apgd_t": _targeted,
    "fab_t": _targeted,
    "square": lambda options, _: int(options["queries"]),
    "cw_l2": lambda options, _: 2 * int(options["search_steps"]) * int(options["max_steps"]),
}
_SHARES: Mapping[str, float] = {
    "fgsm": 0.65,
    "pgd": 0.03,
    "apgd_ce": 0.05,
    "apgd_dlr": 0.24,
    "apgd_ce_rescaled": 0.07,
    "apgd_t": 0.06,
    "fab_t": 0.12,
    "square": 0.50,
    "cw_l2": 0.04,
}
