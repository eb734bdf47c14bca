"""Intraclass correlation and effective numbers of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from drelu_cli.published.tables import published_table
from drelu_cli.stats.blocks import cells, networks
from drelu_cli.stats.dependence import dependence, intraclass_correlation, participation_ratio


def test_copies_of_one_measurement_are_worth_one():
    stream = np.random.default_rng(0)
    effects = stream.normal(size=(10, 3))
    values = np.repeat(effects, 4, axis=0)
    clusters = tuple(f"n{i}" for i in range(10) for _ in range(4))
    columns = ("a", "b", "c", "d") * 10
    found = dependence(values, clusters, columns)
    assert found.icc == pytest.approx(1.0)
    assert found.effective_by_icc == pytest.approx(10)
    assert found.effective_by_columns == pytest.approx(10)
    assert found.column_correlation == pytest.approx((1.0, 1.0))
    assert found.dependent


def test_independent_blocks_count_fully():
    values = np.random.default_rng(1).normal(size=(400, 3))
    clusters = tuple(f"n{i // 4}" for i in range(400))
    columns = ("a", "b", "c", "d") * 100
    found = dependence(values, clusters, columns)
    assert abs(found.icc) < 0.08
    assert found.effective > 320
    assert not found.dependent


def test_icc_agrees_with_the_textbook_example():
    """Shrout & Fleiss 1979, table 2: six targets, four judges, ICC(1,1) = .17."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    values = np.array(ratings, dtype=float).reshape(-1, 1)
    clusters = tuple(f"t{i}" for i in range(6) for _ in range(4))
    assert intraclass_correlation(values, clusters) == pytest.approx(0.17, abs=0.005)


def test_icc_is_undefined_without_repetition_or_spread():
    assert intraclass_correlation(np.ones((3, 2)), ("a", "b", "c")) is None
    assert intraclass_correlation(np.ones((4, 2)), ("a", "a", "a", "a")) is None
    assert intraclass_correlation(np.ones((4, 2)), ("a", "a", "b", "b")) is None


def test_participation_ratio_runs_from_one_to_all():
    assert participation_ratio(np.eye(5)) == pytest.approx(5)
    assert participation_ratio(np.ones((5, 5))) == pytest.approx(1)


def test_table_2_is_worth_seven_blocks_not_36():
    """Attack columns correlate at .96 to 1.00; the effective number is 7 or 8."""
    blocks = cells(published_table("published:table2"))
    found = dependence(blocks.values, blocks.networks, blocks.columns)
    assert (found.n_blocks, found.n_networks) == (36, 6)
    assert 7 <= found.effective <= 8
    attacks = cells(published_table("published:table2"), "attacks")
    low, high = dependence(attacks.values, attacks.networks, attacks.columns).column_correlation
    assert (round(low, 2), round(high, 2)) == (0.96, 1.0)


def test_networks_are_counted_as_they_are():
    blocks = networks(cells(published_table("published:table2")))
    found = dependence(blocks.values, blocks.networks, blocks.columns)
    assert found.icc is None
    assert found.effective == 6
    assert not found.dependent
