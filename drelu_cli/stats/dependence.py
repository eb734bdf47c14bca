"""How independent the blocks are: intraclass correlation and effective number of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drelu_cli.stats.distributions import FloatArray

# Below this share of the blocks the effective number is worth a finding: a standard error
# taken over all blocks is then too small by 15 % or more.
INDEPENDENT_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Dependence:
    """Blocks of the same network are repeated measurements, not new networks.

    Attributes:
        n_blocks: complete blocks.
        n_networks: networks (data set x model) that they come from.
        icc: intraclass correlation of the treatment effects of blocks of one network, pooled
            over all treatment contrasts; None where each network has one block, or there is
            one network.
        effective_by_icc: blocks / (1 + (m - 1) icc), Kish's design effect; 1 for one network,
            whose columns can say nothing about other networks.
        column_correlation: (lowest, highest) correlation between two columns over all rows
            (network x treatment); None with fewer than 2 columns or 3 rows.
        effective_by_columns: networks x effective number of columns, the latter from the
            eigenvalues of their correlation matrix.
    """

    n_blocks: int
    n_networks: int
    icc: float | None
    effective_by_icc: float
    column_correlation: tuple[float, float] | None
    effective_by_columns: float | None

    @property
    def effective(self) -> float:
        """The smaller of the two effective numbers of blocks."""
        if self.effective_by_columns is None:
            return self.effective_by_icc
        return min(self.effective_by_icc, self.effective_by_columns)

    @property
    def dependent(self) -> bool:
        """Whether the effective number is well below the number of blocks."""
        return self.effective < INDEPENDENT_SHARE * self.n_blocks


def dependence(
    values: FloatArray, networks: tuple[str, ...], columns: tuple[str, ...]
) -> Dependence:
    """Dependence among the blocks of (N, k) accuracies.

    Args:
        values: accuracies in percent.
        networks: (N,) the network of each block.
        columns: (N,) the attack column of each block.

    Source: Hurlbert 1984 (pseudoreplication); Kish 1965 (design effect); Cheverud 2001 and
    Galwey 2009 for effective numbers from eigenvalues.
    """
    n = len(networks)
    distinct = len(set(networks))
    icc = intraclass_correlation(_contrasts(values), networks)
    size = _mean_cluster_size(networks)
    by_icc = float(n) if icc is None else n / (1 + (size - 1) * max(icc, 0.0))
    table = _by_column(values, networks, columns) if distinct > 1 else None
    span, effective_columns = None, None
    if table is not None:
        correlation: FloatArray = np.asarray(np.corrcoef(table, rowvar=False))
        off = correlation[np.triu_indices(len(correlation), 1)]
        span = (float(off.min()), float(off.max()))
        effective_columns = distinct * participation_ratio(correlation)
    return Dependence(n, distinct, icc, 1.0 if distinct == 1 else by_icc, span, effective_columns)


def intraclass_correlation(values: FloatArray, clusters: tuple[str, ...]) -> float | None:
    """ICC(1) of (N, d) values in clusters, the d dimensions pooled; at most 1, may be negative.

    None where every cluster has one member, where there is one cluster, or nothing varies.
    Source: Fisher 1925; Shrout & Fleiss 1979.
    """
    labels = np.asarray(clusters)
    names = sorted(set(clusters))
    n, groups = len(labels), len(names)
    if groups < 2 or n <= groups:
        return None
    centre = values.mean(axis=0)
    between = within = 0.0
    for name in names:
        own = values[labels == name]
        between += len(own) * float(((own.mean(axis=0) - centre) ** 2).sum())
        within += float(((own - own.mean(axis=0)) ** 2).sum())
    between /= groups - 1
    within /= n - groups
    spread = between + (_mean_cluster_size(clusters) - 1) * within
    return (between - within) / spread if spread > 1e-12 else None


def participation_ratio(correlation: FloatArray) -> float:
    """Effective number of variables, 1 .. m: (sum of eigenvalues)^2 / sum of their squares."""
    return float(np.trace(correlation) ** 2 / (correlation**2).sum())


def _contrasts(values: FloatArray) -> FloatArray:
    """(N, k) values without block means: what comparisons between treatments see."""
    return np.asarray(values - values.mean(axis=1, keepdims=True), dtype=np.float64)


def _mean_cluster_size(clusters: tuple[str, ...]) -> float:
    """The size that makes the mean squares unbiased with unequal clusters (Fisher's n0)."""
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    n, groups = sizes.sum(), len(sizes)
    if groups < 2:
        return float(n)
    return float((n - (sizes**2).sum() / n) / (groups - 1))


def _by_column(
    values: FloatArray, networks: tuple[str, ...], columns: tuple[str, ...]
) -> FloatArray | None:
    """(networks x treatments, columns) accuracies of the networks that have every column."""
    names = list(dict.fromkeys(columns))
    places = {pair: index for index, pair in enumerate(zip(networks, columns, strict=True))}
    complete = [
        network
        for network in dict.fromkeys(networks)
        if all((network, name) in places for name in names)
    ]
    rows = [
        np.stack([values[places[network, name]] for name in names], axis=1) for network in complete
    ]
    if len(names) < 2 or not rows:
        return None
    table: FloatArray = np.concatenate(rows)
    return table if len(table) >= 3 and (table.std(axis=0) > 1e-9).all() else None
