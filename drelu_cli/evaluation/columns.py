"""Robust accuracy, the cumulative columns, and Wilson intervals, from stored states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drelu_cli.core.records import COLUMNS, State

# claimed = the white-box suite's attacks of the threat's norm at their default parameters.
CLAIMED = {
    "linf": ("fgsm", "pgd", "apgd_ce", "apgd_dlr"),
    "l2": ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "cw_l2"),
}


AUTOATTACK = ("apgd_ce", "apgd_t", "fab_t", "square")
"""AutoAttack's four (2003.01690), in its order."""


def robust_share(states: Sequence[int]) -> float | None:
    """Robust samples / all samples; None where any was not run, or there are none."""
    if not len(states) or any(state == State.NOT_RUN for state in states):
        return None
    return sum(state == State.ROBUST for state in states) / len(states)


def cumulative(lists: Sequence[Sequence[int]]) -> list[list[int]]:
    """After each attack, what is left: broken by any so far is broken; not run adds nothing."""
    left: list[list[int]] = []
    for states in lists:
        before = left[-1] if left else [State.NOT_RUN] * len(states)
        left.append([_worse(a, b) for a, b in zip(before, states, strict=True)])
    return left


def merged(lists: Sequence[Sequence[int]]) -> list[int]:
    """Several runs of one attack on one list: broken in any is broken, then robust, then not run.

    `lists` holds at least one.
    """
    return cumulative(lists)[-1]


def worst_case(lists: Sequence[Sequence[int]]) -> float | None:
    """Robust share over several attacks, each on all samples or on survivors.

    A sample is broken where any attack broke it, and robust where every attack ran on it and
    none did; None where a sample is neither, since an attack that did not run might break it.
    """
    states = [
        State.BROKEN if State.BROKEN in column else max(column)
        for column in zip(*lists, strict=True)
    ]
    return robust_share(states)


def _worse(before: int, now: int) -> int:
    if State.BROKEN in (before, now):
        return State.BROKEN
    return State.ROBUST if State.ROBUST in (before, now) else State.NOT_RUN


def columns(norm: str, defaults: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    """The five columns of one model, threat and sample list.

    Args:
        norm: `linf` or `l2`.
        defaults: states by attack, for attacks run at their default parameters on these samples;
            from runs on survivors, with what was left out as not run.

    Returns:
        Fractions; None where the attacks of a column did not cover the whole list: `claimed` is
        the worst case over CLAIMED, `autoattack` over AUTOATTACK, `standard` over both. The
        columns beyond stay None until their suites exist.
    """
    needed = {
        "claimed": CLAIMED[norm],
        "autoattack": AUTOATTACK,
        "standard": (*CLAIMED[norm], *AUTOATTACK),
    }
    out: dict[str, float | None] = dict.fromkeys(COLUMNS)
    for column, attacks in needed.items():
        if all(name in defaults for name in attacks):
            out[column] = worst_case([defaults[name] for name in attacks])
    return out
