"""torchvision's networks, fitted to images of 28, 32 and 64 pixels."""

import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.capped import DReLU
from drelu_cli.activations.contract import Activation
from drelu_cli.activations.plain import ReLU
from drelu_cli.core.errors import ModelError
from drelu_cli.models.build import build, check_input
from drelu_cli.models.checkpoints import weights_digest
from drelu_cli.models.placement import OwnReLU6
from drelu_cli.runtime.streams import seeded_initialisation
from drelu_cli.runtime.vision import import_torchvision


def made(name, *, shape=(1, 8, 8), placement="head", activation="drelu"):
    with seeded_initialisation(0):
        return build(
            name,
            shape=shape,
            classes=5,
            activation=ACTIVATIONS.bind(activation),
            placement=placement,
            mean=[0.5] * shape[0],
            std=[0.25] * shape[0],
            options={},
        )


def sites(model):
    """Kind and channels of every activation, in the order they are called."""
    called = []
    for module in model.modules():
        if isinstance(module, Activation):
            module.register_forward_hook(lambda m, _, __: called.append((type(m), m.channels)))
    model.eval()(torch.zeros(2, *model.shape))
    return called


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


BIG = slow("resnet50", "resnet101", "inception_v3")
# Kind of the body's own activations, and how many there are (ReLU calls in torchvision's code).
BODIES = {
    "mobilenet_v2": (OwnReLU6, 35),
    "resnet50": (ReLU, 49),
    "resnet101": (ReLU, 100),
    "inception_v3": (ReLU, 94),
}


@pytest.mark.parametrize("name", ["mobilenet_v2", *BIG])
def test_placement_decides_which_call_sites_get_the_activation(name):
    kind, count = BODIES[name]
    head = sites(made(name))
    widths = [width for _, width in head[:-1]]
    assert head == [*((kind, width) for width in widths), (DReLU, 128)]
    assert len(widths) == count
    stem = sites(made(name, placement="stem"))
    assert stem == [(DReLU, 16), *((kind, width) for width in widths), (ReLU, 128)]
    everywhere = sites(made(name, placement="all"))
    assert everywhere == [(DReLU, width) for width in [*widths, 128]]


def test_placement_all_replaces_relu6_by_the_activation_and_leaves_the_weights_alone():
    head = made("mobilenet_v2", activation="relu6").eval()
    everywhere = made("mobilenet_v2", activation="relu6", placement="all").eval()
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert weights_digest(head) == weights_digest(everywhere)
    assert torch.equal(head(x), everywhere(x))
    plain = made("mobilenet_v2", activation="relu", placement="all").eval()
    assert not any(isinstance(module, OwnReLU6) for module in plain.modules())


@pytest.mark.parametrize("name", ["mobilenet_v2", *BIG])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_images_of_28_to_64_pixels(name, shape):
    assert check_input(made(name, shape=shape), shape) == 5


@pytest.mark.parametrize("name", slow("mobilenet_v2", "resnet50", "resnet101", "inception_v3"))
@pytest.mark.parametrize(
    ("placement", "shape"),
    [("stem", (1, 28, 28)), ("all", (1, 28, 28)), ("all", (3, 32, 32)), ("stem", (3, 64, 64))],
)
def test_the_other_placements_at_28_to_64_pixels(name, placement, shape):
    model = made(name, shape=shape, placement=placement)
    assert check_input(model, shape) == 5
    capped = [width for kind, width in sites(model) if kind is DReLU]
    assert len(capped) == (1 if placement == "stem" else BODIES[name][1] + 1)


def _mobilenet(net):
    net.classifier = nn.Identity()


def _resnet(net):
    net.fc = nn.Identity()


def _inception(net):
    net.dropout, net.fc = nn.Identity(), nn.Identity()


OWN = {
    "mobilenet_v2": ({}, _mobilenet),
    "resnet50": ({}, _resnet),
    "resnet101": ({}, _resnet),
    "inception_v3": ({"aux_logits": False, "init_weights": False}, _inception),
}


@pytest.mark.parametrize("name", ["mobilenet_v2", *BIG])
def test_from_128_pixels_on_the_body_is_torchvisions_network(name):
    """Same weights, same features: tracing and an activation per site change nothing."""
    body = made(name, shape=(3, 128, 128)).eval().net[0]
    options, without_output = OWN[name]
    plain = getattr(import_torchvision().models, name)(weights=None, **options)
    without_output(plain)
    plain.load_state_dict(body.state_dict())
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(x), body(x))


def feature_sides(name, side, *layers):
    """Height of the outputs of some layers of the body."""
    model = made(name, shape=(1, side, side)).eval()
    sides = []
    for layer in layers:
        model.net[0].get_submodule(layer).register_forward_hook(
            lambda _, __, y: sides.append(y.shape[-1])
        )
    model(torch.zeros(1, 1, side, side))
    return sides


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, [8, 1]), (28, [28, 4]), (32, [32, 4]), (64, [32, 4]), (128, [64, 4])],
)
def test_mobilenet_keeps_what_small_images_have(side, expected):
    assert feature_sides("mobilenet_v2", side, "features.0.0", "features.18.0") == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "expected"),
    [(7, [7, 3, 1]), (28, [14, 6, 2]), (32, [16, 7, 3]), (64, [16, 7, 3]), (299, [35, 17, 8])],
)
def test_inception_keeps_what_small_images_have(side, expected):
    layers = ("maxpool2", "Mixed_6a.branch3x3.conv", "Mixed_7c.branch1x1.conv")
    assert feature_sides("inception_v3", side, *layers) == expected


def test_images_too_small_for_inception_are_refused():
    with pytest.raises(ModelError, match="inception_v3 cannot take 6x9x1 images"):
        made("inception_v3", shape=(1, 6, 9))


@pytest.mark.parametrize("name", ["mobilenet_v2", *slow("inception_v3")])
def test_a_pass_in_training_mode_draws_no_random_numbers(name):
    """Dropout would draw from torch's global generator: a resumed training would differ."""
    model = made(name, shape=(3, 24, 24))
    x = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert model.training
    assert torch.equal(model(x), model(x))


def test_resnet18_has_the_weights_it_has_always_had():
    """Stored trainings keep their keys: the order of the draws must stay as it is."""
    with seeded_initialisation(0):
        net = import_torchvision().models.resnet18(weights=None)
        net.conv1 = nn.Conv2d(1, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        extra, output = nn.Linear(512, 128), nn.Linear(128, 5)
    net.fc = nn.Identity()
    expected = {f"net.0.{name}": tensor for name, tensor in net.state_dict().items()}
    for name, layer in (("extra", extra), ("output", output)):
        expected.update({f"net.1.{name}.{k}": v for k, v in layer.state_dict().items()})
    found = made("resnet18", activation="relu").state_dict()
    assert weights_digest(expected) == weights_digest(
        {name: tensor for name, tensor in found.items() if name.startswith("net.")}
    )
