"""Stored results as the points of a plot: what is read, and how seeds become one point."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import NOT_EXAMINED, OWN, ModelRecord
from drelu_cli.evaluation.verdict import worst_word
from drelu_cli.report.layout import attack_name
from drelu_cli.stats.outcomes import wilson_interval
from drelu_cli.store.connect import Store
from drelu_cli.workflows.cells import (
    attack_names,
    column_rows,
    evaluated_frame,
    labels_of,
    survivors_note,
)
from drelu_cli.workflows.verdicts import examined_elsewhere, first_remedies

CLEAN, ADAPTIVE, CLAIMED = "clean", "adaptive", "claimed"
MINIMAL_NORM = "cw_l2"  # has a threat of its own beside the others'
# The attacks of the source paper's figures.
PAPER = ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "cw_l2", "square")

Threat = tuple[str, float]
Point = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything stored that fits, on one list of samples per data set.

    Attributes:
        frame: a row per model and attack, as `accuracy_frame`, with `shown`: the attack's name
            with options and engine; of every attack in `series`.
        records: the models, by key.
        labels: their treatments, by key.
        datasets: how each model's data set is written.
        columns: claimed, adaptive and verdict, by model and threat.
        series: the attacks that are drawn, by the name they are shown under.
    """

    frame: pd.DataFrame
    records: Mapping[str, ModelRecord]
    labels: Mapping[str, str]
    datasets: Mapping[str, str]
    columns: Mapping[tuple[str, str, float], Mapping[str, Any]]
    series: tuple[str, ...]

    def without(self, keys: Collection[str]) -> Results:
        """The same but for these models."""
        return replace(
            self,
            frame=self.frame[~self.frame["model_key"].isin(keys)].reset_index(drop=True),
            records={key: one for key, one in self.records.items() if key not in keys},
        )

    def threat(self, dataset: str) -> Threat | None:
        """The threat of a data set's plot: that which most of its attacks are stored at."""
        return _commonest(self._attacked(dataset))

    def other_radii(self, dataset: str) -> list[float]:
        """Radii of the same norm that are stored, and are not that of the plot."""
        threat = self.threat(dataset)
        if threat is None:
            return []
        rows = self._attacked(dataset)
        return sorted({float(eps) for eps in rows["eps"][rows["norm"] == threat[0]]} - {threat[1]})

    def _attacked(self, dataset: str) -> pd.DataFrame:
        """Rows with an accuracy; of a minimal-norm attack only where there is nothing else."""
        rows = self.frame[(self.frame["dataset"] == dataset) & self.frame["shown"].ne(CLEAN)]
        rows = rows.dropna(subset=["accuracy"])
        others = rows[rows["attack"] != MINIMAL_NORM]
        return rows if others.empty else others

    def shares(self, key: str, series: str, threat: Threat) -> pd.Series[Any] | None:
        """The row of one model under one series; CW-L2 has a threat of its own, one for all."""
        rows = self.frame[self.frame["shown"] == series].dropna(subset=["accuracy"])
        mine = rows[rows["model_key"] == key]
        if series != CLEAN and len(mine):
            if (mine["attack"] == MINIMAL_NORM).all():
                alike = rows["dataset"] == mine["dataset"].iloc[0]
                threat = _commonest(rows[alike]) or threat
            mine = mine[(mine["norm"] == threat[0]) & (mine["eps"] == threat[1])]
        return None if mine.empty else mine.iloc[0]

    def column(self, key: str, threat: Threat) -> Mapping[str, Any]:
        """The columns of one model under one threat; empty where nothing is stored."""
        return self.columns.get((key, *threat), {})

    def verdict(self, members: Sequence[ModelRecord], threat: Threat) -> str:
        """The worst word over the seeds, with its count."""
        words = [str(self.column(one.key, threat).get("verdict", NOT_EXAMINED)) for one in members]
        return worst_word(words)


def _commonest(rows: pd.DataFrame) -> Threat | None:
    """The threat that most rows have; None without rows."""
    counts = Counter((str(norm), float(eps)) for norm, eps in zip(rows.norm, rows.eps, strict=True))
    # The smallest of several that are equally common: larger ones probe, they do not rank.
    return min(counts, key=lambda threat: (-counts[threat], threat), default=None)


def results(
    store: Store,
    *,
    samples: int | None,
    where: Mapping[str, str],
    attack_seed: int,
    models: Collection[str] | None,
    attacks: Sequence[str],
    planned: Sequence[str] = (),
) -> tuple[Results, list[str]]:
    """What a plot is made of, and notes on what was left out.

    Args:
        store: where the outcomes are.
        samples: the first N of the fixed order; None takes what most results cover.
        where: filters, as of `drelu compare`.
        attack_seed: which attack seed's results.
        models: keys; None takes all.
        attacks: names asked for; empty takes `planned`, and without those PAPER.
        planned: the attacks of a recipe, with their options.

    Raises:
        UnknownName: nothing stored that fits, or not with such an attack.
    """
    frame, notes = evaluated_frame(
        store, samples=samples, where=where, attack_seed=attack_seed, models=models
    )
    frame = frame.assign(shown=attack_names(frame))
    known = [name for name in dict.fromkeys(frame["shown"]) if name != CLEAN]
    series = [_series(name, frame) for name in attacks]
    for name, found in zip(attacks, series, strict=True):
        if found is None:
            raise UnknownName.among("stored attack", name, known)
    if not attacks:
        series = [_series(name, frame) for name in (planned or PAPER)]
        missing = [
            attack_name(name)
            for name, found in zip(planned or PAPER, series, strict=True)
            if found is None
        ]
        notes += [f"not stored, so not drawn: {', '.join(missing)}"] if missing else []
    drawn = tuple(dict.fromkeys(found for found in series if found is not None)) or tuple(known)
    present = set(frame["model_key"])
    records = {record.key: record for record in store.models() if record.key in present}
    labels = labels_of(list(records.values()))
    notes += survivors_note(frame[frame["shown"].isin(drawn)])
    notes += examined_elsewhere(store, list(records.values()), frame)
    notes += first_remedies(store, list(records.values()), frame)
    _, per_model = column_rows(store, frame, labels)
    columns = {(row["model_key"], row["norm"], float(row["eps"])): row for row in per_model}
    datasets = dict(zip(frame["model_key"], frame["dataset"].astype(str), strict=True))
    kept = frame[frame["shown"].isin([CLEAN, *drawn])].reset_index(drop=True)
    return Results(kept, records, labels, datasets, columns, drawn), notes


def _series(name: str, frame: pd.DataFrame) -> str | None:
    """The name that an attack is stored under: as it stands, else by its bare name.

    Of one attack with several options, the defaults; without those, what most models have.
    """
    if (frame["shown"] == name).any():
        return name
    bare = frame[(frame["attack"] == name) & (frame["engine"] == OWN)]
    return None if bare.empty else str(bare["shown"].value_counts().index[0])


def averaged(values: Sequence[float], n_samples: int) -> Point:
    """Mean over seeds with mean +- standard deviation (n - 1), of one seed Wilson's interval."""
    mean = statistics.fmean(values)
    found = {"mean": mean, "n_seeds": len(values), "n_samples": n_samples}
    if len(values) > 1:
        spread = statistics.stdev(values)
        return {**found, "low": mean - spread, "high": mean + spread, "interval": "std"}
    low, high = wilson_interval(round(mean * n_samples), n_samples)
    return {**found, "low": low, "high": high, "interval": "wilson95"}


def series_points(
    found: Results, members: Sequence[ModelRecord], threat: Threat, base: Point
) -> list[Point]:
    """One point per series of the seeds of one treatment: clean, the attacks, adaptive."""
    word = found.verdict(members, threat)
    points = []
    for series in (CLEAN, *found.series):
        rows = [found.shares(one.key, series, threat) for one in members]
        there = [row for row in rows if row is not None]
        if not there:
            continue
        attacked = series != CLEAN
        points.append(
            {
                **base,
                "series": series,
                **averaged([float(row["accuracy"]) for row in there], int(there[0]["n_samples"])),
                "norm": str(there[0]["norm"]),
                "eps": float(there[0]["eps"]) if attacked else None,
                "verdict": word if attacked else "",
            }
        )
    return [*points, *column_points(found, members, threat, base, (ADAPTIVE,))]


def column_points(
    found: Results,
    members: Sequence[ModelRecord],
    threat: Threat,
    base: Point,
    names: Iterable[str],
) -> list[Point]:
    """One point per column, over the seeds that have it: `n_seeds` says how many.

    A court that has sat on one seed of three must not vanish from the picture.
    """
    points = []
    for name in names:
        columns = (found.column(one.key, threat).get(name) for one in members)
        values = [float(value) for value in columns if value is not None and not pd.isna(value)]
        if not values:
            continue
        points.append(
            {
                **base,
                "series": name,
                **averaged(values, samples_of(found, members[0])),
                "norm": threat[0],
                "eps": threat[1],
                "verdict": found.verdict(members, threat),
            }
        )  # fmt: skip
    return points


def samples_of(found: Results, record: ModelRecord) -> int:
    """The length of the list of samples."""
    return int(found.frame[found.frame["model_key"] == record.key]["n_samples"].max())
