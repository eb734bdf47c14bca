"""From flags, remedy and control to a word: pure functions on counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drelu_cli.core.records import (
    MASKED,
    NO_FAILURE,
    NOT_EXAMINED,
    SUSPICIOUS,
    VERDICTS,
    Evidence,
)
from drelu_cli.stats.outcomes import mcnemar

# What the remedy must break beyond the control, as a share of all samples, and the level of the
# exact McNemar test between the two.
MORE_THAN_CONTROL = 0.05
LEVEL = 0.01
# A remedy that breaks this much without a mechanism flag shows a weak evaluation.
LARGE_DROP = 0.05
TOO_WEAK = "attack-too-weak"
SQUARE, BLACKBOX = "square", "blackbox"


@dataclass(frozen=True)
class Contest:
    """Remedy against control on the samples that every plain attack left standing.

    Attributes:
        remedy: samples the remedy broke.
        control: samples the control broke, which spent as many passes on plain gradients.
        gain: (remedy - control) / all samples of the list.
        p: exact McNemar test between the two.
    """

    remedy: int
    control: int
    gain: float
    p: float

    @property
    def won(self) -> bool:
        """Whether the remedy breaks at least 5 points more, at the level .01."""
        return self.gain >= MORE_THAN_CONTROL and self.p < LEVEL


def contest(remedy: Sequence[bool], control: Sequence[bool], total: int) -> Contest:
    """Compares what two attacks broke of the same samples (n,), out of `total` on the list."""
    test = mcnemar(remedy, control)
    broken, others = sum(remedy), sum(control)
    return Contest(broken, others, (broken - others) / total, test.p)


def strongest_plain(own: Mapping[str, float]) -> str | None:
    """The plain attack of lowest own robust accuracy; of equal ones the later in suite order."""
    best: str | None = None
    for name, share in own.items():
        if best is None or share <= own[best]:
            best = name
    return best


def mechanism_flags(evidence: Iterable[Evidence], attack: str | None) -> list[Evidence]:
    """The flags of hidden gradients that speak about this attack's number."""
    return [one for one in evidence if one.flag and one.mechanism and attack in one.attacks]


def deciding(evidence: Sequence[Evidence], own: Mapping[str, float]) -> tuple[str, ...]:
    """The attacks whose flags count: the strongest plain one.

    Where that is Square, which follows no gradient, and it is not significantly stronger than the
    strongest gradient attack (no flag `blackbox`), the latter's flags count, too: on few images
    chance alone may put Square first.
    """
    strongest = strongest_plain(own)
    if strongest is None:
        return ()
    if strongest != SQUARE or any(one.flag for one in evidence if one.check == BLACKBOX):
        return (strongest,)
    gradient = strongest_plain({name: share for name, share in own.items() if name != SQUARE})
    return (strongest,) if gradient is None else (strongest, gradient)


def verdict(
    evidence: Sequence[Evidence], own: Mapping[str, float], outcome: Contest | None, *, done: bool
) -> str:
    """The word for one trained net.

    Args:
        evidence: what the checks saw.
        own: own robust accuracy by plain attack, in suite order: which of them determines the
            column.
        outcome: remedy against control; None where the remedy broke too little for a control.
        done: whether the adaptive suite ran on the whole list.

    Returns:
        `masked`: a mechanism flag on the strongest plain attack, and the remedy won.
        `suspicious`: the flag alone. `no failure found`: neither. `not examined`: not run.
    """
    if not done:
        return NOT_EXAMINED
    if not any(mechanism_flags(evidence, attack) for attack in deciding(evidence, own)):
        return NO_FAILURE
    return MASKED if outcome is not None and outcome.won else SUSPICIOUS


def too_weak(
    evidence: Sequence[Evidence], own: Mapping[str, float], broken: int, total: int
) -> bool:
    """Whether the remedy broke much though no attack is flagged: the plain suite is weak."""
    flags = [flag for name in own for flag in mechanism_flags(evidence, name)]
    return not flags and broken / total >= LARGE_DROP


def worst_word(words: Sequence[str]) -> str:
    """Over the seeds of one treatment: the worst word, with its count: `masked 2/3`."""
    if not words:
        return NOT_EXAMINED
    worst = min(words, key=VERDICTS.index)
    return worst if len(words) == 1 else f"{worst} {words.count(worst)}/{len(words)}"
