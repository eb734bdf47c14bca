"""Which attacks, under which threats: from a suite's name or a list of attacks to tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.suites import ADAPTIVE, CASCADES, SuiteEntry, suite_entries
from drelu_cli.core.errors import BadValue
from drelu_cli.core.quantities import parse_part
from drelu_cli.core.records import OWN, Norm, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.data.facts import facts

# Options that count work; `max_steps` of a recipe (preset tiny) cuts every one of them.
_LENGTHS = ("steps", "max_steps", "search_steps", "queries")
# The radii of `--curve` without values, in units of the data set's own.
CURVE_GRID = tuple(number / 5 for number in range(1, 11))


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
        exhaustive: every attack of a cascading suite on all samples.
        curve: radii of one ascending pass over survivors; empty takes CURVE_GRID times the data
            set's radius; None is no curve.
        engine: `drelu`, or an outside library's name.
        allow: refusals of the preflight that are overridden, by name.
        certify: also prove what can be proven, at the radii of the Linf threats.
        remedy: a plain run that finds hidden gradients starts a first remedy by itself.
    """

    suite: str | None
    attacks: tuple[str, ...]
    norm: Norm
    eps: tuple[float, ...] | None
    samples: int = 1000
    samples_given: bool = False
    seed: int = 0
    max_steps: int | None = None
    exhaustive: bool = False
    curve: tuple[float, ...] | None = None
    engine: str = OWN
    allow: tuple[str, ...] = ()
    certify: bool = False
    remedy: bool = True

    def __post_init__(self) -> None:
        if self.curve is not None and self.eps is not None:
            raise BadValue(
                "--curve and --eps exclude each other",
                hint="--curve 0.1,0.2 is one ascending pass, --eps 0.1,0.2 a full run each",
            )

    @property
    def of_suite(self) -> tuple[str, ...]:
        """The attacks of the suite, by name."""
        return tuple(e.attack for e in suite_entries(self.suite)) if self.suite else ()

    @property
    def adaptive(self) -> bool:
        """Whether the court follows the attacks."""
        return self.suite == ADAPTIVE

    @property
    def cascading(self) -> bool:
        """Whether the suite is one whose later attacks may run on survivors."""
        return self.suite in CASCADES


@dataclass(frozen=True)
class Task:
    """One attack under one threat.

    Attributes:
        bound: the attack.
        threat: norm and radius.
        named: asked for by name, not only as part of a suite.
        cascading: part of a suite that runs on what its earlier attacks left standing; where it
            is named too, it runs in full.
        ascending: part of a curve that runs on what its smaller radii left standing.
        radii: of a curve that is read off the distances of this one run; empty otherwise.
    """

    bound: Bound
    threat: ThreatModel
    named: bool = True
    cascading: bool = False
    ascending: bool = False
    radii: tuple[float, ...] = ()

    def comes_before(self, other: Task) -> bool:
        """Whether `other`, which runs later, leaves out what this task breaks."""
        if self.threat.norm != other.threat.norm:
            return False
        if self.ascending != other.ascending or self.cascading != other.cascading:
            return False
        if self.cascading and self.threat == other.threat:
            return True
        smaller = self.ascending and self.threat.eps < other.threat.eps
        return smaller and (self.cascading or self.bound.identity == other.bound.identity)


def tasks_for(dataset: str, wanted: Wanted) -> list[Task]:
    """The tasks of a data set, each once, in suite order, radius by radius.

    A minimal-norm attack (CW-L2) is an entry of an L2 threat of its own, whatever the norm asked
    for; its bound is the suite's, else the data set's. A curve asks an attack that searches the
    smallest distance (option `exact`) once, at the largest radius.

    Raises:
        UnknownName: unknown suite, attack or option.
        BadValue: an option of the wrong type.
    """
    asked = _asked(wanted)
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    # A radius given for minimal-norm attacks alone can only be their bound.
    bounded = all(one.entry.norm == "l2" for one in asked)
    for place in range(_longest(wanted)):
        for one in asked:
            task = _task(one, dataset, wanted, place, bounded=bounded)
            if task is None:
                continue
            mark = f"{task.bound.identity}{task.threat}{task.ascending and task.cascading}"
            if mark not in seen:
                seen[mark] = len(tasks)
                tasks.append(task)
            elif one.named and tasks[seen[mark]].cascading:  # beside its suite: in full
                tasks[seen[mark]] = replace(tasks[seen[mark]], named=True)
    return tasks


@dataclass(frozen=True)
class _Asked:
    """An entry of a suite or of the command line."""

    entry: SuiteEntry
    named: bool
    cascading: bool


def _asked(wanted: Wanted) -> list[_Asked]:
    cascading = wanted.cascading and not wanted.exhaustive
    entries = suite_entries(wanted.suite) if wanted.suite else ()
    return [
        *(_Asked(entry, named=False, cascading=cascading) for entry in entries),
        *(_Asked(_typed(text), named=True, cascading=False) for text in wanted.attacks),
    ]


def _typed(text: str) -> SuiteEntry:
    name, options = parse_part(text)
    minimal = getattr(ATTACKS.resolve(name), "minimal_norm", False)
    return SuiteEntry(name, options, "l2" if minimal else None, "dataset" if minimal else None)


def _longest(wanted: Wanted) -> int:
    """How many radii there are."""
    if wanted.curve is not None:
        return max(len(CURVE_GRID), len(wanted.curve))
    return 1 if wanted.eps is None else len(wanted.eps)


def _task(one: _Asked, dataset: str, wanted: Wanted, place: int, *, bounded: bool) -> Task | None:
    """The task of an entry at the radius number `place`; None where it has fewer radii."""
    entry = one.entry
    options = _cut(entry.attack, dict(entry.options), wanted.max_steps)
    norm = wanted.norm if entry.norm is None else entry.norm
    radii = _radii(entry, dataset, wanted, bounded=bounded)
    bound = bind_attack(entry.attack, **options)
    if wanted.curve is not None and not one.cascading and _searches_distance(bound):
        bound = bind_attack(entry.attack, **{**options, "exact": True})
        threat = ThreatModel(norm, radii[-1])
        return Task(bound, threat, one.named, radii=tuple(radii)) if place == 0 else None
    if place >= len(radii):
        return None
    return Task(
        bound,
        ThreatModel(norm, radii[place]),
        one.named,
        cascading=one.cascading,
        ascending=wanted.curve is not None,
    )


def _searches_distance(bound: Bound) -> bool:
    """Whether one run answers all radii: restarts may begin at points that depend on eps."""
    return "exact" in bound.effective and bound.effective.get("restarts", 1) == 1


def _radii(entry: SuiteEntry, dataset: str, wanted: Wanted, *, bounded: bool) -> Sequence[float]:
    """The radii of an entry, ascending along a curve."""
    given = wanted.eps if wanted.curve is None else wanted.curve
    own = entry.bound is not None and not bounded and wanted.norm != "l2"
    if given and not own:
        return given if wanted.curve is None else sorted(set(given))
    radius = _own_radius(entry, dataset, wanted.norm)
    if wanted.curve is None:
        return [radius]
    # Rounded, so that the radius typed later is the same one.
    return [float(f"{factor * radius:.12g}") for factor in CURVE_GRID]


def _own_radius(entry: SuiteEntry, dataset: str, norm: Norm) -> float:
    """The radius of an entry where none was given: the suite's bound, else the data set's."""
    declared = facts(dataset)
    if entry.bound is None:
        return declared.eps if norm == "linf" else declared.l2_bound
    return declared.l2_bound if entry.bound == "dataset" else float(entry.bound)


def no_longer_than(bound: Bound, most: int | None) -> bool:
    """Whether an attack keeps to a recipe's `max_steps`; None allows everything."""
    lengths = (bound.effective[name] for name in _LENGTHS if name in bound.effective)
    return most is None or all(length <= most for length in lengths)


def shortened(bound: Bound, most: int) -> Bound:
    """The attack with at most so many steps, searches and queries."""
    return bind_attack(bound.name, **_cut(bound.name, dict(bound.given), most))


def _cut(attack: str, options: dict[str, Any], most: int | None) -> dict[str, Any]:
    if most is None:
        return options
    known = ATTACKS.options_of(attack)
    for name in _LENGTHS:
        if name in known:
            options[name] = min(int(options.get(name, known[name])), most)
    return options
