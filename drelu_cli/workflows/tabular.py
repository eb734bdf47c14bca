"""Accuracy tables from CSV files: the long form, or wide with one column per treatment."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from drelu_cli.core.errors import BadValue, DataError, UnknownName
from drelu_cli.core.quantities import parse_fraction

if TYPE_CHECKING:
    import pandas as pd

LONG = ("dataset", "model", "training", "attack", "accuracy")
# Columns that describe a block in the wide form; every other numeric column is a treatment.
DESCRIBING = ("table", "dataset", "model", "attack", "norm", "eps", "seed", "block", "network")


def read_table(path: Path) -> pd.DataFrame:
    """The long form of a CSV file: dataset, model, training, attack, accuracy (percent), ...

    The wide form has one row per block and one numeric column per treatment; its other columns
    describe the block. Empty cells stay missing.

    Raises:
        DataError: no such file, not a CSV file, no rows, neither form.
        BadValue: an accuracy that is no number, or fractions instead of percent.
    """
    frame = _of_compare(_csv(path))
    if {"training", "accuracy"} <= set(frame.columns):
        long = _long(frame, path)
    elif frame.columns.isin(["accuracy", "training", "printed_rank"]).any():
        lacking = [name for name in LONG if name not in frame.columns]
        raise DataError(
            f"{path} has no column {', '.join(lacking)}",
            hint=f"the long form needs {', '.join(LONG)}",
        )
    else:
        long = _from_wide(frame, path)
    return _checked(long, path)


def _of_compare(frame: pd.DataFrame) -> pd.DataFrame:
    """The CSV that `drelu compare --out` writes, which is in fractions, in the long form."""
    if not {"architecture", "training", "attack", "mean"} <= set(frame.columns):
        return frame
    return frame.rename(columns={"architecture": "model"}).assign(accuracy=100.0 * frame["mean"])


def select(frame: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The rows whose columns have the given values; numbers, `8/255` too, compare as numbers.

    Raises:
        UnknownName: no such column, or no row has the value.
    """
    for column, text in where.items():
        if column not in frame.columns:
            raise UnknownName.among("column", column, [str(name) for name in frame.columns])
        known = frame[column].dropna().unique()
        kept = [value for value in known if _same(value, text)]
        if not kept:
            raise UnknownName.among(f"value of {column}", text, [str(value) for value in known])
        frame = frame[frame[column].isin(kept)]
    return frame.reset_index(drop=True)


def _same(value: object, text: str) -> bool:
    if str(value) == text:
        return True
    try:
        return float(str(value)) == parse_fraction(text)
    except (ValueError, BadValue):
        return False


def _csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"there is no file {path}", hint=_missing_hint(path))
    try:
        frame = pd.read_csv(path, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} is not a CSV file: {problem}", hint="UTF-8, commas") from None
    if frame.empty:
        raise DataError(f"{path} has no rows", hint=f"the long form has {', '.join(LONG)}")
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    return frame


def _missing_hint(path: Path) -> str:
    beside = sorted(found.name for found in Path(path.parent).glob("*.csv"))
    near = difflib.get_close_matches(path.name, beside, n=1)
    prefix = f"did you mean {near[0]}? " if near else ""
    return f"{prefix}the paper's tables are published:table1 .. published:table9"


def _long(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    lacking = [name for name in LONG if name not in frame.columns]
    if lacking:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}",
            hint=f"the long form needs {', '.join(LONG)}",
        )
    for name in LONG[:-1]:
        if frame[name].isna().any():
            line = int(frame.index[frame[name].isna()][0]) + 2
            raise DataError(f"{path} line {line}: {name} is empty", hint="fill every row in")
    return frame.assign(
        accuracy=_numbers(frame["accuracy"], path), **{n: frame[n].astype(str) for n in LONG[:-1]}
    )


def _from_wide(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    described = [name for name in frame.columns if name in DESCRIBING]
    others = [name for name in frame.columns if name not in DESCRIBING]
    words = [name for name in others if _is_text(frame[name])]
    treatments = [name for name in others if name not in words]
    if len(treatments) < 2:
        raise DataError(
            f"{path} is neither long nor wide: {len(treatments)} numeric treatment column(s)",
            hint=f"long: {', '.join(LONG)}; wide: a row per block, a numeric column per treatment",
        )
    labels = [name for name in described if name not in ("table", "dataset", "attack")] + words
    joined = (
        frame[labels].astype(str).agg(" ".join, axis=1)
        if labels
        else "row " + (frame.index + 1).astype(str).to_series(index=frame.index)
    )
    base = frame.assign(
        model=joined,
        dataset=frame["dataset"].astype(str) if "dataset" in described else "",
        attack=frame["attack"].astype(str) if "attack" in described else "accuracy",
    )
    keep = [name for name in ("table", "dataset", "model", "attack") if name in base.columns]
    parts = [
        base[keep].assign(training=name, accuracy=_numbers(frame[name], path))
        for name in treatments
    ]
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def _is_text(column: pd.Series) -> bool:
    """Whether a column describes: no cell of it is a number."""
    import pandas as pd

    return bool(pd.to_numeric(column, errors="coerce").isna().all() and column.notna().any())


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column[numbers.isna() & column.notna()]
    if len(wrong):
        raise BadValue(
            f"{path} line {int(wrong.index[0]) + 2}: '{wrong.iloc[0]}' is not a number",
            hint="accuracies are plain numbers in percent, e.g. 52.33",
        )
    return numbers.astype(float)


def _checked(long: pd.DataFrame, path: Path) -> pd.DataFrame:
    values = long["accuracy"].dropna()
    if values.empty:
        raise DataError(f"{path} has no accuracy", hint="accuracies are in percent")
    if (values <= 1).all() and (values > 0).any():
        raise BadValue(
            f"{path}: all accuracies are at most 1, they seem to be fractions",
            hint="write percent: 52.33, not 0.5233",
        )
    return long
