"""From stored outcomes to the cells of a comparison: one list of samples, seeds averaged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import UnknownName
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import COLUMNS, NOT_EXAMINED, OWN, ModelRecord, ThreatModel
from drelu_cli.evaluation.columns import columns, merged
from drelu_cli.evaluation.verdict import worst_word
from drelu_cli.store.connect import Store
from drelu_cli.store.frames import accuracy_frame
from drelu_cli.workflows.certificates import certificate_of, certified_share
from drelu_cli.workflows.verdicts import adaptive_share, court_runs, stored_examination

CELL = ["dataset", "architecture", "training", "attack", "norm", "eps"]


def evaluated_frame(
    store: Store,
    *,
    samples: int | None,
    where: Mapping[str, str],
    attack_seed: int,
    models: Collection[str] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Accuracies of every model on one list of samples per data set, and notes on what that cost.

    Without `samples` the list is the one that most evaluations of the data set cover; those that
    do not cover it are left out and named. Attacks that ran on survivors only have no accuracy
    of their own (NaN). Runs that the court made for itself are not compared.

    Raises:
        UnknownName: nothing is stored, or nothing fits.
    """
    own = court_runs(store)
    everything = accuracy_frame(store, where=dict(where))
    everything = _chosen(everything, attack_seed, models, own)
    if not _has_numbers(everything):
        raise UnknownName(
            "there are no stored results that fit",
            hint="drelu attack runs the attacks; drelu list shows what is stored",
        )
    parts, notes = [], []
    for dataset, stored in everything.groupby("dataset", sort=False):
        attacked = stored[stored["attack"] != "clean"]
        if not _has_numbers(stored):
            continue
        attacked = attacked.dropna(subset="accuracy")
        size = samples or int(attacked["n_samples"].mode().max())
        found = accuracy_frame(store, samples=size, where={**where, "dataset": str(dataset)})
        found = _chosen(found, attack_seed, models, own)
        if not _has_numbers(found):
            continue
        found = _by_content(found, store)
        for name, group in found.groupby("dataset", sort=False):
            notes.append(f"{name}: compared on the same {group['n_samples'].max()} test images")
        notes += _left_out(attacked, found, size)
        parts.append(found)
    if not parts:
        most = int(everything["n_samples"].max())
        raise UnknownName(f"no stored result covers {samples} samples", hint=f"the most is {most}")
    return pd.concat(parts, ignore_index=True), notes


def _has_numbers(frame: pd.DataFrame) -> bool:
    """Whether any attack has an accuracy of its own."""
    return bool(((frame["attack"] != "clean") & frame["accuracy"].notna()).any())


def _chosen(
    frame: pd.DataFrame,
    attack_seed: int,
    models: Collection[str] | None,
    left_out: Collection[str],
) -> pd.DataFrame:
    wanted = (frame["attack"] == "clean") | (frame["attack_seed"] == attack_seed)
    wanted &= ~frame["evaluation"].isin(list(left_out))
    if models is not None:
        wanted &= frame["model_key"].isin(list(models))
    found = frame[wanted]
    if not isinstance(models, Sequence):
        return found
    # Workers register models in the order they finish: a sweep's table has its plan's order.
    place = {key: number for number, key in enumerate(models)}
    return found.sort_values("model_key", key=lambda keys: keys.map(place), kind="stable")


def _by_content(frame: pd.DataFrame, store: Store) -> pd.DataFrame:
    """`frame` with data sets of one name but other content told apart: `npz [ab12cd]`."""
    digests = {record.key: record.dataset_digest for record in store.models()}
    content = frame["model_key"].map(digests)
    if content.nunique() <= 1:
        return frame
    told = [
        f"{name} [{digest[:6]}]" for name, digest in zip(frame["dataset"], content, strict=True)
    ]
    return frame.assign(dataset=told)


def _left_out(before: pd.DataFrame, after: pd.DataFrame, size: int) -> list[str]:
    missing = before[~before["evaluation"].isin(set(after["evaluation"]))]
    if missing.empty:
        return []
    named = ", ".join(dict.fromkeys(_full_name(row) for _, row in missing.iterrows()))
    return [f"left out, since they do not cover {size} samples: {named}"]


def _full_name(row: pd.Series[Any]) -> str:
    engine = "" if row["engine"] in ("", OWN) else f" [{row['engine']}]"
    return f"{row['name']} {row['attack']} {row['norm']} {row['eps']:g}{engine}"


def labels_of(records: Sequence[ModelRecord]) -> dict[str, str]:
    """Label by model key; treatments that share a label but not a recipe are told apart.

    Seeds of one recipe on the same data share a label. Where trainings differ in more than the
    seed, each label gets the first six digits of its first model's key: they must not be
    averaged.
    """
    families: dict[tuple[str, str, str], dict[str, list[ModelRecord]]] = {}
    for record in records:
        place = (record.dataset, record.architecture, record.label)
        families.setdefault(place, {}).setdefault(_family(record), []).append(record)
    labels = {}
    for (_, _, label), group in families.items():
        for members in group.values():
            mark = f" [{members[0].key[:6]}]" if len(group) > 1 else ""
            labels.update({record.key: f"{label}{mark}" for record in members})
    return labels


def _family(record: ModelRecord) -> str:
    """What two seeds of one treatment share: the training's identity without its seed."""
    return family_of(record, without=("train.seed",))


def family_of(record: ModelRecord, *, without: Collection[str]) -> str:
    """A digest of the training's identity without some dotted fields."""
    if record.source != "trained":
        return record.key
    identity = Recipe.from_mapping(record.recipe).identity(record.dataset_digest)
    for field in without:
        section, _, name = field.partition(".")
        identity[section] = {k: v for k, v in identity[section].items() if k != name}
    return digest_of(identity)


def attack_names(frame: pd.DataFrame) -> list[str]:
    """Attack with its options and, of an outside engine, that: `pgd [torchattacks 3.5.1]`.

    What another library found is no number of ours: the two never share a column.
    """
    with_options = [
        f"{attack}:{options}" if options else str(attack)
        for attack, options in zip(frame["attack"], frame["options"], strict=True)
    ]
    return [
        name if engine in ("", OWN) else f"{name} [{engine}]"
        for name, engine in zip(with_options, frame["engine"], strict=True)
    ]


def survivors_note(frame: pd.DataFrame) -> list[str]:
    """What a reader must know about attacks without an accuracy of their own."""
    attacks = list(dict.fromkeys(frame[frame["accuracy"].isna()]["attack"]))
    if not attacks:
        return []
    return [
        f"survivors-only runs of {', '.join(attacks)} (after earlier attacks or smaller radii) "
        "have no accuracy of their own: cells show full runs; the cascade of the suite standard "
        "counts in the columns standard and autoattack"
    ]


def cells_of(frame: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """One row per cell of the table: mean and standard deviation (n - 1) over seeds."""
    own = frame.dropna(subset=["accuracy"])
    marked = own.assign(training=own["model_key"].map(dict(labels)), attack=attack_names(own))
    grouped = marked.groupby(CELL, sort=False)["accuracy"]
    return grouped.agg(mean="mean", std="std", n_seeds="count").reset_index()


def column_rows(
    store: Store, frame: pd.DataFrame, labels: Mapping[str, str]
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The claimed ... certified columns per treatment and threat, and the same per model."""
    ours = frame[(frame["attack"] != "clean") & (frame["engine"] == OWN)]
    records = {record.key: record for record in store.models()}
    per_model = [
        _columns_of_model(store, records[str(group["model_key"].iloc[0])], group, labels)
        for _, group in ours.groupby(["model_key", "norm", "eps"], sort=False)
        if group["accuracy"].notna().any()  # else only a step of a curve
    ]
    keys = ["dataset", "architecture", "training", "norm", "eps"]
    if not per_model:
        return pd.DataFrame(columns=pd.Index([*keys, *COLUMNS, "verdict"])), []
    table = pd.DataFrame(per_model)
    rows = []
    for place, group in table.groupby(keys, sort=False):
        values = {name: _mean_of_all(group[name]) for name in COLUMNS}
        verdicts = list(group["verdict"])
        rows.append(
            {
                **dict(zip(keys, place, strict=True)),
                **values,
                "verdict": worst_word(verdicts),
                "per_seed_verdicts": verdicts,
            }
        )
    return pd.DataFrame(rows), per_model


def _columns_of_model(
    store: Store, record: ModelRecord, group: pd.DataFrame, labels: Mapping[str, str]
) -> dict[str, Any]:
    first = group.iloc[0]
    threat = ThreatModel("linf" if first["norm"] == "linf" else "l2", float(first["eps"]))
    rows = (store.sample_order(record.dataset_digest) or ())[: int(first["n_samples"])]
    seed = int(first["attack_seed"])
    examination = stored_examination(store, record, threat, seed, rows)
    runs: dict[str, list[list[int]]] = {}
    for _, row in group[group["options"] == ""].iterrows():
        states = _states(store, str(row["evaluation"]), int(row["n_samples"]))
        runs.setdefault(str(row["attack"]), []).append(states)
    defaults = {attack: merged(lists) for attack, lists in runs.items()}
    return {
        "model_key": record.key,
        "dataset": first["dataset"],
        "architecture": first["architecture"],
        "training": labels[record.key],
        "norm": first["norm"],
        "eps": float(first["eps"]),
        **columns(threat.norm, defaults),
        "adaptive": adaptive_share(store, record, threat, examination, rows),
        "certified": certified_share(certificate_of(store, record, threat, rows)),
        "verdict": NOT_EXAMINED if examination is None else examination.word,
    }


def _states(store: Store, key: str, count: int) -> list[int]:
    stored = store.evaluation(key)
    assert stored is not None  # the frame was read from this store
    order = store.sample_order(stored.evaluation.dataset_digest) or ()
    return [int(state) for state in store.states(key, order[:count])]


def _mean_of_all(values: pd.Series[Any]) -> float | None:
    """The mean over seeds; empty where any seed's column is empty."""
    return None if values.isna().any() else float(values.astype(float).mean())
