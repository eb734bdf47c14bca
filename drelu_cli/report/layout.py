"""A comparison as grids of cells, ready for any output format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from drelu_cli.core.records import COLUMNS
from drelu_cli.report.tables import MEASURES, TREATMENT, VERDICT_COLUMNS, Comparison

EMPTY = "-"
CLEAN = "clean"

# In the order in which the field prints them; other attacks follow as they come.
ATTACK_NAMES = {
    CLEAN: "Clean",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "apgd_margin": "APGD-margin",
    "apgd_ce_rescaled": "APGD-CE-rescaled",
    "apgd_t": "APGD-T",
    "fab_t": "FAB-T",
    "cw_l2": "CW-L2",
    "square": "Square",
}
_NORM_NAMES = {"linf": "Linf", "l2": "L2"}
_MEASURE_HEADERS = ("log-width", "log-volume")

Attack = tuple[str, str, float]  # attack, norm, eps
Threat = tuple[str, float]  # norm, eps


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry, in the pieces that formats treat differently.

    Attributes:
        value: the number in percent, or a word, or `-`.
        best: the value is to be bold.
        spread: standard deviation over seeds in percent, or ''.
        rank: e.g. `1` or `1.5`, or ''.
        published: the published number in percent, or ''.
    """

    value: str
    best: bool = False
    spread: str = ""
    rank: str = ""
    published: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one architecture: (training, cells)."""

    architecture: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """The table of one data set.

    Attributes:
        dataset: its name.
        headers: of the cells; architecture and training come before them.
        blocks: one per architecture.
    """

    dataset: str
    headers: tuple[str, ...]
    blocks: tuple[Block, ...]


def grids(comparison: Comparison) -> list[Grid]:
    """One grid per data set, in the order of the rows."""
    cells = comparison.cells
    return [
        _with_measures(
            _grid(dataset, cells[cells["dataset"] == dataset], comparison.columns),
            comparison.measures,
        )
        for dataset in cells["dataset"].drop_duplicates()
    ]


def attack_name(attack: str) -> str:
    """How the field writes an attack: `apgd_ce` is APGD-CE; options and engine stay as they are."""
    name = _bare(attack)
    return f"{ATTACK_NAMES.get(name, name)}{attack.removeprefix(name)}"


def _bare(attack: str) -> str:
    """The name alone, of `pgd:steps=10` or `pgd [torchattacks 3.5.1]`."""
    return attack.partition(":")[0].partition(" [")[0]


def threat_text(norm: str, eps: float) -> str:
    """`Linf 0.1`, `Linf 8/255`; '' for the clean input."""
    return f"{norm_name(norm)} {eps_text(eps)}" if norm else ""


def norm_name(norm: str) -> str:
    """`Linf`, `L2`."""
    return _NORM_NAMES.get(norm, norm)


def eps_text(eps: float) -> str:
    """A radius as people write it: short decimals, else a fraction of 255, else 4 digits."""
    if round(eps, 4) == eps:
        return f"{eps:g}"
    of_255 = eps * 255
    if round(of_255) > 0 and abs(of_255 - round(of_255)) < 1e-6:
        return f"{round(of_255)}/255"
    return f"{eps:.4g}"


def percent(fraction: Any) -> str:
    """`80.40`, or `-` for a missing number."""
    return EMPTY if pd.isna(fraction) else f"{100 * fraction:.2f}"


def rank_text(rank: float) -> str:
    """`1`, `1.5`; '' for none."""
    return "" if pd.isna(rank) else f"{rank:g}"


def cell_of(row: pd.Series[Any] | None) -> Cell:
    """The cell of one row of `Comparison.cells`; None is a combination that nobody ran."""
    if row is None:
        return Cell(EMPTY)
    several = row["n_seeds"] > 1 and not pd.isna(row["std"])
    return Cell(
        value=percent(row["mean"]),
        best=bool(row["best"]),
        spread=percent(row["std"]) if several else "",
        rank=rank_text(row["rank"]),
        published="" if pd.isna(row["published"]) else percent(row["published"]),
    )


def _grid(dataset: str, cells: pd.DataFrame, columns: pd.DataFrame) -> Grid:
    attacks = _attacks(cells)
    verdicts = columns[columns["dataset"] == dataset]
    wanted = list(_verdict_columns(verdicts))
    several = len({threat for threat, _ in wanted}) > 1
    headers = [_attack_header(attack) for attack in attacks]
    headers += [f"{name} ({threat_text(*threat)})" if several else name for threat, name in wanted]
    blocks = []
    for architecture in cells["architecture"].drop_duplicates():
        here = cells[cells["architecture"] == architecture]
        beside = verdicts[verdicts["architecture"] == architecture]
        rows = [
            (training, (*_attack_cells(here, training, attacks), *_words(beside, training, wanted)))
            for training in here["training"].drop_duplicates()
        ]
        blocks.append(Block(architecture, tuple(rows)))
    return Grid(dataset, tuple(headers), tuple(blocks))


def _with_measures(grid: Grid, measures: pd.DataFrame | None) -> Grid:
    """`grid` with the sensitivity of each training beside its accuracies."""
    if measures is None:
        return grid
    found = {tuple(row[TREATMENT]): row for _, row in measures.iterrows()}
    blocks = []
    for block in grid.blocks:
        rows = [
            (training, (*cells, *_numbers(found.get((grid.dataset, block.architecture, training)))))
            for training, cells in block.rows
        ]
        blocks.append(Block(block.architecture, tuple(rows)))
    return Grid(grid.dataset, (*grid.headers, *_MEASURE_HEADERS), tuple(blocks))


def _numbers(row: pd.Series[Any] | None) -> Iterator[Cell]:
    values = (None if row is None else row[name] for name in MEASURES)
    return (Cell(EMPTY if pd.isna(value) else f"{value:.2f}") for value in values)


def _attacks(cells: pd.DataFrame) -> list[Attack]:
    """The attack columns of one data set: the field's order, then norm and radius."""
    given = list(
        cells[["attack", "norm", "eps"]].drop_duplicates().itertuples(index=False, name=None)
    )
    known = list(ATTACK_NAMES)
    first = {attack: place for place, (attack, _, _) in reversed(list(enumerate(given)))}

    def order(column: Attack) -> tuple[int, int, str, float]:
        attack, norm, eps = column
        name = _bare(attack)
        place = known.index(name) if name in known else len(known)
        return place, first[attack], norm, eps

    return sorted(given, key=order)


def _attack_header(column: Attack) -> str:
    attack, norm, eps = column
    threat = threat_text(norm, eps)
    return f"{attack_name(attack)} ({threat})" if threat else attack_name(attack)


def _attack_cells(cells: pd.DataFrame, training: str, attacks: list[Attack]) -> Iterator[Cell]:
    mine = cells[cells["training"] == training]
    found = {(row["attack"], row["norm"], row["eps"]): row for _, row in mine.iterrows()}
    return (cell_of(found.get(attack)) for attack in attacks)


def _verdict_columns(verdicts: pd.DataFrame) -> Iterator[tuple[Threat, str]]:
    """The columns of each threat that say something."""
    threats = list(verdicts[["norm", "eps"]].drop_duplicates().itertuples(index=False, name=None))
    for norm, eps in threats:
        rows = verdicts[(verdicts["norm"] == norm) & (verdicts["eps"] == eps)]
        for name in VERDICT_COLUMNS:
            if rows[name].notna().any():
                yield (norm, eps), name


def _words(
    verdicts: pd.DataFrame, training: str, wanted: list[tuple[Threat, str]]
) -> Iterator[Cell]:
    mine = verdicts[verdicts["training"] == training]
    found = {(row["norm"], row["eps"]): row for _, row in mine.iterrows()}
    for threat, name in wanted:
        value = found[threat][name] if threat in found else None
        if name in COLUMNS:
            yield Cell(percent(value))
        else:
            yield Cell(EMPTY if pd.isna(value) or value == "" else str(value))
