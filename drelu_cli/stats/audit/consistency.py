"""Rules on numbers that contradict each other or the way they were averaged."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from drelu_cli.stats.audit.findings import Finding, NotChecked, finding, grouped, need_attacks

if TYPE_CHECKING:
    import pandas as pd

# Three trainings, 1,000 images each: means are multiples of 1 / 3,000 = 1/30 of a percent.
GRID_PER_PERCENT = 30
HALF_A_PRINTED_UNIT = 0.005  # tables print two decimals


def same_configuration_differs(frame: pd.DataFrame) -> list[Finding]:
    """A configuration whose clean value differs between tables; one per pair of tables.

    Same configuration: data set, model, training and training images, whatever parameter is
    printed. Source: clean accuracy does not depend on the attack that a table is about.
    """
    need_attacks(frame, "clean")
    if frame["table"].nunique() < 2:
        raise NotChecked("there is only one table")
    keys = [key for key in ("dataset", "model", "training", "data") if key in frame.columns]
    found = []
    for group in grouped(frame[frame["attack"] == "clean"], keys):
        for one, other in combinations(group, 2):
            if one["table"] == other["table"] or one["accuracy"] == other["accuracy"]:
                continue
            found.append(
                finding(
                    "same-configuration-differs",
                    "warning",
                    other,
                    f"clean {other['accuracy']:.2f} here, {one['accuracy']:.2f} in table "
                    f"{one['table']}",
                    printed=other["accuracy"],
                    recomputed=one["accuracy"],
                )
            )
    return found


def off_grid(frame: pd.DataFrame) -> list[Finding]:
    """A value that is no multiple of 1 / (3 x 1000); one per cell of tables mostly on the grid.

    Means of three trainings over 1,000 images each end in .x0, .x3 or .x7 percent.
    Source: the granularity test of Brown & Heathers 2017 (GRIM).
    """
    found = []
    for _, table in frame.groupby("table", sort=False):
        values = table["accuracy"].to_numpy(dtype=np.float64)
        nearest = np.rint(values * GRID_PER_PERCENT) / GRID_PER_PERCENT
        off = np.abs(nearest - values) > HALF_A_PRINTED_UNIT + 1e-9
        if off.mean() >= 0.5:
            continue
        found += [
            finding(
                "off-grid",
                "note",
                cell,
                f"{cell['accuracy']:.2f} is no multiple of 1/3,000 (nearest {near:.2f}), as "
                f"{(~off).sum()} of the table's {len(off)} cells are",
                printed=cell["accuracy"],
                recomputed=round(float(near), 2),
            )
            for cell, near, wrong in zip(table.to_dict("records"), nearest, off, strict=True)
            if wrong
        ]
    return found
