"""Rules on the ranks that a table prints in parentheses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drelu_cli.stats.audit.findings import BLOCK, Finding, finding, need
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
    for _, block in frame.dropna(subset=["printed_rank"]).groupby(list(BLOCK), sort=False):
        values = tidy(block["accuracy"].to_numpy(dtype=np.float64))
        means = block_ranks(values[None, :])[0]
        for place, own, mean in zip(block.to_dict("records"), values, means, strict=True):
            first, last = 1 + int((values > own).sum()), int((values >= own).sum())
            if first <= place["printed_rank"] <= last:
                continue
            allowed = f"{first}" if first == last else f"{first} to {last}"
            found.append(
                finding(
                    "rank-mismatch",
                    "error",
                    place,
                    f"printed rank {place['printed_rank']:g}, but {own:.2f} % has rank {allowed} "
                    "in its block",
                    printed=place["printed_rank"],
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
    for _, block in frame.dropna(subset=["printed_rank"]).groupby(list(BLOCK), sort=False):
        keyed = block.assign(value=tidy(block["accuracy"].to_numpy(dtype=np.float64)))
        for value, tied in keyed.groupby("value", sort=False):
            ranks = tied["printed_rank"]
            if ranks.nunique() < 2:
                continue
            names = " and ".join(tied["training"])
            place = {key: tied.iloc[0][key] for key in (*BLOCK, "training")}
            mean = float(
                block_ranks(keyed["value"].to_numpy(dtype=np.float64)[None, :])[0][
                    (keyed["value"] == value).to_numpy()
                ][0]
            )
            found.append(
                finding(
                    "tie-printed-as-order",
                    "warning",
                    place,
                    f"{names} are both {value:.2f} % but have ranks "
                    f"{' and '.join(f'{rank:g}' for rank in ranks)}; a tie is an average rank, "
                    f"here {mean:g}",
                    printed=float(ranks.iloc[0]),
                    recomputed=mean,
                )
            )
            break
    return found
