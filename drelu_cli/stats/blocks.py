"""From a long frame of accuracies to complete blocks: rows blocks, columns treatments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from drelu_cli.core.errors import BadValue, DataError, UnknownName
from drelu_cli.stats.distributions import FloatArray
from drelu_cli.stats.ranking import tidy

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["cell", "network"]
NETWORKS_FROM = 5  # with fewer networks no test between them can reach p = .05
REQUIRED = ("dataset", "model", "training", "attack", "accuracy")


@dataclass(frozen=True, slots=True)
class MissingBlock:
    """A block left out because some treatments have no value in it."""

    block: str
    treatments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Complete blocks of accuracies in percent.

    Attributes:
        unit: `cell` = network x attack column, `network` = data set x model.
        names: (N,) readable names.
        networks: (N,) the network of each block.
        columns: (N,) the attack column; for networks how the columns were summarised.
        treatments: (k,) in order of appearance.
        values: (N, k).
        printed_ranks: (N, k) where the table prints them, else None.
        missing: blocks left out, with the treatments that lack them.
    """

    unit: Unit
    names: tuple[str, ...]
    networks: tuple[str, ...]
    columns: tuple[str, ...]
    treatments: tuple[str, ...]
    values: FloatArray
    printed_ranks: FloatArray | None
    missing: tuple[MissingBlock, ...]


def cells(frame: pd.DataFrame, columns: str = "all") -> Blocks:
    """One block per table, network and attack column.

    Args:
        frame: long form with the columns of `REQUIRED` (accuracy in percent) and optionally
            `table` and `printed_rank`.
        columns: `all`, `attacks` (without clean) or attack names with commas.

    Raises:
        DataError: missing columns, cells given twice, no complete block.
        BadValue: fewer than 2 treatments.
        UnknownName: an attack column that the table does not have.
    """
    _require(frame)
    chosen = frame[frame["attack"].isin(_chosen_columns(frame, columns))].dropna(
        subset=["accuracy"]
    )
    treatments = tuple(str(name) for name in dict.fromkeys(frame["training"]))
    if len(treatments) < 2:
        raise BadValue(
            f"{len(treatments)} treatment(s) ({', '.join(treatments)}): nothing to compare",
            hint="a comparison needs two trainings; check --where",
        )
    keys = [key for key in ("table", "dataset", "model", "attack") if key in chosen.columns]
    _refuse_duplicates(chosen, keys)
    order = list(dict.fromkeys(chosen[keys].itertuples(index=False, name=None)))
    wide = chosen.pivot(index=keys, columns="training", values="accuracy").reindex(
        index=_as_index(order, keys), columns=list(treatments)
    )
    matrix = tidy(wide.to_numpy(dtype=np.float64))
    whole: npt.NDArray[np.bool_] = np.asarray(~np.isnan(matrix).any(axis=1))
    several = "table" in keys and chosen["table"].nunique() > 1
    label = [_label(key, keys, several) for key in order]
    missing = tuple(
        MissingBlock(label[i], tuple(np.asarray(treatments)[np.isnan(matrix[i])].tolist()))
        for i in np.flatnonzero(~whole)
    )
    if not whole.any():
        raise DataError(
            "no block has a value for every treatment: " + _most_missing(missing),
            hint="compare fewer treatments or one table, e.g. --where training=... or table=2",
        )
    kept = [order[i] for i in np.flatnonzero(whole)]
    return Blocks(
        unit="cell",
        names=tuple(label[i] for i in np.flatnonzero(whole)),
        networks=tuple(_network(key, keys) for key in kept),
        columns=tuple(str(key[keys.index("attack")]) for key in kept),
        treatments=treatments,
        values=matrix[whole],
        printed_ranks=_printed(chosen, keys, order, treatments, whole),
        missing=missing,
    )


def networks(blocks: Blocks, over: str = "mean") -> Blocks:
    """One block per network: the mean or the worst of its complete cells.

    Only columns that every treatment has enter, so that like is compared with like.

    Raises:
        BadValue: `over` is neither `mean` nor `worst`.
    """
    if over not in ("mean", "worst"):
        raise BadValue(f"--over '{over}' is unknown", hint="known: mean, worst")
    names = list(dict.fromkeys(blocks.networks))
    owner = np.asarray(blocks.networks)
    summary = np.mean if over == "mean" else np.min
    rows = [summary(blocks.values[owner == name], axis=0) for name in names]
    return Blocks(
        unit="network",
        names=tuple(names),
        networks=tuple(names),
        columns=(over,) * len(names),
        treatments=blocks.treatments,
        values=tidy(np.stack(rows)),
        printed_ranks=None,
        missing=blocks.missing,
    )


def resolve_unit(asked: str, cell_blocks: Blocks) -> tuple[Unit, str]:
    """The unit that `--blocks` means here, and a warning where `auto` fell back to cells.

    Raises:
        BadValue: not `cell`, `network` or `auto`.
    """
    if asked == "cell":
        return "cell", ""
    if asked == "network":
        return "network", ""
    if asked != "auto":
        raise BadValue(f"--blocks '{asked}' is unknown", hint="known: cell, network, auto")
    count = len(set(cell_blocks.networks))
    if count >= NETWORKS_FROM:
        return "network", ""
    return "cell", (
        f"few-networks: {count} network(s), fewer than {NETWORKS_FROM}; the blocks are "
        "network x attack column and are not independent"
    )


def _require(frame: pd.DataFrame) -> None:
    lacking = [name for name in REQUIRED if name not in frame.columns]
    if lacking:
        raise DataError(
            f"the table has no column {', '.join(lacking)}",
            hint=f"the long form needs {', '.join(REQUIRED)}",
        )
    values = frame["accuracy"].dropna()
    wrong = values[(values < 0) | (values > 100)]
    if len(wrong):
        raise BadValue(
            f"accuracy {wrong.iloc[0]:g} is outside 0 .. 100",
            hint="accuracies are in percent",
        )


def _chosen_columns(frame: pd.DataFrame, columns: str) -> list[str]:
    known = [str(name) for name in dict.fromkeys(frame["attack"])]
    if columns == "all":
        return known
    if columns == "attacks":
        return [name for name in known if name != "clean"]
    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise UnknownName.among("column", name, [*known, "all", "attacks"])
    return wanted


def _refuse_duplicates(chosen: pd.DataFrame, keys: Sequence[str]) -> None:
    twice = chosen[chosen.duplicated([*keys, "training"])]
    if len(twice):
        first = twice.iloc[0]
        cell = " / ".join(str(first[key]) for key in [*keys, "training"])
        raise DataError(
            f"{len(twice)} cell(s) are given more than once, first {cell}",
            hint="one accuracy per data set, model, training and attack",
        )


def _as_index(order: list[tuple[object, ...]], keys: list[str]) -> pd.MultiIndex:
    import pandas as pd

    return pd.MultiIndex.from_tuples(order, names=keys)


def _label(key: tuple[object, ...], keys: list[str], several: bool) -> str:
    """`CIFAR10 / Dense / fgsm`; the table only where there are several."""
    parts = [str(part) for name, part in zip(keys, key, strict=True) if name != "table" or several]
    return " / ".join(part for part in parts if part)


def _network(key: tuple[object, ...], keys: list[str]) -> str:
    return " / ".join(str(key[keys.index(name)]) for name in ("dataset", "model"))


def _most_missing(missing: tuple[MissingBlock, ...]) -> str:
    counts: dict[str, int] = {}
    for block in missing:
        for name in block.treatments:
            counts[name] = counts.get(name, 0) + 1
    return ", ".join(
        f"{name} lacks {count} of {len(missing)}"
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _printed(
    chosen: pd.DataFrame,
    keys: list[str],
    order: list[tuple[object, ...]],
    treatments: tuple[str, ...],
    whole: npt.NDArray[np.bool_],
) -> FloatArray | None:
    if "printed_rank" not in chosen.columns:
        return None
    wide = chosen.pivot(index=keys, columns="training", values="printed_rank").reindex(
        index=_as_index(order, keys), columns=list(treatments)
    )
    ranks: FloatArray = wide.to_numpy(dtype=np.float64)[whole]
    return None if np.isnan(ranks).any() else ranks
