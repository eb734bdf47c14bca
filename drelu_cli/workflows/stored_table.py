"""Stored outcomes as a long table in percent, with tests on the outcomes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from drelu_cli.attacks.suites import suite_entries
from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import State
from drelu_cli.stats.distributions import FloatArray
from drelu_cli.stats.outcomes import cluster_bootstrap, mcnemar, wilson_interval
from drelu_cli.stats.posthoc import holm
from drelu_cli.store.archive import Store
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.cells import (
    attack_names,
    evaluated_frame,
    labels_of,
    survivors_note,
)

CELL = ["dataset", "model", "training", "attack"]


@dataclass(frozen=True)
class StoredTable:
    """The table that `drelu stats` tests.

    Attributes:
        frame: dataset, model (architecture), training (label), attack, accuracy in percent,
            the mean over seeds.
        notes: what was left out.
        outcomes: `intervals` per cell and `mcnemar` per pair of treatments and seed.
    """

    source: str
    frame: pd.DataFrame
    notes: tuple[str, ...]
    outcomes: Mapping[str, list[dict[str, Any]]]


def stored_table(
    root: Path,
    where: Mapping[str, str],
    suite: str | None,
    samples: int | None,
    attack_seed: int,
    seed: int,
) -> StoredTable:
    """Everything stored that fits, on one list of samples per data set.

    Raises:
        DreluError: no store, nothing that fits, an unknown suite or column.
    """
    wanted = None if suite is None else {entry.attack for entry in suite_entries(suite)}
    with open_store(root, create=False) as store:
        rows, notes = evaluated_frame(store, samples=samples, where=where, attack_seed=attack_seed)
        if wanted is not None:
            rows = rows[rows["attack"].isin({*wanted, "clean"})]
        present = set(rows["model_key"])
        labels = labels_of([model for model in store.models() if model.key in present])
        notes = [*notes, *survivors_note(rows)]
        rows = _named(rows.dropna(subset=["accuracy"]), labels)
        outcomes = _outcomes(store, rows, seed)
    if rows.empty:
        raise UnknownName("no stored result fits", hint="drelu list shows what is stored")
    means = rows.groupby(CELL, sort=False)["accuracy"].mean().mul(100).reset_index()
    return StoredTable(f"store {root}", means, tuple(notes), outcomes)


def _named(rows: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Treatments as labels, columns as attacks with what tells them apart."""
    attacked = rows[rows["attack"] != "clean"]
    threats = attacked.groupby("attack")[["norm", "eps"]].apply(lambda g: len(g.drop_duplicates()))
    several = set(threats[threats > 1].index)

    columns = [
        f"{name} {norm} {eps:g}" if attack in several else name
        for name, attack, norm, eps in zip(
            attack_names(rows), rows["attack"], rows["norm"], rows["eps"], strict=True
        )
    ]
    return rows.assign(
        model=rows["architecture"],
        training=rows["model_key"].map(dict(labels)),
        attack=columns,
    )


def _outcomes(store: Store, rows: pd.DataFrame, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Intervals and McNemar tests of every attacked cell; clean rows have no outcomes."""
    stream = np.random.default_rng(seed)
    held: dict[tuple[str, ...], dict[int, FloatArray]] = {}
    for row in rows[rows["evaluation"] != ""].to_dict("records"):
        key = tuple(str(row[name]) for name in CELL)
        number = -1 if pd.isna(row["seed"]) else int(row["seed"])
        held.setdefault(key, {})[number] = _robust(store, row)
    intervals = [
        {**dict(zip(CELL, key, strict=True)), **_interval(list(seeds.values()), stream)}
        for key, seeds in held.items()
    ]
    return {"intervals": intervals, "mcnemar": _paired(held)}


def _robust(store: Store, row: Mapping[Any, Any]) -> FloatArray:
    """(n,) 1 where the sample is robust, in the stored sample order."""
    stored = store.evaluation(str(row["evaluation"]))
    assert stored is not None  # the row was read from this store
    order = store.sample_order(stored.evaluation.dataset_digest) or ()
    states = store.states(str(row["evaluation"]), order[: int(row["n_samples"])])
    return np.asarray(states == State.ROBUST, dtype=np.float64)


def _interval(seeds: list[FloatArray], stream: np.random.Generator) -> dict[str, Any]:
    if len(seeds) == 1:
        low, high = wilson_interval(int(seeds[0].sum()), len(seeds[0]))
        centre, method = float(seeds[0].mean()), "Wilson"
    else:
        centre, low, high = cluster_bootstrap(seeds, stream)
        method = "bootstrap over seeds"
    return {
        "accuracy": 100 * centre,
        "ci95": [100 * low, 100 * high],
        "seeds": len(seeds),
        "method": method,
    }


def _paired(held: Mapping[tuple[str, ...], Mapping[int, FloatArray]]) -> list[dict[str, Any]]:
    """Exact McNemar tests between treatments, seed by seed, Holm over all of them."""
    found: list[dict[str, Any]] = []
    for (key, one), (other_key, other) in combinations(held.items(), 2):
        dataset, model, training, attack = key
        if (dataset, model, attack) != (other_key[0], other_key[1], other_key[3]):
            continue
        for number in sorted(set(one) & set(other)):
            if one[number].shape != other[number].shape:
                continue
            test = mcnemar(one[number], other[number])
            found.append(
                {
                    "dataset": dataset, "model": model, "attack": attack,
                    "a": training, "b": other_key[2], "seed": None if number < 0 else number,
                    "only_a": test.only_a, "only_b": test.only_b, "p": test.p,
                }
            )  # fmt: skip
    adjusted = holm([entry["p"] for entry in found])
    return [{**entry, "p_holm": p} for entry, p in zip(found, adjusted, strict=True)]
