"""Every rule: fires where it must, is silent where it must be, and its counts on the paper."""

from __future__ import annotations

import pandas as pd
import pytest

from drelu_cli.core.errors import BadValue, DataError
from drelu_cli.published.tables import published_table
from drelu_cli.stats.audit import AUDIT_RULES
from drelu_cli.stats.audit.findings import NotChecked, prepare

CODES = (
    "rank-mismatch",
    "tie-printed-as-order",
    "adversarial-above-clean",
    "iterative-weaker-than-single-step",
    "blackbox-stronger-than-whitebox",
    "same-configuration-differs",
    "off-grid",
    "correlated-blocks",
    "underpowered",
    "impossible-at-bound",
)


def run(code, frame):
    return AUDIT_RULES.resolve(code)(prepare(frame, name="mine"))


def row(attack, accuracy, *, training="A", model="net", dataset="CIFAR10", **more):
    return {
        "dataset": dataset,
        "model": model,
        "training": training,
        "attack": attack,
        "accuracy": accuracy,
        **more,
    }


def frame(*rows):
    return pd.DataFrame(list(rows))


@pytest.fixture(scope="module")
def everything():
    return prepare(published_table("published:all"), name="all")


def test_the_codes_are_those_of_the_document():
    assert tuple(AUDIT_RULES.builtin_names()) == CODES
    for code in CODES:
        assert "Source:" in (AUDIT_RULES.resolve(code).__doc__ or "")


# Counted by hand-written pandas expressions on the table's file, independent of the rules.
@pytest.mark.parametrize(
    ("code", "by_table"),
    [
        ("rank-mismatch", {2: 30, 3: 2}),
        ("tie-printed-as-order", {4: 2}),
        ("adversarial-above-clean", {2: 2, 3: 1, 7: 1, 8: 1}),
        ("iterative-weaker-than-single-step", {1: 1, 2: 2, 3: 3, 4: 6, 6: 4, 7: 5, 8: 4}),
        ("blackbox-stronger-than-whitebox", {5: 17, 9: 15}),
        ("same-configuration-differs", {5: 12, 9: 6}),
        ("off-grid", {2: 2, 3: 4, 4: 4}),
        ("correlated-blocks", dict.fromkeys(range(1, 10), 1)),
        ("underpowered", {1: 1, 2: 1, 3: 1, 4: 1}),
        ("impossible-at-bound", {1: 8, 2: 24, 6: 12}),
    ],
)
def test_counts_on_the_nine_tables(code, by_table, everything):
    found = AUDIT_RULES.resolve(code)(everything)
    counts = {}
    for finding in found:
        counts[finding.table] = counts.get(finding.table, 0) + 1
        assert finding.code == code
    assert counts == by_table


def test_masking_signs_are_the_methods_own(everything):
    """Science: PGD above FGSM and Square below white box, in D-ReLU rows and hardly elsewhere."""
    pgd = AUDIT_RULES.resolve("iterative-weaker-than-single-step")(everything)
    assert sum(finding.training == "D-ReLU" for finding in pgd) == 24
    square = AUDIT_RULES.resolve("blackbox-stronger-than-whitebox")(everything)
    others = [finding for finding in square if finding.training != "D-ReLU"]
    # One TRADES row, whose printed clean value contradicts Table 3: the message says so.
    assert [(f.dataset, f.model, f.training) for f in others] == [
        ("CIFAR100", "ResNet101", "TRADES-6")
    ]
    assert "the clean values of the two rows differ: 10.67 and 45.20" in others[0].message


def test_rank_mismatch_allows_every_rank_of_a_tie():
    rows = [
        row("pgd", 50.0, training=name, printed_rank=rank)
        for name, rank in [("A", 1), ("B", 2), ("C", 1.5)]
    ]
    assert run("rank-mismatch", frame(*rows, row("pgd", 40, training="D", printed_rank=4))) == []
    wrong = run("rank-mismatch", frame(*rows, row("pgd", 40, training="D", printed_rank=3)))
    assert [(f.training, f.printed, f.recomputed) for f in wrong] == [("D", 3, 4)]
    assert "40.00 % has rank 4" in wrong[0].message


def test_ties_printed_in_order_once_per_block():
    rows = [
        row("pgd", value, training=name, printed_rank=rank)
        for name, value, rank in [("A", 50, 1), ("B", 50, 2), ("C", 40, 3), ("D", 40, 4)]
    ]
    found = run("tie-printed-as-order", frame(*rows))
    assert [(f.attack, f.recomputed) for f in found] == [("pgd", 1.5)]
    shared = [{**entry, "printed_rank": {50: 1.5, 40: 3.5}[entry["accuracy"]]} for entry in rows]
    assert run("tie-printed-as-order", frame(*shared)) == []


def test_adversarial_above_clean_once_per_row():
    found = run(
        "adversarial-above-clean",
        frame(
            row("clean", 50), row("pgd", 51), row("fgsm", 52), row("square", 10),
            row("clean", 50, training="B"), row("pgd", 50, training="B"),
        ),
    )  # fmt: skip
    assert [(f.training, f.attack, f.printed, f.recomputed) for f in found] == [
        ("A", "fgsm", 52.0, 50.0)
    ]


def test_attack_names_are_folded():
    mine = frame(row("Clean", 50), row("FGSM", 20), row("PGD", 30))
    found = run("iterative-weaker-than-single-step", mine)
    assert [(f.attack, f.printed, f.recomputed) for f in found] == [("pgd", 30.0, 20.0)]
    equal = frame(row("fgsm", 20), row("pgd", 20))
    assert run("iterative-weaker-than-single-step", equal) == []


def test_blackbox_is_compared_within_and_across_tables():
    white = [row("fgsm", 30, table=1), row("apgd_ce", 20, table=1)]
    assert (
        len(run("blackbox-stronger-than-whitebox", frame(*white, row("square", 19, table=2)))) == 1
    )
    assert run("blackbox-stronger-than-whitebox", frame(*white, row("square", 20, table=2))) == []
    l2_only_below = [row("fgsm", 30), row("cw_l2", 5), row("square", 31)]
    assert run("blackbox-stronger-than-whitebox", frame(*l2_only_below)) == []


def test_generated_training_images_are_another_configuration():
    rows = [
        row("fgsm", 30, table=1, data="original"),
        row("square", 19, table=2, data="generated"),
        row("clean", 60, table=1, data="original"),
        row("clean", 70, table=2, data="generated"),
    ]
    assert run("blackbox-stronger-than-whitebox", frame(*rows)) == []
    assert run("same-configuration-differs", frame(*rows)) == []
    same = [{**entry, "data": "original"} for entry in rows]
    assert len(run("blackbox-stronger-than-whitebox", frame(*same))) == 1
    differs = run("same-configuration-differs", frame(*same))
    assert [(f.table, f.printed, f.recomputed) for f in differs] == [(2, 70.0, 60.0)]


def test_a_configuration_in_three_tables_gives_a_finding_per_pair():
    rows = [row("clean", value, table=i) for i, value in enumerate([60, 61, 60])]
    found = run("same-configuration-differs", frame(*rows))
    assert [(f.table, f.printed, f.recomputed) for f in found] == [(1, 61.0, 60.0), (2, 60.0, 61.0)]


def test_off_grid_only_where_most_cells_are_on_it():
    on = [row(f"a{i}", value) for i, value in enumerate([50.0, 50.03, 50.07, 12.1, 99.97])]
    found = run("off-grid", frame(*on, row("pgd", 50.05)))
    assert [(f.attack, f.printed, f.recomputed) for f in found] == [("pgd", 50.05, 50.07)]
    mostly_off = [row(f"a{i}", 50 + i / 100) for i in (1, 2, 4, 5, 6, 8, 9)]
    assert run("off-grid", frame(*on[:2], *mostly_off)) == []


def blocks_frame(networks, effect):
    """Two treatments, four columns; `effect(network, column)` is their difference."""
    rows = []
    for network in range(networks):
        for column, attack in enumerate(("clean", "fgsm", "pgd", "square")):
            base = 50 + 7 * ((network * 5 + column * 3) % 11)  # columns unrelated to each other
            rows.append(row(attack, base / 2, training="A", model=f"n{network}"))
            value = (base + effect(network, column)) / 2
            rows.append(row(attack, value, training="B", model=f"n{network}"))
    return frame(*rows)


def test_correlated_blocks_need_dependence():
    dependent = run("correlated-blocks", blocks_frame(8, lambda n, c: 3 * n))
    assert len(dependent) == 1
    assert dependent[0].printed == 32
    assert dependent[0].recomputed <= 24
    one_column = blocks_frame(8, lambda n, c: n)
    assert run("correlated-blocks", one_column[one_column["attack"] == "pgd"]) == []


def test_underpowered_by_the_number_of_networks():
    assert [f.recomputed for f in run("underpowered", blocks_frame(5, lambda n, c: n + c))] == [
        pytest.approx(2 / 2**5)
    ]
    assert run("underpowered", blocks_frame(6, lambda n, c: n + c)) == []


def test_impossible_at_bound_needs_a_bound_and_a_known_distance():
    assert len(run("impossible-at-bound", frame(row("cw_l2", 5, norm="l2", eps=18.0)))) == 1
    for silent in [
        row("cw_l2", 0, norm="l2", eps=18.0),
        row("cw_l2", 5, norm="l2", eps=16.0),
        row("pgd", 5, norm="linf", eps=18.0),
    ]:
        assert run("impossible-at-bound", frame(silent)) == []
    with pytest.raises(NotChecked, match="distance"):
        run("impossible-at-bound", frame(row("cw_l2", 5, dataset="SVHN", norm="l2", eps=18.0)))
    found = run("impossible-at-bound", frame(row("cw_l2", 5, dataset="mnist", norm="l2", eps=10)))
    assert found[0].recomputed == 0.0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("rank-mismatch", "printed_rank"),
        ("tie-printed-as-order", "printed_rank"),
        ("adversarial-above-clean", "clean"),
        ("iterative-weaker-than-single-step", "fgsm"),
        ("blackbox-stronger-than-whitebox", "square"),
        ("same-configuration-differs", "clean"),
        ("correlated-blocks", "treatment"),
        ("underpowered", "treatment"),
        ("impossible-at-bound", "norm"),
    ],
)
def test_a_rule_that_cannot_run_says_why(code, reason):
    with pytest.raises(NotChecked, match=reason):
        run(code, frame(row("pgd", 50)))


def test_unusable_tables_are_refused():
    with pytest.raises(DataError, match="training"):
        prepare(frame(row("pgd", 50)).drop(columns="training"), name="mine")
    with pytest.raises(DataError, match="no accuracy"):
        prepare(frame(row("pgd", float("nan"))), name="mine")
    with pytest.raises(BadValue, match="mine: accuracy 101"):
        prepare(frame(row("pgd", 101)), name="mine")
    with pytest.raises(DataError, match="more than once"):
        run("adversarial-above-clean", frame(row("clean", 50), row("clean", 51)))
