"""Networks that start from pretrained weights: what is taken, what stays new, what is held."""

import os
import urllib.error
import urllib.request

import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.caps import learnable_caps
from drelu_cli.core.errors import CheckpointError, ModelError
from drelu_cli.models import weights_files
from drelu_cli.models.build import build
from drelu_cli.models.checkpoints import save_weights, weights_digest
from drelu_cli.models.pretrained import start_from
from drelu_cli.models.weights_files import Published, pretrained_digest, read_pretrained
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import seeded_initialisation
from drelu_cli.runtime.vision import import_torchvision

FIRST = "features.0.0.weight"


def made(name="mobilenet_v2", *, shape=(3, 8, 8), placement="head", activation="drelu"):
    with seeded_initialisation(0):
        return build(
            name,
            shape=shape,
            classes=5,
            activation=ACTIVATIONS.bind(activation),
            placement=placement,
            mean=[0.4] * shape[0],
            std=[0.3] * shape[0],
            options={},
        )


def weights_of(name):
    """A state dict as torchvision's, with running statistics that moved."""
    with seeded_initialisation(f"weights of {name}"):
        options = {"init_weights": False} if name == "inception_v3" else {}
        state = getattr(import_torchvision().models, name)(weights=None, **options).state_dict()
        for key, tensor in state.items():
            if "running" in key:
                tensor += torch.rand_like(tensor)
    return state


@pytest.fixture(scope="module")
def state():
    return weights_of("mobilenet_v2")


@pytest.fixture
def file(state, tmp_path):
    torch.save(state, tmp_path / "mobilenet.pt")
    return tmp_path / "mobilenet.pt"


def body(model):
    return {k.removeprefix("net.0."): v for k, v in model.state_dict().items() if "net.0." in k}


def saved(state, path):
    torch.save(state, path)
    return str(path)


def test_the_backbone_is_the_files_and_the_head_is_new(file, state):
    model, untouched = made(), made()
    taken = start_from(model, "mobilenet_v2", str(file), frozen=False)
    assert all(torch.equal(tensor, state[name]) for name, tensor in body(model).items())
    for layer in ("extra.weight", "output.weight", "activation.cap"):
        key = f"net.1.{layer}"
        assert torch.equal(model.state_dict()[key], untouched.state_dict()[key])
    assert (taken.tensors, taken.new, taken.summed) == (len(body(model)), (), ())
    assert taken.left_out == ("classifier",)
    assert "new: extra and output layer; not used: classifier" in taken.sentence
    assert all(parameter.requires_grad for parameter in model.parameters())


IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
# What of torchvision's file is not used, and the normalisation that its weights expect.
OTHERS = {
    "resnet50": (("fc",), IMAGENET),
    "resnet101": (("fc",), IMAGENET),
    "inception_v3": (("AuxLogits", "fc"), HALF),
}


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 128])
@pytest.mark.parametrize("name", OTHERS)
def test_the_other_backbones_take_theirs(name, side, tmp_path):
    state = weights_of(name)
    left_out, (mean, std) = OTHERS[name]
    model = made(name, shape=(3, side, side))
    untouched = body(made(name, shape=(3, side, side)))
    taken = start_from(model, name, saved(state, tmp_path / "weights.pt"), frozen=True)
    # torchvision's ResNets begin with a 7x7 convolution, ours with 3x3 below 128 pixels.
    new = ("conv1.weight",) if name.startswith("resnet") and side == 32 else ()
    assert (set(taken.left_out), taken.new, taken.summed) == (set(left_out), new, ())
    for key, tensor in body(model).items():
        assert torch.equal(tensor, untouched[key] if key in new else state[key]), key
    found = [b.flatten().tolist() for b in (model.normalize.mean, model.normalize.std)]
    assert found == [pytest.approx(mean), pytest.approx(std)]
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    head = {f"net.1.{key}" for key, _ in model.net[1].named_parameters()}
    assert trained == {*(f"net.0.{key}" for key in new), *head}


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8)])
def test_normalisation_is_what_the_weights_expect(file, shape):
    model = made(shape=shape)
    start_from(model, "mobilenet_v2", str(file), frozen=False)
    mean, std = (b.flatten().tolist() for b in (model.normalize.mean, model.normalize.std))
    if shape[0] == 3:
        assert (mean, std) == (
            pytest.approx([0.485, 0.456, 0.406]),
            pytest.approx([0.229, 0.224, 0.225]),
        )
    else:
        assert (mean, std) == (pytest.approx([0.449]), pytest.approx([0.226]))


def test_grey_images_see_what_the_filters_make_of_grey_colours(file, state):
    model = made(shape=(1, 8, 8))
    taken = start_from(model, "mobilenet_v2", str(file), frozen=True)
    assert (taken.summed, taken.new) == ((FIRST,), ())
    grey = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = model.net[0].get_submodule("features.0.0")
    colours = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), state[FIRST], padding=1)
    torch.testing.assert_close(first(grey), colours)
    assert not first.weight.requires_grad


def test_a_first_convolution_that_does_not_fit_is_new_named_and_trained(tmp_path):
    model, untouched = made("resnet18"), made("resnet18")
    source = saved(weights_of("resnet18"), tmp_path / "resnet.pt")
    taken = start_from(model, "resnet18", source, frozen=True)
    assert taken.new == ("conv1.weight",)
    assert taken.left_out == ("fc",)
    assert "new: conv1.weight, extra and output layer" in taken.sentence
    assert torch.equal(body(model)["conv1.weight"], body(untouched)["conv1.weight"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    head = {f"net.1.{name}" for name, _ in model.net[1].named_parameters()}
    assert trained == {"net.0.conv1.weight", *head}


@pytest.mark.parametrize("placement", ["stem", "all"])
def test_what_the_placement_adds_is_trained_beside_a_frozen_backbone(file, placement):
    model = made(placement=placement)
    taken = start_from(model, "mobilenet_v2", str(file), frozen=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert taken.new == ((FIRST,) if placement == "stem" else ())
    assert ("stem.convolution.weight" in trained) == (placement == "stem")
    assert all(cap.requires_grad for cap in learnable_caps(model))
    assert {name for name in trained if name.startswith("net.0.")} == {
        f"net.0.{name}" for name in taken.new
    }


def one_step(model):
    """A pass in training mode and a step of everything that is trained."""
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    images = torch.rand(4, *model.shape, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(model.train()(images), torch.arange(4)).backward()
    optimiser.step()


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_stays_what_it_was_bit_for_bit(file, frozen):
    model = made()
    start_from(model, "mobilenet_v2", str(file), frozen=frozen)
    before = weights_digest(body(model))
    head = model.net[1].output.weight.clone()
    one_step(model)
    assert (weights_digest(body(model)) == before) is frozen
    assert not torch.equal(model.net[1].output.weight, head)


def test_batch_norms_of_a_frozen_backbone_stay_in_evaluation_mode(file):
    model = made()
    start_from(model, "mobilenet_v2", str(file), frozen=True)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 52
    for _ in range(2):
        assert model.training
        assert model.net[1].training
        assert not any(norm.training for norm in norms)
        with evaluation_mode(model):
            assert not model.training
        model.eval().train()


def test_weights_that_drelu_wrote_bring_their_own_normalisation(tmp_path):
    first = made(shape=(1, 8, 8), placement="all")
    first.normalize.mean.fill_(0.125)
    with torch.no_grad():
        first.get_parameter("net.0.features.1.conv.1.weight").fill_(3.0)
    save_weights(tmp_path / "own.safetensors", first, metadata={})
    model = made(shape=(1, 8, 8))
    taken = start_from(model, "mobilenet_v2", str(tmp_path / "own.safetensors"), frozen=False)
    assert weights_digest(body(model)) == weights_digest(body(first))
    assert model.normalize.mean.item() == 0.125
    assert set(taken.left_out) == {"net.1", *(f"net.activation{i}" for i in range(36))}


def test_names_of_data_parallel_training_are_understood(tmp_path, state):
    source = saved({f"module.{k}": v for k, v in state.items()}, tmp_path / "parallel.pt")
    model = made()
    assert start_from(model, "mobilenet_v2", source, frozen=False).new == ()
    assert torch.equal(body(model)[FIRST], state[FIRST])


def test_older_files_lack_the_counters_of_batch_norm(tmp_path, state):
    older = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    model = made()
    taken = start_from(model, "mobilenet_v2", saved(older, tmp_path / "old.pt"), frozen=False)
    assert taken.new == ()
    assert taken.tensors == len(body(model)) - 52


DEEP = "features.5.conv.1.1.weight"
BROKEN = {
    "missing": lambda state: state.pop(DEEP),
    "unexpected": lambda state: state.update({"features.99.weight": torch.zeros(1)}),
    "has shape": lambda state: state.update({DEEP: torch.zeros(7)}),
    "float64": lambda state: state.update({DEEP: state[DEEP].double()}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_missing_unexpected_or_misshapen_is_named_and_changes_nothing(
    tmp_path, state, fault
):
    broken = dict(state)
    BROKEN[fault](broken)
    model = made()
    before = weights_digest(model)
    with pytest.raises(CheckpointError, match=fault) as caught:
        start_from(model, "mobilenet_v2", saved(broken, tmp_path / "b.pt"), frozen=True)
    named = "features.99.weight" if fault == "unexpected" else DEEP
    assert named in caught.value.message
    assert "net.0." not in caught.value.message
    assert weights_digest(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_of_another_architecture_are_refused(file):
    with pytest.raises(CheckpointError, match=r"resnet18 from .* does not fit the model: missing"):
        start_from(made("resnet18"), "resnet18", str(file), frozen=False)


def test_architectures_without_a_backbone_take_no_weights(file):
    with pytest.raises(ModelError, match="dense takes no pretrained weights") as caught:
        start_from(made("dense"), "dense", str(file), frozen=False)
    assert "mobilenet_v2" in caught.value.hint


class Hostile:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_a_file_that_would_execute_code_is_refused(tmp_path):
    source = saved({FIRST: Hostile(str(tmp_path / "trace"))}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="execute code"):
        start_from(made(), "mobilenet_v2", source, frozen=False)
    assert not (tmp_path / "trace").exists()


def test_the_digest_is_of_the_content_not_of_the_file(file, state, tmp_path):
    digest = pretrained_digest("mobilenet_v2", str(file))
    assert digest == pretrained_digest("mobilenet_v2", saved(state, tmp_path / "again.pth"))
    other = {**state, FIRST: state[FIRST] + 1}
    assert digest != pretrained_digest("mobilenet_v2", saved(other, tmp_path / "other.pt"))
    saved(other, file)
    os.utime(file, ns=(1, 1))
    assert digest != pretrained_digest("mobilenet_v2", str(file))


def test_a_missing_file_is_named_and_the_two_forms_are_told():
    with pytest.raises(CheckpointError, match=r"nowhere\.pt cannot be read") as caught:
        pretrained_digest("mobilenet_v2", "nowhere.pt")
    assert "imagenet" in caught.value.hint


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


# From torchvision's own list of weights; the digits are the beginning of the file's sha256.
PUBLISHED = {
    "resnet18": ("ResNet18_Weights", "resnet18-f37072fd.pth"),
    "resnet50": ("ResNet50_Weights", "resnet50-0676ba61.pth"),
    "resnet101": ("ResNet101_Weights", "resnet101-63fe2227.pth"),
    "mobilenet_v2": ("MobileNet_V2_Weights", "mobilenet_v2-b0353104.pth"),
    "inception_v3": ("Inception_V3_Weights", "inception_v3_google-0cc3c7bd.pth"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_digest_of_imagenets_weights_is_known_without_the_file(name, cache):
    weights, file = PUBLISHED[name]
    digest = pretrained_digest(name, "imagenet")
    assert digest == f"torchvision {weights}.IMAGENET1K_V1 sha256 {file[-12:-4]}"
    assert weights_files.published_weights(weights_files.declared_backbone(name)).path.name == file
    assert not cache.exists()


def test_no_network_is_one_error_that_says_where_the_file_belongs(cache, monkeypatch, capsys):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(CheckpointError, match="cannot be downloaded: .*no network") as caught:
        read_pretrained("mobilenet_v2", "imagenet")
    assert str(cache / "mobilenet_v2-b0353104.pth") in caught.value.message
    assert "by hand" in caught.value.hint
    assert not list(cache.iterdir())
    assert capsys.readouterr().out == ""


def test_another_file_in_the_cache_is_refused_and_kept(cache):
    cache.mkdir(parents=True)
    damaged = cache / "mobilenet_v2-b0353104.pth"
    damaged.write_bytes(b"half a download")
    with pytest.raises(CheckpointError, match="is not MobileNet_V2_Weights.IMAGENET1K_V1"):
        read_pretrained("mobilenet_v2", "imagenet")
    assert damaged.read_bytes() == b"half a download"


@pytest.mark.parametrize("whole", [True, False])
def test_a_download_is_checked_before_it_is_in_place(cache, monkeypatch, file, state, whole):
    import hashlib

    sha = hashlib.sha256(file.read_bytes()).hexdigest()[:8] if whole else "0" * 8
    released = file.rename(file.with_name(f"mobilenet-{sha}.pth"))
    entry = Published("Weights.V1", released.as_uri(), sha)
    monkeypatch.setattr(weights_files, "published_weights", lambda _: entry)
    if whole:
        found = read_pretrained("mobilenet_v2", "imagenet")
        assert weights_digest(found) == weights_digest(state)
        released.unlink()
        assert weights_digest(read_pretrained("mobilenet_v2", "imagenet")) == weights_digest(state)
    else:
        with pytest.raises(CheckpointError, match="is not Weights.V1"):
            read_pretrained("mobilenet_v2", "imagenet")
    assert [one.name for one in cache.iterdir()] == ([released.name] if whole else [])
