"""`[data] generated` from a recipe to a label, a key and a trained model."""

import numpy as np
import pytest

from drelu_cli.core.errors import BadValue, DataError, RecipeError
from drelu_cli.core.recipe import Recipe
from drelu_cli.data.loading import load
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective, fitted_to, label_of, name_of
from drelu_cli.workflows.recipes import members, read_source
from drelu_cli.workflows.train import train


def recipe(*options):
    return next(members(read_source(None), preset="fast", options=options))[0]


@pytest.fixture
def digits_file(tmp_path):
    """Generated digits: noisy copies of the first fifty."""
    pixels = load("digits", tmp_path).train.images[:50].permute(0, 2, 3, 1).numpy()
    labels = load("digits", tmp_path).train.labels[:50].numpy()
    np.savez(tmp_path / "edm.npz", image=pixels // 2, label=labels)
    return tmp_path / "edm.npz"


def fitted(folder, *options):
    return fitted_to(effective(recipe(*options)), load("digits", folder), folder)


def test_the_share_is_the_data_sets_own():
    for name, share in (("cifar10", 0.7), ("tiny_imagenet", 0.8)):
        found = effective(recipe(("data.name", name), ("data.generated", "g.npz")))
        assert found.data.generated_share == share
    stated = recipe(("data.generated", "g.npz"), ("data.generated_share", 0.25))
    assert effective(stated).data.generated_share == 0.25


def test_no_generated_images_is_no_change():
    plain = effective(recipe())
    none = effective(recipe(("data.generated", "g.npz"), ("data.generated_share", 0.0)))
    assert none == plain
    assert none.key("d") == plain.key("d")
    assert "generated" not in plain.identity("d")["data"]
    with pytest.raises(BadValue, match=r"generated_share 0.7 has nothing to draw from"):
        effective(recipe(("data.generated_share", 0.7)))
    with pytest.raises(RecipeError, match="less than or equal to 1"):
        recipe(("data.generated_share", 1.5))


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ([("activation", "relu")], "ReLU + generated"),
        ([("activation", "relu"), ("scheme", "at")], "AT + generated"),
        ([("activation", "relu"), ("scheme", "trades:beta=6")], "TRADES-6 + generated"),
        ([("penalty.lambda", 0.1)], "D-ReLU-0.1 + generated"),
        ([("penalty.lambda", 0.1), ("model.placement", "stem")], "D-ReLU-0.1 (stem) + generated"),
    ],
)
def test_tables_say_so(options, label):
    found = effective(recipe(*options, ("data.generated", "g.npz")))
    assert label_of(found) == label
    assert name_of(found).endswith("-generated-s0")


def test_the_key_has_the_content_and_the_share_but_not_the_path(tmp_path, digits_file):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(digits_file.read_bytes())
    other = tmp_path / "other.npz"
    with np.load(digits_file) as found:
        np.savez(other, image=255 - found["image"], label=found["label"])
    keys = [
        fitted(tmp_path, ("data.generated", str(file)), ("data.generated_share", share)).key("d")
        for file, share in ((digits_file, 0.7), (copy, 0.7), (other, 0.7), (digits_file, 0.5))
    ]
    assert keys[0] == keys[1]
    assert len({*keys, fitted(tmp_path).key("d")}) == 4


def test_a_relative_path_is_seen_from_here_or_the_data_folder(tmp_path, digits_file, monkeypatch):
    found = fitted(tmp_path, ("data.generated", "edm.npz"))
    assert found.data.generated == str(digits_file)
    monkeypatch.chdir(tmp_path)
    elsewhere = fitted_to(
        effective(recipe(("data.generated", "edm.npz"))),
        load("digits", tmp_path),
        tmp_path / "other",
    )
    assert elsewhere == found


def test_a_stored_recipe_refuses_other_content(tmp_path, digits_file):
    stored = fitted(tmp_path, ("data.generated", "edm.npz")).as_mapping()
    again = Recipe.from_mapping(stored)
    assert fitted_to(effective(again), load("digits", tmp_path), tmp_path) == again
    np.savez(digits_file, image=np.zeros((9, 8, 8, 1), np.uint8), label=np.arange(9))
    with pytest.raises(DataError, match=r"edm.npz has other images than the recipe") as caught:
        fitted_to(effective(again), load("digits", tmp_path), tmp_path)
    assert "generated_digest" in caught.value.hint


def test_images_that_do_not_fit_are_refused_before_training(tmp_path, digits_file):
    np.savez(tmp_path / "big.npz", image=np.zeros((4, 9, 9, 1), np.uint8), label=np.arange(4))
    with pytest.raises(DataError, match="the data set has"):
        train(options=[("data.generated", str(tmp_path / "big.npz"))], context=context(tmp_path))


def context(folder):
    return Context(store=folder / "runs", data_dir=folder, device="cpu")


def test_a_training_with_generated_images_is_one_of_its_own(tmp_path, digits_file):
    options = [("train.epochs", 1), ("data.train_samples", 200)]
    plain = train(options=options, context=context(tmp_path)).record
    mixed = [*options, ("data.generated", "edm.npz")]
    first = train(options=mixed, context=context(tmp_path))
    second = train(options=mixed, context=context(tmp_path))
    assert (first.reused, second.reused) == (False, True)
    assert first.record.key != plain.key
    assert first.record.weights_digest != plain.weights_digest
    assert first.record.dataset_digest == plain.dataset_digest
    assert first.record.summary["split"]["train"] == 200
    again = train(options=mixed, force=True, context=context(tmp_path))
    assert again.record.weights_digest == first.record.weights_digest
    stored = first.checkpoint.parent / "recipe.toml"
    assert train(str(stored), context=context(tmp_path)).reused
    with open_store(tmp_path / "runs") as store:
        assert {model.label for model in store.models()} == {"D-ReLU-1", "D-ReLU-1 + generated"}
