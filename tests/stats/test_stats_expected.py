"""The reference statistics of Tables 1 to 3, computed elsewhere with numpy and scipy.

Tolerances as the reference states them: ranks, sums and counts exact; statistics relative 1e-9;
p-values relative 1e-6 with an absolute floor of 1e-12.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from drelu_cli.published.tables import published_table
from drelu_cli.report.stats_document import stats_document
from drelu_cli.stats.blocks import cells, networks
from drelu_cli.stats.comparison import compare_treatments

EXPECTED = Path(__file__).parent / "expected"
VARIANTS = {
    ("variants", "all_columns"): ("all", None),
    ("variants", "without_clean"): ("attacks", None),
    ("variants", "clean_only"): ("clean", None),
    ("per_model", "per_model_mean_all_columns"): ("all", "mean"),
    ("per_model", "per_model_mean_attacks"): ("attacks", "mean"),
    ("per_model", "per_model_worst_attack"): ("attacks", "worst"),
}
CASES = [(table, *key) for table in (1, 2, 3) for key in VARIANTS]


def statistic(value):
    return None if value is None else pytest.approx(value, rel=1e-9)


def p_value(value):
    return None if value is None else pytest.approx(value, rel=1e-6, abs=1e-12)


def stat_levels(values):
    return {alpha: statistic(value) for alpha, value in values.items()}


def blocks_of(table, group, variant):
    columns, over = VARIANTS[group, variant]
    found = cells(published_table(f"published:table{table}"), columns)
    return found if over is None else networks(found, over)


def document_of(blocks, **options):
    comparison = compare_treatments(blocks, seed=0, control="D-ReLU", **options)
    return stats_document(comparison, source="x", conclusion=[], warnings=[])


@pytest.fixture(scope="module")
def reference():
    return {
        table: json.loads((EXPECTED / f"expected_table{table}.json").read_text())
        for table in (1, 2, 3)
    }


@cache
def document_for(table, group, variant):
    return document_of(blocks_of(table, group, variant))


@pytest.fixture(params=CASES, ids=lambda case: f"table{case[0]}-{case[2]}")
def case(request, reference):
    table, group, variant = request.param
    return document_for(table, group, variant), reference[table][group][variant]


def test_blocks_and_means(case):
    got, want = case
    assert got["blocks"]["n"] == want["n_blocks"]
    assert got["treatments"] == want["treatments"]
    assert got["mean_accuracy"] == stat_levels(want["mean_accuracy"])


def test_one_way_anova(case):
    got, want = case[0]["anova"], case[1]["oneway_anova_independent_groups"]
    assert (got["df1"], got["df2"]) == (want["df1"], want["df2"])
    assert got["F"] == statistic(want["F"])
    assert got["p"] == p_value(want["p"])
    assert got["eta_squared"] == statistic(want["eta_squared"])
    assert got["critical"] == stat_levels(want["F_critical"])


def test_repeated_measures_anova(case):
    got, want = case[0]["rm_anova"], case[1]["rm_anova_blocks_as_subjects"]
    assert (got["df1"], got["df2"]) == (want["df1"], want["df2"])
    assert got["F"] == statistic(want["F"])
    assert got["p"] == p_value(want["p"])
    assert got["gg_epsilon"] == statistic(want["gg_epsilon"])
    assert got["p_gg"] == p_value(want["p_gg"])
    assert got["critical"] == stat_levels(want["F_critical"])


def assert_friedman(got, want):
    assert got["rank_sums"] == want["rank_sums"]
    assert got["average_ranks"] == stat_levels(want["average_ranks"])
    assert (got["df1"], got["df2"]) == (want["F_df1"], want["F_df2"])
    assert got["chi2"] == statistic(want["chi2"])
    assert got["chi2_p"] == p_value(want["chi2_p"])
    assert got["F_F"] == statistic(want["F_F"])
    assert got.get("F_F_is_infinite", False) == want["F_F_is_infinite"]
    assert got["F_F_p"] == p_value(want["F_F_p"])
    assert got["critical"] == stat_levels(want["F_critical"])
    assert got["chi2_critical"] == stat_levels(want["chi2_critical"])


def test_friedman_from_recomputed_ranks(case):
    got, want = case[0]["friedman"], case[1]["friedman"]["recomputed_ranks"]
    assert_friedman(got, want)
    assert got["chi2_tie_corrected"] == statistic(want["chi2_tie_corrected"])
    assert got["chi2_tie_corrected_p"] == p_value(want["chi2_tie_corrected_p"])
    assert got["kendalls_W"] == statistic(want["kendalls_W"])
    if "p_exact_permutation" in want:
        assert got["p_exact"] == p_value(want["p_exact_permutation"])


@pytest.mark.parametrize("table", [1, 2, 3])
@pytest.mark.parametrize("variant", ["all_columns", "without_clean"])
def test_friedman_from_printed_ranks(table, variant, reference):
    want = reference[table]["variants"][variant]["friedman"]
    got = document_of(blocks_of(table, "variants", variant), ranks="printed")["friedman"]
    assert_friedman(got, want["printed_ranks_as_printed_demsar_formula"])
    assert got["chi2_tie_corrected"] is None


def test_critical_differences(case):
    want = case[1]["critical_differences"]
    assert case[0]["nemenyi"]["cd"] == stat_levels(want["nemenyi_cd"])
    assert case[0]["bonferroni_dunn"]["cd"] == stat_levels(want["bonferroni_dunn_cd"])


def test_all_pairs(case):
    got, want = case
    assert [f"{p['a']}|{p['b']}" for p in got["nemenyi"]["pairs"]] == list(want["all_pairs"])
    both = zip(got["nemenyi"]["pairs"], got["wilcoxon_holm"]["pairs"], strict=True)
    for nemenyi, paired in both:
        pair = want["all_pairs"][f"{paired['a']}|{paired['b']}"]
        assert nemenyi["rank_difference"] == statistic(pair["rank_difference"])
        assert nemenyi["p"] == p_value(pair["p_nemenyi"])
        for count in ("wins", "losses", "ties"):
            assert paired[count] == pair[count]
        assert paired["p_sign"] == p_value(pair["p_sign_test"])
        assert paired["mean_difference"] == statistic(pair["mean_difference"])
        signed = pair["wilcoxon"]
        assert (paired["W_plus"], paired["W_minus"]) == (signed["W_plus"], signed["W_minus"])
        assert paired["p"] == p_value(signed["p_exact"])
        if "p_wilcoxon_exact_holm_all_pairs" in signed:
            assert paired["p_holm"] == p_value(signed["p_wilcoxon_exact_holm_all_pairs"])


def test_bonferroni_dunn_against_the_control(case):
    want = case[1]["vs_control_D-ReLU"]
    assert case[0]["bonferroni_dunn"]["control"] == "D-ReLU"
    assert [p["treatment"] for p in case[0]["bonferroni_dunn"]["pairs"]] == list(want)
    for pair in case[0]["bonferroni_dunn"]["pairs"]:
        expected = want[pair["treatment"]]
        assert pair["rank_difference"] == statistic(expected["rank_difference"])
        assert pair["p"] == p_value(expected["p_bonferroni_dunn"])
