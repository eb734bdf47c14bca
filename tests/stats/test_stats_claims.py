"""Printed statistics: reproduced or refuted, with the variant that gives them."""

from __future__ import annotations

import tomllib

import pytest

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.published.tables import claims_text, published_table
from drelu_cli.stats.claim_reading import read_claims
from drelu_cli.stats.claims import check_claims, rounds_to, truncates_to

NAMES = ("AT", "TRADES-1", "TRADES-6", "D-ReLU")


def check(**claim):
    claims = read_claims({"claim": [{"name": "x", **claim}]}, NAMES)
    return check_claims(published_table("published:table2"), claims)[0]


def test_the_figures_of_section_6_2():
    """As the reference file states which are reproduced, and what gives the others."""
    claims = read_claims(tomllib.loads(claims_text()), NAMES)
    results = check_claims(published_table("published:table2"), claims)
    got = {result.claim.printed: (result.verdict, result.variant) for result in results}
    cells = "blocks = cells, all columns, ranks recomputed: "
    assert got == {
        "17.4": ("reproduced", cells + "17.3973"),
        "3.92": ("reproduced", cells + "3.9246"),
        "39.43": ("reproduced", cells + "39.4333"),
        "20.12": ("refuted", "20.1288 truncated instead of rounded"),
        "2.13": ("refuted", "alpha 0.10, F(3,120): 2.1300"),
        "2.18": ("refuted", "alpha 0.10, F(3,60): 2.1774"),
        "0.656": ("refuted", None),
        "0.86": ("reproduced", cells + "0.8611"),
        "1.89": ("reproduced", cells + "1.8889"),
        "1.14": ("reproduced", cells + "1.1389"),
    }
    conjecture = next(r.claim.note for r in results if r.claim.printed == "0.656")
    assert round((2.13 + 2.18) / 2 * (20 / 216) ** 0.5, 4) == 0.6557
    assert "0.6557" in conjecture


@pytest.mark.parametrize(
    ("claim", "verdict", "variant"),
    [
        ({"statistic": "friedman.chi2", "printed": "41.32"}, "reproduced", "without clean"),
        ({"statistic": "friedman.chi2", "printed": "32.3"}, "reproduced", "ranks as printed"),
        ({"statistic": "friedman.F_F", "printed": "20.13"}, "reproduced", "cells, all"),
        ({"statistic": "rm_anova.F", "printed": "12.93"}, "reproduced", "networks, worst"),
        ({"statistic": "nemenyi.cd", "printed": "0.78", "alpha": 0.05}, "reproduced", "cells"),
        ({"statistic": "nemenyi.cd", "printed": "0.782", "alpha": 0.01}, "refuted", "alpha 0.05"),
        (
            {"statistic": "nemenyi.cd", "printed": "0.7285", "alpha": 0.05},
            "refuted",
            "Bonferroni-Dunn at alpha 0.05",
        ),
        ({"statistic": "bonferroni_dunn.cd", "printed": "0.728", "alpha": 0.05}, "reproduced", ""),
    ],
)
def test_variants(claim, verdict, variant):
    result = check(**claim)
    assert result.verdict == verdict
    assert variant in (result.variant or "")


def test_nothing_gives_a_made_up_figure():
    result = check(statistic="friedman.chi2", printed="77.77")
    assert (result.verdict, result.variant) == ("refuted", None)
    assert result.recomputed == pytest.approx(39.4333, abs=1e-4)


def test_rounding_and_truncation():
    assert rounds_to(0.8611, "0.86")
    assert rounds_to(-1.005, "-1.01")
    assert not rounds_to(20.1288, "20.12")
    assert truncates_to(20.1288, "20.12")
    assert not truncates_to(20.1288, "20.13")
    assert not rounds_to(None, "1")
    assert not truncates_to(float("inf"), "1")


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        ({"name": "x", "printed": "1"}, BadValue, "has no 'statistic'"),
        ({"name": "x", "statistic": "anova.G", "printed": "1"}, UnknownName, "anova.G"),
        ({"name": "x", "statistic": "anova.F", "printed": 1.0}, BadValue, "in quotes"),
        ({"name": "x", "statistic": "anova.F", "printed": "1", "alfa": 1}, UnknownName, "alfa"),
        ({"name": "x", "statistic": "nemenyi.cd", "printed": "1"}, BadValue, "needs an alpha"),
        (
            {"name": "x", "statistic": "nemenyi.cd", "printed": "1", "alpha": 5},
            BadValue,
            "outside",
        ),
        ({"name": "x", "statistic": "rank_difference", "printed": "1"}, BadValue, "two treat"),
        (
            {
                "name": "x",
                "statistic": "rank_difference",
                "printed": "1",
                "treatments": ["AT", "TRADES"],
            },
            UnknownName,
            "TRADES",
        ),
    ],
)
def test_faulty_claims_are_named(entry, error, text):
    with pytest.raises(error, match=text):
        read_claims({"claim": [entry]}, NAMES)


def test_a_file_without_claims_is_refused():
    with pytest.raises(BadValue, match="no claim"):
        read_claims({}, NAMES)
