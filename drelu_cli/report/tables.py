"""Comparison tables in the form of the field: what is compared, and how it is ranked.

`comparison` makes the data, `render.render` and `terminal.to_rich` show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import COLUMNS

BLOCK = ["dataset", "architecture"]
CELL = [*BLOCK, "training", "attack", "norm", "eps"]
ROW_COLUMNS = [*CELL, "mean", "std", "n_seeds", "published"]
VERDICT_KEYS = [*BLOCK, "training", "norm", "eps"]
VERDICT_COLUMNS = [*COLUMNS, "verdict"]
TREATMENT = [*BLOCK, "training"]
MEASURES = ["mean_log_width", "log_volume"]


@dataclass(frozen=True)
class Comparison:
    """Models against attacks.

    Attributes:
        cells: one row per training and attack: CELL, `mean` and `std` (fractions), `n_seeds`,
            `published` (fraction or NaN), `rank` (1 is the highest accuracy, NaN without a
            mean), `best`.
        columns: one row per training and threat: VERDICT_KEYS, VERDICT_COLUMNS; may be empty.
        measures: one row per training: TREATMENT, `eps`, `samples`, `n_seeds`, MEASURES (natural
            logarithms, NaN where a model has no bounds); None where nobody asked.
    """

    cells: pd.DataFrame
    columns: pd.DataFrame
    measures: pd.DataFrame | None = None


def comparison(
    rows: pd.DataFrame,
    columns: pd.DataFrame | None = None,
    measures: pd.DataFrame | None = None,
) -> Comparison:
    """The comparison of `rows`, ranked.

    Args:
        rows: CELL and `mean` (fraction, NaN where unknown); `std`, `n_seeds` and `published`
            may be left out. The clean column is the attack `clean` with norm '' and eps 0.
        columns: VERDICT_KEYS with any of VERDICT_COLUMNS (fractions, words); what is missing is
            shown as `-`.
        measures: as `Comparison.measures`.

    Raises:
        BadValue: a column is missing, or a cell is there twice.
    """
    cells = _complete(rows, CELL, {"std": None, "n_seeds": 1, "published": None}, ["mean"])
    verdicts = pd.DataFrame(columns=pd.Index(VERDICT_KEYS)) if columns is None else columns
    verdicts = _complete(verdicts, VERDICT_KEYS, dict.fromkeys(VERDICT_COLUMNS, None), [])
    return Comparison(rank_cells(cells), verdicts, measures)


def rank_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with `rank` and `best`, within data set, architecture, attack and threat.

    Ranks are average ranks: two cells that share places 1 and 2 both have 1.5. Cells are
    compared as they are printed, in percent with two decimals, so that no tie is hidden by
    float noise and no order is shown that the printed numbers do not show. `best` marks every
    cell that equals the highest.
    """
    shown = rows["mean"].astype(float).map(as_printed)
    groups = [rows[name] for name in (*BLOCK, "attack", "norm", "eps")]
    grouped = shown.groupby(groups, sort=False)
    rank = grouped.rank(method="average", ascending=False)
    best = shown.notna() & (shown == grouped.transform("max"))
    return rows.assign(rank=rank, best=best)


def as_printed(fraction: float) -> float:
    """A fraction as the percentage that is printed, rounded to two decimals."""
    return float(f"{100 * fraction:.2f}")


def _complete(
    frame: pd.DataFrame, keys: list[str], optional: Mapping[str, int | None], needed: list[str]
) -> pd.DataFrame:
    """`frame` with its optional columns filled in, checked for missing columns and repeats."""
    missing = [name for name in (*keys, *needed) if name not in frame.columns]
    if missing:
        raise BadValue(f"the table has no column {', '.join(missing)}")
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        cell = ", ".join(str(twice.iloc[0][name]) for name in keys)
        raise BadValue(f"the table has this cell twice: {cell}", hint="average over seeds first")
    filled = frame.copy()
    for name, value in optional.items():
        if name not in filled.columns:
            filled[name] = value
    extra = [name for name in filled.columns if name not in (*keys, *needed, *optional)]
    ordered = filled[[*keys, *needed, *optional, *extra]].reset_index(drop=True)
    numbers = [name for name in ("mean", "std", "published", *COLUMNS) if name in ordered.columns]
    return ordered.astype(dict.fromkeys(numbers, float))
