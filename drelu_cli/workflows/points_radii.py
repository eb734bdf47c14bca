"""Points over the radius: full runs, ascending curves, and distances read off at every radius."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import ModelRecord, State
from drelu_cli.evaluation.columns import merged, robust_share
from drelu_cli.evaluation.judge import TOLERANCE
from drelu_cli.store.connect import Store
from drelu_cli.workflows.points import ADAPTIVE, CLEAN, Point, Results, averaged, column_points
from drelu_cli.workflows.points_groups import is_moment

# `after eps 0.05, 0.1 [...]`: an ascending curve of one attack; a suite's cascade names attacks.
_CURVE = re.compile(r"^after eps ([\d.e, +-]+) \[")
# A run that searched the smallest distance is read off at so many radii.
_READINGS = 10

Share = tuple[float, int, bool]  # robust share, samples, from an ascending curve


def radii_points(found: Results, store: Store) -> tuple[list[Point], list[str]]:
    """The points of every attack and treatment; radius 0 is the clean input by definition.

    A full run counts before a curve's step at the same radius.

    Raises:
        UnknownName: nothing stored.
    """
    points: list[Point] = []
    for series in found.series:
        for members in _treatments(found):
            points += _method(found, store, series, members)
    if not points:
        raise UnknownName(
            "there are no stored results over eps that fit",
            hint="drelu attack --attack apgd_ce --eps 0.05,0.1,0.2 stores some",
        )
    radii = {point["x"] for point in points if point["x"]}
    notes = [] if len(radii) > 1 else ["only one radius is stored: drelu attack --eps a,b,c"]
    if any(point.get("survivors") for point in points):
        notes.append("points of ascending curves are marked survivors = True in the data")
    return points, notes


def _treatments(found: Results) -> Iterator[list[ModelRecord]]:
    """The seeds of each treatment."""
    groups: dict[tuple[str, str, str], list[ModelRecord]] = {}
    for record in found.records.values():
        if not is_moment(record):
            place = (found.datasets[record.key], record.architecture, found.labels[record.key])
            groups.setdefault(place, []).append(record)
    yield from groups.values()


def _method(
    found: Results, store: Store, series: str, members: Sequence[ModelRecord]
) -> Iterator[Point]:
    """One line, per norm, and the adaptive column at the same radii."""
    frame = found.frame[found.frame["shown"] == series]
    for norm in dict.fromkeys(frame["norm"]):
        rows = frame[frame["norm"] == norm]
        shares = [_shares(store, rows[rows["model_key"] == one.key], series) for one in members]
        shares = [one for one in shares if one]
        base = {
            "dataset": found.datasets[members[0].key],
            "architecture": members[0].architecture,
            "group": series,
            "treatment": found.labels[members[0].key],
            "axis": "eps",
            "quantity": "accuracy",
        }
        if not shares:
            continue
        yield from _clean(found, members, {**base, "series": series, "norm": norm})
        for eps in sorted({eps for one in shares for eps in one}):
            here = [one[eps] for one in shares if eps in one]
            yield {
                **base,
                "x": eps,
                "series": series,
                **averaged([share for share, _, _ in here], here[0][1]),
                "norm": norm,
                "eps": eps,
                "verdict": found.verdict(members, (norm, eps)),
                "survivors": any(curve for _, _, curve in here),
            }
            yield from column_points(found, members, (norm, eps), {**base, "x": eps}, (ADAPTIVE,))


def _clean(found: Results, members: Sequence[ModelRecord], base: Point) -> Iterator[Point]:
    rows = found.frame[found.frame["shown"].eq(CLEAN)]
    rows = rows[rows["model_key"].isin([one.key for one in members])]
    if len(rows):
        shares = [float(share) for share in rows["accuracy"]]
        yield {
            **base, "x": 0.0, "eps": 0.0, **averaged(shares, int(rows["n_samples"].iloc[0])),
            "verdict": "",
        }  # fmt: skip


def _shares(store: Store, rows: pd.DataFrame, series: str) -> dict[float, Share]:
    """Robust share by radius, of one model."""
    if rows.empty:
        return {}
    if "exact=true" in series.replace(" ", "").lower():
        return _read_off(store, rows.sort_values("eps").iloc[-1])
    states = {
        float(row["eps"]): _states(store, row) for _, row in rows.iterrows()
    }  # the full run of a radius replaces its step of a curve, or the other way round
    found: dict[float, Share] = {}
    for _, row in rows.iterrows():
        eps = float(row["eps"])
        if not pd.isna(row["accuracy"]):
            found[eps] = (float(row["accuracy"]), int(row["n_samples"]), False)
        elif eps not in found:
            share = _step(store, row, states)
            if share is not None:
                found[eps] = (share, int(row["n_samples"]), True)
    return found


def _states(store: Store, row: Mapping[Any, Any] | pd.Series[Any]) -> list[int]:
    key = str(row["evaluation"])
    stored = store.evaluation(key)
    assert stored is not None  # the row was read from this store
    order = store.sample_order(stored.evaluation.dataset_digest) or ()
    return [int(state) for state in store.states(key, order[: int(row["n_samples"])])]


def _step(store: Store, row: pd.Series[Any], stored: Mapping[float, Sequence[int]]) -> float | None:
    """What a curve leaves at one radius: what a smaller radius of it broke is broken."""
    match = _CURVE.match(str(row["cascade"]))
    if match is None:
        return None
    earlier = {text.strip() for text in match.group(1).split(",")}
    smaller = [states for eps, states in stored.items() if f"{eps:g}" in earlier]
    broken = [
        [state if state == State.BROKEN else int(State.NOT_RUN) for state in states]
        for states in smaller
    ]
    return robust_share(merged([_states(store, row), *broken]))


def _read_off(store: Store, row: pd.Series[Any]) -> dict[float, Share]:
    """The exact minimal-norm curve: broken where the smallest distance is at most the radius."""
    stored = store.evaluation(str(row["evaluation"]))
    assert stored is not None  # the row was read from this store
    count, most = int(row["n_samples"]), float(row["eps"])
    order = store.sample_order(stored.evaluation.dataset_digest) or ()
    outcomes = store.outcomes(str(row["evaluation"]), order[:count])
    found = {}
    for number in range(1, _READINGS + 1):
        eps = float(f"{most * number / _READINGS:.12g}")
        fell = sum(
            one.state is State.BROKEN and one.distance <= eps + TOLERANCE for one in outcomes
        )
        found[eps] = (1 - fell / count, count, False)
    return found
