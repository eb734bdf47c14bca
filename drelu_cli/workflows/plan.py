"""Which attacks, under which threats: from a suite's name or a list of attacks to tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.suites import SuiteEntry, suite_entries
from drelu_cli.core.quantities import parse_part
from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.data.facts import facts

# Options that count work; `max_steps` of a recipe (preset tiny) cuts every one of them.
_LENGTHS = ("steps", "max_steps", "search_steps", "queries")


@dataclass(frozen=True)
class Wanted:
    """What the user asked for, before a model is known.

    Attributes:
        suite: a suite's name, or None.
        attacks: attacks as typed, `pgd:steps=100`.
        norm: the threat's norm.
        eps: radii; None takes the data set's.
        samples: how many of the fixed order.
        samples_given: False where `samples` is the default, which is cut silently.
        seed: the attack seed.
        max_steps: cuts steps and queries.
    """

    suite: str | None
    attacks: tuple[str, ...]
    norm: Norm
    eps: tuple[float, ...] | None
    samples: int = 1000
    samples_given: bool = False
    seed: int = 0
    max_steps: int | None = None


@dataclass(frozen=True)
class Task:
    """One attack under one threat.

    Attributes:
        bound: the attack.
        threat: norm and radius.
        named: asked for by name, not as part of a suite.
    """

    bound: Bound
    threat: ThreatModel
    named: bool = True


def tasks_for(dataset: str, wanted: Wanted) -> list[Task]:
    """The tasks of a data set, each once, in suite order, radius by radius.

    A minimal-norm attack (CW-L2) is an entry of an L2 threat of its own, whatever the norm asked
    for; its bound is the suite's, else the data set's.

    Raises:
        UnknownName: unknown suite, attack or option.
        NotThereYet: a suite of a later version.
        BadValue: an option of the wrong type.
    """
    entries = [(entry, False) for entry in (suite_entries(wanted.suite) if wanted.suite else ())]
    entries += [(_typed(text), True) for text in wanted.attacks]
    tasks: list[Task] = []
    seen: set[str] = set()
    # A radius given for minimal-norm attacks alone can only be their bound.
    bounded = wanted.eps is not None and all(entry.norm == "l2" for entry, _ in entries)
    for eps in _radii(dataset, wanted):
        for entry, named in entries:
            task = replace(_task(entry, dataset, wanted, eps, bounded=bounded), named=named)
            mark = f"{task.bound.identity}{task.threat}"
            if mark not in seen:
                seen.add(mark)
                tasks.append(task)
    return tasks


def _typed(text: str) -> SuiteEntry:
    name, options = parse_part(text)
    minimal = getattr(ATTACKS.resolve(name), "minimal_norm", False)
    return SuiteEntry(name, options, "l2" if minimal else None, "dataset" if minimal else None)


def _radii(dataset: str, wanted: Wanted) -> Sequence[float]:
    if wanted.eps is not None:
        return wanted.eps
    declared = facts(dataset)
    return (declared.eps if wanted.norm == "linf" else declared.l2_bound,)


def _task(entry: SuiteEntry, dataset: str, wanted: Wanted, eps: float, *, bounded: bool) -> Task:
    bound = ATTACKS.bind(entry.attack, **_cut(entry.attack, dict(entry.options), wanted.max_steps))
    if entry.norm is None:
        return Task(bound, ThreatModel(wanted.norm, eps))
    if bounded or (wanted.norm == "l2" and wanted.eps is not None):
        return Task(bound, ThreatModel(entry.norm, eps))
    limit = facts(dataset).l2_bound if entry.bound == "dataset" else entry.bound
    return Task(bound, ThreatModel(entry.norm, eps if limit is None else float(limit)))


def _cut(attack: str, options: dict[str, Any], most: int | None) -> dict[str, Any]:
    if most is None:
        return options
    known = ATTACKS.options_of(attack)
    for name in _LENGTHS:
        if name in known:
            options[name] = min(int(options.get(name, known[name])), most)
    return options
