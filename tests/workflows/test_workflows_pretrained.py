"""`[model] pretrained` from a recipe to a key, a trained model and its evaluation."""

import pytest
import torch

from drelu_cli.core.errors import BadValue, CheckpointError, ModelError, UnknownName
from drelu_cli.core.recipe import Recipe
from drelu_cli.data.loading import load
from drelu_cli.models.checkpoints import read_weights
from drelu_cli.runtime.streams import seeded_initialisation
from drelu_cli.runtime.vision import import_torchvision
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective, fitted_to
from drelu_cli.workflows.jobs import plan
from drelu_cli.workflows.recipes import members, read_source
from drelu_cli.workflows.subjects import DataCache, load_model
from drelu_cli.workflows.train import train

SHORT = [
    ("model.name", "mobilenet_v2"),
    ("train.epochs", 1),
    ("train.batch", 32),
    ("data.train_samples", 64),
]


def recipe(*options):
    return next(members(read_source(None), preset="fast", options=options))[0]


def fitted(folder, *options):
    return fitted_to(effective(recipe(*options)), load("digits", folder), folder)


@pytest.fixture(scope="module")
def weights():
    with seeded_initialisation("pretrained"):
        state = import_torchvision().models.mobilenet_v2(weights=None).state_dict()
        for name, tensor in state.items():
            if "running" in name:
                tensor += torch.rand_like(tensor)
    return state


@pytest.fixture
def file(weights, tmp_path):
    torch.save(weights, tmp_path / "pretrained.pt")
    return tmp_path / "pretrained.pt"


def from_file(file, *, frozen=True):
    return [*SHORT, ("model.pretrained", str(file)), ("model.frozen", frozen)]


def test_a_recipe_without_pretrained_weights_has_the_identity_it_always_had():
    plain = {"name": "resnet18", "placement": "head", "extra": 128}
    found = effective(recipe(("model.name", "resnet18")))
    assert found.identity("d")["model"] == plain
    assert set(found.as_mapping()["model"]) == {*plain, "normalize"}
    unfrozen = recipe(("model.name", "resnet18"), ("model.frozen", False))
    assert effective(unfrozen).key("d") == found.key("d")


def test_the_key_has_the_content_and_whether_it_is_frozen_and_no_path(file, tmp_path):
    key = fitted(tmp_path, *from_file(file)).key("d")
    assert key != fitted(tmp_path, *from_file(file, frozen=False)).key("d")
    assert key != fitted(tmp_path, *SHORT).key("d")
    moved = file.rename(file.with_name("moved.pth"))
    found = fitted(tmp_path, *from_file(moved))
    assert found.key("d") == key
    assert "moved" not in str(found.identity("d"))
    state = torch.load(moved, weights_only=True)
    state["features.0.0.weight"] += 1
    torch.save(state, moved)
    assert fitted(tmp_path, *from_file(moved)).key("d") != key


def test_frozen_is_false_where_it_is_not_stated(file, tmp_path):
    silent = [*SHORT, ("model.pretrained", str(file))]
    stated = from_file(file, frozen=False)
    assert fitted(tmp_path, *silent).key("d") == fitted(tmp_path, *stated).key("d")


def test_imagenets_weights_are_planned_without_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    options = [*SHORT, ("model.pretrained", "imagenet")]
    key = fitted(tmp_path, *options).key("d")
    assert key != fitted(tmp_path, *SHORT).key("d")
    context = Context(store=tmp_path / "runs", data_dir=tmp_path)
    data = DataCache(context)
    jobs = plan("smoke", preset="tiny", options=options, data=data, context=context)
    assert {job.effective.model.pretrained for job in jobs} == {"imagenet"}
    assert not (tmp_path / "torch").exists()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ([("model.frozen", True)], BadValue, "nothing to freeze"),
        ([("model.pretrained", "imagenet")], ModelError, "dense takes no pretrained weights"),
        (
            [("model.name", "shallow_cnn"), ("model.pretrained", "x.pt")],
            ModelError,
            "shallow_cnn takes no pretrained weights",
        ),
        ([("model.name", "resnet5"), ("model.pretrained", "imagenet")], UnknownName, "resnet5"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(options, kind, words):
    with pytest.raises(kind, match=words):
        effective(recipe(*options))


def test_a_stated_digest_refuses_other_weights(file, tmp_path):
    found = fitted(tmp_path, *from_file(file))
    again = Recipe.from_mapping(found.as_mapping())
    data = load("digits", tmp_path)
    assert fitted_to(effective(again), data, tmp_path).key("d") == found.key("d")
    state = torch.load(file, weights_only=True)
    state["features.0.0.weight"] += 1
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="other weights than model.pretrained_digest says"):
        fitted_to(effective(again), data, tmp_path)


def test_a_trained_net_keeps_a_frozen_backbone_and_never_needs_the_file_again(
    file, weights, tmp_path
):
    notes = []
    context = Context(
        store=tmp_path / "runs",
        data_dir=tmp_path,
        device="cpu",
        progress=lambda kind, fields: notes.append(fields.get("text", "")),
    )
    report = train(options=from_file(file), context=context)
    assert any("not used: classifier" in note for note in notes)
    assert report.document["pretrained"]["frozen"] is True
    assert report.document["pretrained"]["summed"] == ["features.0.0.weight"]
    state, _ = read_weights(report.checkpoint)
    for name, tensor in weights.items():
        if not name.startswith(("classifier.", "features.0.0.")):
            assert torch.equal(state[f"net.0.{name}"], tensor), name
    file.unlink()
    data = DataCache(context)
    with open_store(context.store) as store:
        model = load_model(store.find_model(report.record.name), data, store)
    assert not model.training
    assert model.normalize.mean.item() == pytest.approx(0.449)


def test_a_fine_tuned_backbone_moves(file, weights, tmp_path):
    context = Context(store=tmp_path / "runs", data_dir=tmp_path, device="cpu")
    report = train(options=from_file(file, frozen=False), context=context)
    state, _ = read_weights(report.checkpoint)
    moved = ["features.1.conv.1.weight", "features.0.1.running_mean"]
    assert not any(torch.equal(state[f"net.0.{name}"], weights[name]) for name in moved)
    assert report.document["pretrained"]["frozen"] is False


def test_random_weights_say_so(tmp_path):
    context = Context(store=tmp_path / "runs", data_dir=tmp_path, device="cpu")
    options = [("train.epochs", 1), ("data.train_samples", 64)]
    assert train(options=options, context=context).document["pretrained"] is None
