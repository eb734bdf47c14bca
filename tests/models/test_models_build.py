import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.capped import DReLU
from drelu_cli.activations.contract import Activation
from drelu_cli.activations.plain import ReLU
from drelu_cli.core.errors import BadValue, ModelError, UnknownName
from drelu_cli.models.build import build, check_input
from drelu_cli.models.contract import Normalize
from drelu_cli.models.outside import wrap_normalised
from drelu_cli.runtime.streams import seeded_initialisation


def made(name="dense", *, shape=(1, 8, 8), placement="head", activation="drelu", **options):
    with seeded_initialisation(0):
        return build(
            name,
            shape=shape,
            classes=10,
            activation=ACTIVATIONS.bind(activation),
            placement=placement,
            mean=[0.5] * shape[0],
            std=[0.25] * shape[0],
            options=options,
        )


def sites(model):
    """Kind and channels of every activation, in the order they are called."""
    called = []
    for module in model.modules():
        if isinstance(module, Activation):
            module.register_forward_hook(lambda m, _, __: called.append((type(m), m.channels)))
    model.eval()(torch.zeros(2, *model.shape))
    return called


DENSE = {
    "head": [(ReLU, 256), (ReLU, 256), (DReLU, 128)],
    "stem": [(DReLU, 256), (ReLU, 256), (ReLU, 256), (ReLU, 128)],
    "all": [(DReLU, 256), (DReLU, 256), (DReLU, 128)],
}
CNN = {
    "head": [(ReLU, 32), (ReLU, 64), (DReLU, 128)],
    "stem": [(DReLU, 16), (ReLU, 32), (ReLU, 64), (ReLU, 128)],
    "all": [(DReLU, 32), (DReLU, 64), (DReLU, 128)],
}
BODY = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
RESNET = {
    "head": [*((ReLU, width) for width in BODY), (DReLU, 128)],
    "stem": [(DReLU, 16), *((ReLU, width) for width in [*BODY, 128])],
    "all": [(DReLU, width) for width in [*BODY, 128]],
}


@pytest.mark.parametrize("placement", ["head", "stem", "all"])
@pytest.mark.parametrize(
    ("name", "expected"), [("dense", DENSE), ("shallow_cnn", CNN), ("resnet18", RESNET)]
)
def test_placement_decides_which_call_sites_get_the_activation(name, expected, placement):
    assert sites(made(name, placement=placement)) == expected[placement]


@pytest.mark.parametrize("name", ["dense", "shallow_cnn", "resnet18"])
def test_placement_all_changes_no_number_where_the_activation_is_relu(name):
    """Replacing call sites must leave the network's function and its weights alone."""
    head = made(name, activation="relu").eval()
    everywhere = made(name, activation="relu", placement="all").eval()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(head(x), everywhere(x))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 32, 64])
@pytest.mark.parametrize("name", ["dense", "shallow_cnn", "resnet18"])
def test_images_of_8_to_64_pixels(name, side, channels):
    assert check_input(made(name, shape=(channels, side, side)), (channels, side, side)) == 10


def test_resnet_keeps_small_images_and_halves_those_of_64():
    sizes = {}
    for side in (28, 32, 64):
        model = made("resnet18", shape=(3, side, side)).eval()
        body = model.net[0]
        body.conv1.register_forward_hook(
            lambda _, __, y, side=side: sizes.update({side: y.shape[-1]})
        )
        model(torch.zeros(1, 3, side, side))
    assert sizes == {28: 28, 32: 32, 64: 32}


def test_resnet_without_its_fitted_layers_is_torchvisions():
    """Same body weights, same features: tracing and per-site ReLUs change nothing."""
    from drelu_cli.runtime.vision import import_torchvision

    model = made("resnet18", shape=(3, 32, 32)).eval()
    body = model.net[0]
    plain = import_torchvision().models.resnet18(weights=None)
    plain.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    plain.maxpool, plain.fc = nn.Identity(), nn.Identity()
    plain.load_state_dict(body.state_dict())
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(x), body(x))


def test_normalisation_is_inside_frozen_and_affine():
    model = made(shape=(3, 8, 8))
    normalize = model[0]
    assert isinstance(normalize, Normalize)
    assert not list(normalize.parameters())
    assert normalize(torch.full((1, 3, 8, 8), 0.75)).unique().tolist() == [1.0]


def test_options_reach_the_architecture():
    assert sites(made(width=32, depth=1, extra=16)) == [(ReLU, 32), (DReLU, 16)]
    assert sites(made("shallow_cnn", widths=[4, 8, 16])) == [
        (ReLU, 4), (ReLU, 8), (ReLU, 16), (DReLU, 128),
    ]  # fmt: skip
    assert sites(made(depth=0)) == [(DReLU, 128)]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"name": "desne"}, UnknownName, "desne"),
        ({"wdith": 3}, UnknownName, "wdith"),
        ({"width": "wide"}, BadValue, "width"),
        ({"width": 0}, ModelError, "width = 0"),
        ({"extra": 0}, ModelError, "extra = 0"),
        ({"placement": "tail"}, UnknownName, "tail"),
        ({"name": "shallow_cnn", "shape": (1, 3, 3)}, ModelError, "3x3x1"),
        ({"name": "shallow_cnn", "widths": []}, ModelError, "widths"),
        ({"shape": (8, 8)}, ModelError, "(8, 8)"),
    ],
)
def test_what_cannot_be_built_is_named(change, kind, words):
    with pytest.raises(kind) as caught:
        made(**change)
    assert words in caught.value.message


def test_a_wrong_image_size_names_both():
    with pytest.raises(ModelError, match="model expects 28x28x1 images, got 8x8x1"):
        check_input(made(shape=(1, 28, 28)), (1, 8, 8))


def test_check_input_on_a_users_model_says_what_failed():
    with pytest.raises(ModelError, match="cannot take 8x8x1 images"):
        check_input(nn.Linear(3, 2), (1, 8, 8))
    with pytest.raises(ModelError, match=r"gives shape \(1, 1, 8, 8\)"):
        check_input(nn.Identity(), (1, 8, 8))
    with pytest.raises(ModelError, match="gives tuple"):
        check_input(_Pair(), (1, 8, 8))


def test_check_input_restores_a_mixed_mode_and_moves_no_statistics():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), nn.Flatten(), nn.Linear(64, 2))
    model[1].eval()
    assert check_input(model, (1, 8, 8)) == 2
    assert [module.training for module in model] == [True, False, True, True]
    assert model[0].num_batches_tracked.item() == 0
    assert check_input(model.double(), (1, 8, 8)) == 2


def test_building_for_placement_all_moves_no_statistics():
    model = made("resnet18", placement="all")
    moved = [value for name, value in model.state_dict().items() if "num_batches" in name]
    assert len(moved) == 20
    assert not any(moved)


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.0]), ([0.5], [1, 1]), ([], [])])
def test_unusable_normalisation_is_refused(mean, std):
    with pytest.raises(ModelError):
        wrap_normalised(nn.Flatten(), mean, std)


class _Pair(nn.Module):
    def forward(self, x):
        return x, x
