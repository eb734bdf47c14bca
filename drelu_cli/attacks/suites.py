"""Named suites as data. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import Norm

Bound = float | Literal["dataset"] | None


@dataclass(frozen=True, slots=True)
class SuiteEntry:
    """One attack of a suite.

    Attributes:
        attack: registered name.
        options: what differs from the attack's defaults.
        norm: None takes the norm of the run; a norm makes the entry a threat of its own.
        bound: radius of that threat; `dataset` takes the L2 bound of the data set's facts;
            None takes the radius of the run.
    """

    attack: str
    options: Mapping[str, Any] = field(default_factory=dict)
    norm: Norm | None = None
    bound: Bound = None


_WHITEBOX = tuple(SuiteEntry(name) for name in ("fgsm", "pgd", "apgd_ce", "apgd_dlr"))
_BLACKBOX = (SuiteEntry("square"),)
# 18 is the source paper's bound; it exceeds the distance between images of different classes,
# so an accuracy above 0 there shows the attack failing.
_PAPER_CW = SuiteEntry("cw_l2", norm="l2", bound=18.0)

SUITES: Mapping[str, tuple[SuiteEntry, ...]] = MappingProxyType(
    {
        "whitebox": (*_WHITEBOX, SuiteEntry("cw_l2", norm="l2", bound="dataset")),
        "blackbox": _BLACKBOX,
        "paper": (*_WHITEBOX, _PAPER_CW, *_BLACKBOX),
        "standard": tuple(SuiteEntry(name) for name in ("apgd_ce", "apgd_t", "fab_t", "square")),
        # Full runs: the court compares attacks on the same samples. What it adds is its own.
        "adaptive": (
            *_WHITEBOX,
            SuiteEntry("cw_l2", norm="l2", bound="dataset"),
            *(SuiteEntry(name) for name in ("apgd_t", "fab_t", "square")),
        ),
        "smoke": (SuiteEntry("fgsm"), SuiteEntry("pgd", {"steps": 10})),
    }
)
CASCADES = frozenset({"standard"})
"""Suites whose later attacks run on what the earlier ones left standing (2003.01690)."""

ADAPTIVE = "adaptive"
"""The suite that is followed by the court: evidence, remedy, control and verdict."""


def suite_entries(name: str) -> tuple[SuiteEntry, ...]:
    """The entries of the suite `name`, in the order they run.

    Raises:
        UnknownName: no suite has this name.
    """
    if name in SUITES:
        return SUITES[name]
    raise UnknownName.among("suite", name, list(SUITES))
