"""The page of `kill_study.py`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kill_counted import ATTACK, EPOCH
from kill_sweeps import (
    AT_ONCE,
    AT_ONCE_SECONDS,
    MOST_BEGUN,
    PART_SECONDS,
    Noted,
    Swept,
)
from page import machine, versions

HEAD = (
    "sweep", "kills of the driver", "of workers", "starts", "epochs", "begun again",
    "attacks", "begun again", "same as undisturbed",
)  # fmt: skip


def page(
    alone: Swept,
    expected: dict[str, Any],
    rows: Sequence[tuple[Swept, dict[str, Noted], bool]],
    told: argparse.Namespace,
) -> str:
    """The page as Markdown."""
    kills = sum(swept.kills for swept, _, _ in rows)
    at: Counter[str] = sum((swept.at for swept, _, _ in rows), Counter())
    where = ", ".join(f"{at[what]} {words}" for what, words in _WHERE.items())
    models, outcomes = len(expected["models"]), len(expected["outcomes"])
    lines = [
        f"# {kills} times kill -9",
        "",
        f"`python benchmarks/kill_study.py --kills {told.kills} --seed {told.seed} --write`. "
        f"{machine()}, {versions('torch')}. n = {kills} kills, "
        f"over {len(rows)} sweeps one after the other; {_minutes(rows)} minutes.",
        "",
        f"`drelu sweep --jobs 2` of {models} trainings (dense nets on digits, 5 epochs) and "
        f"{outcomes} evaluations (PGD with 5 and 20 steps, 200 images). Undisturbed it takes "
        f"{alone.seconds:.0f} s. At a random moment one of its processes, drawn among the driver "
        "and the workers that live, gets SIGKILL; where that was the driver, the same command is "
        f"given again. The moment: after 1 to {MOST_BEGUN} more epochs or attacks were begun, and "
        f"up to {PART_SECONDS} s; or, {AT_ONCE:.0%} of the times, up to {AT_ONCE_SECONDS:g} s "
        "after the last kill. A sweep ends before all kills have landed, so new ones follow, in "
        "stores of their own.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"| ---: {'| ---: ' * (len(HEAD) - 2)}| --- |",
        *(_row(str(number), *one) for number, one in enumerate(rows, start=1)),
        "",
        f"* The kills came {where}.",
        "* *Same as undisturbed*: the same keys, weights, outcome of every sample (attack by "
        "attack, with distances and passes), and table; the store passes its check; nothing is "
        "left in its folder `work` but logs.",
        f"* {_again(rows)}",
        f"* {_given_up(rows)}",
    ]
    return "\n".join(lines) + "\n"


_WHERE = {
    "starting": "before any of the workers that lived had begun an epoch or an attack",
    "trainings": "during trainings",
    "attacks": "during attacks",
}


def _minutes(rows: Sequence[tuple[Swept, dict[str, Noted], bool]]) -> str:
    return f"{sum(swept.seconds for swept, _, _ in rows) / 60:.0f}"


def _row(number: str, swept: Swept, noted: dict[str, Noted], same: bool) -> str:
    epochs, attacks = noted[EPOCH], noted[ATTACK]
    cells = [
        number, swept.drivers, swept.workers, swept.starts, epochs.different, epochs.again,
        attacks.different, attacks.again, "yes" if same else "NO",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _again(rows: Sequence[tuple[Swept, dict[str, Noted], bool]]) -> str:
    noted = [one for _, both, _ in rows for one in both.values()]
    again, in_flight = sum(one.again for one in noted), sum(one.in_flight for one in noted)
    text = (
        f"Begun again: {again} epochs and attacks, each counted as often as it was; "
        f"{in_flight} of them were in flight at a kill: the last thing that a killed process began"
    )
    return f"{text}." if again == in_flight else f"{text}; {again - in_flight} WERE NOT."


def _given_up(rows: Sequence[tuple[Swept, dict[str, Noted], bool]]) -> str:
    count = sum(swept.given_up for swept, _, _ in rows)
    if not count:
        return "No job lost its worker three times in one start, which is reported as a failure."
    return (
        f"{count} jobs lost their worker three times in one start: they were reported as failed, "
        "the rest went on, and the next start did them."
    )
