"""Rules on the ranks that a table prints in parentheses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drelu_cli.stats.audit.findings import BLOCK, Finding, finding, grouped, need
from drelu_cli.stats.distributions import FloatArray
from drelu_cli.stats.ranking import block_ranks, tidy

if TYPE_CHECKING:
    import pandas as pd


def rank_mismatch(frame: pd.DataFrame) -> list[Finding]:
    """A printed rank outside the ranks that its value allows; one per cell.

    A value shared by t treatments allows every rank from the first to the last of its tie, the
    mean included. Source: the definition of ranks in Demsar 2006, section 3.2.2.
    """
    need(frame, "printed_rank")
    found = []
    for block in grouped(frame.dropna(subset=["printed_rank"]), BLOCK):
        values, means = _values_and_ranks(block)
        for cell, own, mean in zip(block, values, means, strict=True):
            first, last = 1 + int((values > own).sum()), int((values >= own).sum())
            if first <= cell["printed_rank"] <= last:
                continue
            allowed = f"{first}" if first == last else f"{first} to {last}"
            found.append(
                finding(
                    "rank-mismatch",
                    "error",
                    cell,
                    f"printed rank {cell['printed_rank']:g}, but {own:.2f} % has rank {allowed} "
                    "in its block",
                    printed=cell["printed_rank"],
                    recomputed=mean,
                )
            )
    return found


def tie_printed_as_order(frame: pd.DataFrame) -> list[Finding]:
    """Equal values printed with different integer ranks; one per block.

    Source: Demsar 2006, section 3.2.2: ties share their average rank.
    """
    need(frame, "printed_rank")
    found = []
    for block in grouped(frame.dropna(subset=["printed_rank"]), BLOCK):
        values, means = _values_and_ranks(block)
        for value in dict.fromkeys(values.tolist()):
            tied = [cell for cell, own in zip(block, values, strict=True) if own == value]
            if len({cell["printed_rank"] for cell in tied}) < 2:
                continue
            mean = float(means[values == value][0])
            names = " and ".join(str(cell["training"]) for cell in tied)
            printed = " and ".join(f"{cell['printed_rank']:g}" for cell in tied)
            found.append(
                finding(
                    "tie-printed-as-order",
                    "warning",
                    tied[0],
                    f"{names} are both {value:.2f} % but have ranks {printed}; a tie is an "
                    f"average rank, here {mean:g}",
                    printed=tied[0]["printed_rank"],
                    recomputed=mean,
                )
            )
            break
    return found


def _values_and_ranks(block: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, FloatArray]:
    """Accuracies of a block without float noise, and the ranks they have."""
    values = tidy(np.array([cell["accuracy"] for cell in block], dtype=np.float64))
    return values, block_ranks(values[None, :])[0]
