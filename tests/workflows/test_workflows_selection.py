import pytest

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import ModelRecord
from drelu_cli.workflows.cells import labels_of
from drelu_cli.workflows.selection import check_rule, not_selected, select_lambda


def record(lambda_, clean, pgd, seed=0, key=None, scheme="natural", placement="head", **recipe):
    full = {
        "train": {"seed": seed},
        "phase": [{"scheme": scheme}],
        "model": {"name": "dense", "placement": placement},
        "penalty": {"lambda": lambda_},
        **recipe,
    }
    return ModelRecord(
        key=key or digest_of([lambda_, seed, scheme, placement, recipe]), name="n",
        label=f"D-ReLU-{lambda_}", source="trained", dataset="mnist", dataset_digest="d",
        architecture="dense", activation="drelu", placement=placement, scheme=scheme,
        lambda_=lambda_, cap=10.0, seed=seed, weights_digest="w", recipe=full,
        summary={"validation_clean": clean, "validation_pgd10": pgd}, provenance={},
    )  # fmt: skip


def select(records):
    return select_lambda(records, labels_of(records))


def test_the_highest_pgd_within_one_point_of_the_best_clean_accuracy():
    (found,) = select([record(0.01, 0.98, 0.5), record(0.1, 0.971, 0.8), record(1, 0.96, 0.9)])
    assert found.label == "D-ReLU-0.1"
    assert found.candidates == 3
    assert "most masked" in found.sentence


def test_exactly_one_point_is_within():
    (found,) = select([record(0.1, 0.98, 0.5), record(1, 0.97, 0.9)])
    assert found.label == "D-ReLU-1"


def test_seeds_are_averaged_before_the_choice():
    records = [record(0.1, 0.98, 0.9), record(0.1, 0.98, 0.1, seed=1), record(1, 0.98, 0.6)]
    (found,) = select(records)
    assert found.label == "D-ReLU-1"
    assert found.candidates == 2


def test_other_treatments_and_other_trainings_are_no_candidates():
    wide = {"model": {"name": "dense", "placement": "head", "width": 512}}
    (found,) = select(
        [
            record(0.1, 0.98, 0.5),
            record(1, 0.98, 0.6),
            record(1, 0.98, 0.99, **wide),
            record(0.1, 0.98, 0.99, scheme="madry"),
            record(0.1, 0.98, 0.99, placement="all"),
        ]
    )
    assert found.candidates == 2
    assert found.lambda_ == 1
    # The comparison tells the two widths apart, and the choice speaks of the one it means.
    assert found.label.startswith("D-ReLU-1 [")


def test_only_candidates_of_the_same_list_give_way():
    wide = {"model": {"name": "dense", "placement": "head", "width": 512}}
    records = [
        record(0.1, 0.98, 0.5, key="aaaaaaaa"),
        record(1, 0.98, 0.6, key="bbbbbbbb"),
        record(1, 0.98, 0.9, key="cccccccc", **wide),
    ]
    labels = labels_of(records)
    assert not_selected(select(records), labels) == {"aaaaaaaa"}


def test_models_without_caps_or_scores_take_no_part():
    assert select([record(None, 0.98, 0.9)]) == []


def test_rules():
    check_rule("validation")
    check_rule("adaptive")
    with pytest.raises(UnknownName, match="validaton"):
        check_rule("validaton")


def test_seeds_share_a_label_and_different_recipes_never_do():
    seeds = [record(0.1, 0, 0, key="aaaaaaaa"), record(0.1, 0, 0, seed=1, key="bbbbbbbb")]
    assert set(labels_of(seeds).values()) == {"D-ReLU-0.1"}
    other = record(0.1, 0, 0, key="cccccccc", train={"seed": 0, "batch": 8})
    labels = labels_of([*seeds, other])
    assert labels["aaaaaaaa"] == labels["bbbbbbbb"] == "D-ReLU-0.1 [aaaaaa]"
    assert labels["cccccccc"] == "D-ReLU-0.1 [cccccc]"


def test_by_the_adaptive_column_another_lambda_may_be_chosen():
    records = [record(0.1, 0.98, 0.4, key="a" * 8), record(1, 0.98, 0.9, key="b" * 8)]
    labels = {one.key: one.label for one in records}
    (masked,) = select_lambda(records, labels)
    assert masked.lambda_ == 1
    (honest,) = select_lambda(records, labels, {"a" * 8: 0.2, "b" * 8: 0.1})
    assert honest.lambda_ == 0.1
    assert "adaptive column" in honest.sentence
    with pytest.raises(UnknownName, match="no adaptive column"):
        select_lambda(records, labels, {"a" * 8: 0.2, "b" * 8: None})
