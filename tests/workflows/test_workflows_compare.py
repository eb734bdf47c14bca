import math

import pandas as pd
import pytest

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.workflows.compare import beside_published, compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.selection import Selected


def cells(*rows):
    names = ["dataset", "architecture", "training", "attack", "norm", "eps", "mean"]
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


CHOSEN = Selected("mnist", "dense", "D-ReLU-1", 1.0, 4, 0.9)


def test_published_values_stand_beside_the_same_cell():
    frame = cells(
        ("mnist", "dense", "AT", "clean", "", 0.0, 0.98),
        ("mnist", "dense", "AT", "fgsm", "linf", 0.1, 0.9),
        ("mnist", "dense", "AT", "fgsm", "linf", 0.2, 0.9),
        ("mnist", "dense", "D-ReLU-1", "clean", "", 0.0, 0.97),
        ("mnist", "dense", "D-ReLU-0.1", "clean", "", 0.0, 0.97),
    )
    found, notes = beside_published(frame, "published:table1", [CHOSEN])
    values = found["published"].tolist()
    assert values[:2] == pytest.approx([0.9810, 0.8977])  # as printed in Table 1
    assert math.isnan(values[2])  # another radius is another threat
    assert not math.isnan(values[3])
    assert math.isnan(values[4])
    assert any("stands beside D-ReLU-1" in note for note in notes)


def test_no_match_is_said():
    frame = cells(("digits", "dense", "AT", "clean", "", 0.0, 0.98))
    _, notes = beside_published(frame, "published:table1", [])
    assert any("no row of published:table1 matches" in note for note in notes)


def test_wrong_tables():
    with pytest.raises(BadValue, match="no published table"):
        beside_published(cells(), "table1", [])
    with pytest.raises(UnknownName, match="table99"):
        beside_published(cells(), "published:table99", [])


def test_models_can_be_chosen(small_store):
    everything = compare(context=Context(store=small_store))
    assert len(everything.table.cells["training"].unique()) == 2
    key = [r["training"] for r in everything.document["rows"]]
    assert set(key) == {"D-ReLU-1", "ReLU"}
    one = compare(context=Context(store=small_store), where={"activation": "relu"})
    assert set(one.table.cells["training"]) == {"ReLU"}
    with pytest.raises(UnknownName, match="no stored results that fit"):
        compare(context=Context(store=small_store), where={"dataset": "mnist"})
    with pytest.raises(UnknownName, match="no stored results"):
        compare(context=Context(store=small_store), attack_seed=5)


def test_fewer_samples_are_a_prefix(small_store):
    report = compare(context=Context(store=small_store), samples=20)
    assert any("same 20 test images" in note for note in report.notes)


def test_results_that_do_not_cover_the_list_are_left_out_and_named(tmp_path):
    from drelu_cli.workflows.attack import attack
    from drelu_cli.workflows.plan import Wanted
    from drelu_cli.workflows.train import train

    context = Context(store=tmp_path / "runs", device="cpu")
    train(options=[("train.epochs", 1)], context=context)
    attack(wanted=Wanted("smoke", (), "linf", None, samples=30), context=context)
    attack(wanted=Wanted(None, ("fgsm",), "linf", (0.05,), samples=10), context=context)
    report = compare(context=context)
    assert any("left out" in note and "fgsm" in note for note in report.notes)
    assert set(report.table.cells["eps"]) == {0.0, 0.2}
