"""Rules on what a table's design allows anybody to conclude."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drelu_cli.core.errors import BadValue, DataError
from drelu_cli.stats.audit.findings import REQUIRED, Finding, NotChecked, finding
from drelu_cli.stats.blocks import Blocks, cells, networks
from drelu_cli.stats.dependence import dependence
from drelu_cli.stats.pairwise import smallest_signed_rank_p

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
NEEDED = ("table", *REQUIRED)


def correlated_blocks(frame: pd.DataFrame) -> list[Finding]:
    """Blocks that are columns of the same network; one per table.

    Fires where the effective number of blocks is below three quarters of their number.
    Source: Hurlbert 1984 (pseudoreplication); Kish 1965 (design effect).
    """
    found = []
    for blocks, table in _tables(frame):
        seen = dependence(blocks.values, blocks.networks, blocks.columns)
        if not seen.dependent:
            continue
        span = (
            ""
            if seen.column_correlation is None
            else "columns correlate at {:.2f} to {:.2f}; ".format(*seen.column_correlation)
        )
        found.append(
            finding(
                "correlated-blocks",
                "warning",
                {"table": table},
                f"{seen.n_blocks} blocks are columns of {seen.n_networks} networks; {span}"
                f"worth about {seen.effective:.1f} independent blocks",
                printed=seen.n_blocks,
                recomputed=round(seen.effective, 1),
            )
        )
    return found


def underpowered(frame: pd.DataFrame) -> list[Finding]:
    """Too few networks for any pair to be told apart at .05; one per table.

    The exact signed-rank test over N networks cannot give a p below 2^(1 - N), times the number
    of pairs after Holm. Source: Demsar 2006, section 3.1.3; Benavoli et al. 2016.
    """
    found = []
    for blocks, table in _tables(frame):
        count = len(networks(blocks).names)
        k = len(blocks.treatments)
        pairs = k * (k - 1) // 2
        raw = smallest_signed_rank_p(count)
        smallest = min(1.0, raw * pairs)
        if smallest <= ALPHA:
            continue
        found.append(
            finding(
                "underpowered",
                "note",
                {"table": table},
                f"with {count} networks the smallest p of the exact signed-rank test is {raw:.4g}, "
                f"{smallest:.4g} after Holm over {pairs} pair(s), above {ALPHA:g}",
                recomputed=smallest,
            )
        )
    return found


def _tables(frame: pd.DataFrame) -> list[tuple[Blocks, int | str]]:
    """Each table's complete cells; `NotChecked` where no table has two comparable trainings."""
    ready: list[tuple[Blocks, int | str]] = []
    for name, table in frame.groupby("table", sort=False):
        try:
            blocks = cells(table[list(NEEDED)])
            ready.append((blocks, name if isinstance(name, str) else int(str(name))))
        except (BadValue, DataError) as reason:
            problem = reason.message
    if not ready:
        raise NotChecked(problem)
    return ready
