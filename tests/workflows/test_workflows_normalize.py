"""`[model] normalize`: nets on raw pixels beside normalised ones, and never mistaken for them."""

import pytest
import torch

from drelu_cli.core.recipe import Recipe
from drelu_cli.data.loading import load
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective, label_of
from drelu_cli.workflows.evidence import twin_in
from drelu_cli.workflows.fitting import build_model
from drelu_cli.workflows.recipes import members, read_source
from drelu_cli.workflows.train import train

SHORT = (("train.epochs", 1), ("data.train_samples", 64))
RAW = ("model.normalize", False)


def recipe(*options):
    return effective(next(members(read_source(None), preset="fast", options=options))[0])


def test_the_first_layer_sees_the_pixels(tmp_path):
    data = load("digits", tmp_path)
    x = torch.rand(3, *data.shape)
    raw, normalised = build_model(recipe(RAW), data), build_model(recipe(), data)
    assert torch.equal(raw.normalize(x), x)
    assert not torch.equal(normalised.normalize(x), x)
    # The same seed gives both the same weights.
    assert torch.equal(raw.net.dense0.weight, normalised.net.dense0.weight)


def test_keys_of_normalised_nets_stay_and_raw_ones_have_their_own():
    plain, stated = recipe(), recipe(("model.normalize", True))
    assert plain == stated
    assert "normalize" not in plain.identity("d")["model"]
    assert recipe(RAW).key("d") != plain.key("d")
    assert recipe(RAW).identity("d")["model"]["normalize"] is False
    again = Recipe.from_mapping(recipe(RAW).as_mapping())
    assert again.key("d") == recipe(RAW).key("d")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_mnist_family_stays_on_its_pixels_unless_told_otherwise(name):
    usual = recipe(("data.name", name))
    other = recipe(("data.name", name), ("model.normalize", True))
    assert usual == recipe(("data.name", name), RAW)
    assert usual.identity("d")["model"]["normalize"] is False
    assert "normalize" not in other.identity("d")["model"]
    assert label_of(usual) == "D-ReLU-0.1"
    assert label_of(other) == "D-ReLU-0.1 (normalised)"


@pytest.mark.parametrize("name", ["digits", "cifar10", "stl10", "npz"])
def test_other_images_are_normalised(name):
    assert recipe(("data.name", name)).model.normalize is True


def test_an_effective_recipe_says_which_and_is_read_back_as_it_was():
    for stated in (True, False):
        told = recipe(("data.name", "mnist"), ("model.normalize", stated))
        assert effective(Recipe.from_mapping(told.as_mapping())) == told


def test_tables_say_so():
    assert label_of(recipe(RAW, ("activation", "relu"))) == "ReLU (raw pixels)"
    both = recipe(RAW, ("penalty.lambda", 0.1), ("model.placement", "stem"))
    assert label_of(both) == "D-ReLU-0.1 (stem) (raw pixels)"


def test_twins_share_it(tmp_path):
    context = Context(store=tmp_path / "runs", data_dir=tmp_path, device="cpu")

    def trained(*options):
        return train(options=[*SHORT, *options], context=context).record

    capped, plain = trained(RAW), trained(("activation", "relu"))
    with open_store(context.store) as store:
        assert twin_in(store, capped) is None
    raw = trained(RAW, ("activation", "relu"))
    with open_store(context.store) as store:
        assert twin_in(store, capped).key == raw.key
        assert twin_in(store, trained()).key == plain.key


def test_plain_relu_in_the_head_is_the_twin_of_caps_everywhere(tmp_path):
    context = Context(store=tmp_path / "runs", data_dir=tmp_path, device="cpu")
    plain = train(options=[*SHORT, ("activation", "relu")], context=context).record
    capped = {
        place: train(options=[*SHORT, ("model.placement", place)], context=context).record
        for place in ("stem", "all")
    }
    with open_store(context.store) as store:
        assert twin_in(store, capped["all"]).key == plain.key
        assert twin_in(store, capped["stem"]) is None
    own = [("activation", "relu"), ("model.placement", "all")]
    everywhere = train(options=[*SHORT, *own], context=context).record
    with open_store(context.store) as store:
        assert twin_in(store, capped["all"]).key == everywhere.key
