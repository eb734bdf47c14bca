"""Two treatments, one block, all ties, missing values, infinite F_F."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from drelu_cli.core.errors import BadValue, DataError, UnknownName
from drelu_cli.published.tables import published_table
from drelu_cli.report.stats_document import stats_document
from drelu_cli.stats.anova import one_way_anova, repeated_measures_anova
from drelu_cli.stats.blocks import cells, networks, resolve_unit
from drelu_cli.stats.comparison import compare_treatments
from drelu_cli.stats.conclusion import conclusions
from drelu_cli.stats.friedman import friedman, iman_davenport


def frame_of(matrix, trainings=("A", "B", "C"), attacks=None):
    """A long frame: one network per row, or one attack of one network where `attacks` is given."""
    rows = []
    for number, row in enumerate(matrix):
        for training, value in zip(trainings, row, strict=False):
            rows.append(
                {
                    "dataset": "d",
                    "model": "net" if attacks else f"net{number}",
                    "training": training,
                    "attack": attacks[number] if attacks else "pgd",
                    "accuracy": value,
                }
            )
    return pd.DataFrame(rows)


def compared(matrix, **options):
    return compare_treatments(cells(frame_of(matrix)), seed=0, **options)


def test_two_treatments_where_libraries_raise():
    found = compared([[50.0, 40], [60, 41], [55, 56], [70, 30], [44, 20], [60, 50]])
    # Friedman for two treatments is the sign test's normal form: (5 - 1)^2 / 6.
    assert found.friedman.chi2 == pytest.approx(16 / 6)
    assert found.friedman.average_ranks.tolist() == pytest.approx([7 / 6, 11 / 6])
    assert found.rm_anova.gg_epsilon == pytest.approx(1.0)
    assert len(found.pairs) == 1
    assert found.pairs[0].p_holm == found.pairs[0].p
    assert found.friedman.p_exact == pytest.approx(found.pairs[0].p_sign)


def test_one_block_defines_hardly_anything_and_says_so():
    found = compared([[50.0, 40, 30]])
    document = stats_document(found, source="x", conclusion=conclusions(found), warnings=[])
    assert document["anova"]["F"] is None
    assert document["rm_anova"]["F"] is None
    assert document["friedman"]["F_F"] is None
    assert "F_F_is_infinite" not in document["friedman"]
    assert document["friedman"]["chi2"] == pytest.approx(2.0)
    assert document["friedman"]["p_exact"] == pytest.approx(1.0)
    assert document["min_attainable_p"] == 1.0
    assert any(text.startswith("underpowered") for text in document["conclusion"])


def test_all_ties_are_no_difference():
    found = compared([[50.0, 50, 50]] * 6)
    assert found.friedman.average_ranks.tolist() == [2.0, 2.0, 2.0]
    assert found.friedman.chi2 == 0
    assert found.friedman.chi2_tie_corrected is None
    assert found.friedman.F_F == 0
    assert found.friedman.p_exact == pytest.approx(1.0)
    assert found.anova.F is None
    assert [test.p for test in found.pairs] == [1.0] * 3
    assert [test.rank_biserial for test in found.pairs] == [None] * 3
    assert all(pair.p_rope > 0.99 for pair in found.bayes)


def test_unanimous_blocks_give_an_infinite_ratio():
    found = compared([[50.0, 40, 30], [51, 42, 33], [58, 41, 40], [59, 49, 40]])
    assert math.isinf(found.friedman.F_F)
    assert found.friedman.F_F_p == 0.0
    document = stats_document(found, source="x", conclusion=[], warnings=[])["friedman"]
    assert document["F_F"] is None
    assert document["F_F_is_infinite"] is True
    assert document["F_F_p"] == 0.0
    assert "infinite" in conclusions(found)[1]
    # 3! orders, the same in the other three blocks.
    assert document["p_exact"] == pytest.approx(1 / 6**3)


def test_constant_treatments_have_an_infinite_anova():
    values = np.array([[50.0, 40]] * 4)
    assert math.isinf(one_way_anova(values).F)
    assert one_way_anova(values).p == 0.0
    assert math.isinf(repeated_measures_anova(values).F)
    assert repeated_measures_anova(values).gg_epsilon is None


def test_misprinted_ranks_can_make_the_ratio_undefined():
    ranks = np.array([[1.0, 1, 1, 9]] * 3)
    found = friedman(np.zeros((3, 4)), printed_ranks=ranks)
    assert found.chi2 > 3 * 3
    assert found.F_F is None
    assert iman_davenport(9.0, 3, 4) == math.inf


def test_float_noise_does_not_hide_ties():
    noisy = np.array([[0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]]) * 100
    assert noisy[0, 0] != noisy[0, 1]
    assert friedman(noisy).average_ranks.tolist() == [1.5, 1.5]


def test_missing_blocks_are_named_and_left_out():
    matrix = [[50.0, 40, 30], [51, np.nan, 33], [58, 41, 45]]
    blocks = cells(frame_of(matrix))
    assert [(lost.block, lost.treatments) for lost in blocks.missing] == [
        ("d / net1 / pgd", ("B",))
    ]
    assert blocks.names == ("d / net0 / pgd", "d / net2 / pgd")
    found = compare_treatments(blocks, seed=0)
    document = stats_document(found, source="x", conclusion=[], warnings=[])
    assert document["blocks"]["missing"] == [{"block": "d / net1 / pgd", "treatments": ["B"]}]
    absent = frame_of(matrix).dropna()
    assert cells(absent).missing == blocks.missing


def test_networks_use_only_columns_that_all_treatments_have():
    frame = frame_of([[50.0, 40], [20, 10], [5, np.nan]], attacks=["clean", "pgd", "square"])
    blocks = networks(cells(frame), "mean")
    assert blocks.values.tolist() == [[35.0, 25.0]]
    assert blocks.missing[0].block == "d / net / square"
    assert networks(cells(frame), "worst").values.tolist() == [[20.0, 10.0]]


def test_no_complete_block_is_an_error_that_names_the_gaps():
    with pytest.raises(DataError, match="A lacks 1 of 2, B lacks 1 of 2"):
        cells(frame_of([[50.0, np.nan, 3], [np.nan, 40, 3]]))


def test_one_treatment_is_an_error():
    with pytest.raises(BadValue, match="1 treatment"):
        cells(frame_of([[50.0], [40.0]], trainings=("A",)))


def test_doubled_cells_are_an_error():
    frame = frame_of([[50.0, 40]])
    with pytest.raises(DataError, match="d / net0 / pgd / A"):
        cells(pd.concat([frame, frame]))


def test_values_outside_percent_are_an_error():
    with pytest.raises(BadValue, match="outside 0"):
        cells(frame_of([[150.0, 40]]))


def test_columns_by_name():
    frame = published_table("published:table2")
    assert set(cells(frame, "pgd, fgsm").columns) == {"pgd", "fgsm"}
    assert "clean" not in cells(frame, "attacks").columns
    with pytest.raises(UnknownName) as caught:
        cells(frame, "pdg")
    assert "pgd" in caught.value.hint


def test_auto_takes_networks_from_five_on_and_warns_below():
    six, two = published_table("published:table2"), published_table("published:table1")
    assert resolve_unit("auto", cells(six)) == ("network", "")
    unit, warning = resolve_unit("auto", cells(two))
    assert unit == "cell"
    assert warning.startswith("few-networks: 2 network(s)")
    with pytest.raises(BadValue, match="--blocks 'nets'"):
        resolve_unit("nets", cells(six))


def test_wrong_options_are_refused():
    blocks = cells(published_table("published:table2"))
    for options, error in [
        ({"alpha": 0.0}, BadValue),
        ({"alpha": float("nan")}, BadValue),
        ({"rope": -1.0}, BadValue),
        ({"ranks": "guessed"}, BadValue),
        ({"control": "D-ReLu"}, UnknownName),
    ]:
        with pytest.raises(error):
            compare_treatments(blocks, seed=0, **options)
    with pytest.raises(BadValue, match="no printed ranks"):
        compare_treatments(networks(blocks), seed=0, ranks="printed")


def test_another_alpha_gets_its_own_critical_values():
    found = compare_treatments(cells(published_table("published:table2")), seed=0, alpha=0.001)
    document = stats_document(found, source="x", conclusion=conclusions(found), warnings=[])
    assert list(document["nemenyi"]["cd"]) == ["0.10", "0.05", "0.01", "0.001"]
    assert document["nemenyi"]["cd"]["0.001"] > document["nemenyi"]["cd"]["0.01"]
    # At .001 only TRADES-1 is behind D-ReLU by more than the critical difference.
    assert "D-ReLU before TRADES-1" in document["conclusion"][2]
    assert "D-ReLU before AT" not in document["conclusion"][2]


def test_sentences_claim_no_more_than_the_tests_allow():
    table = published_table("published:table2")
    by_cell = conclusions(compare_treatments(cells(table), seed=0))
    assert "not independent" in by_cell[0]
    assert all(text.startswith("If the blocks were independent: ") for text in by_cell[1:])
    assert (
        "At alpha 0.01 (critical difference 0.9473) this no longer holds for: D-ReLU before AT"
        in (by_cell[2])
    )
    by_network = conclusions(compare_treatments(networks(cells(table, "attacks")), seed=0))
    assert "D-ReLU before TRADES-1" in by_network[2]
    assert by_network[2].count("before") == 1
    assert by_network[3].startswith("underpowered: with 6 block(s)")
    assert "0.188 after Holm over 6 pair(s)" in by_network[3]
