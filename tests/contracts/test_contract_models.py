import pytest
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.plain import relu
from drelu_cli.core.errors import ModelError
from drelu_cli.models import MODELS
from drelu_cli.models import conformance as shipped
from drelu_cli.models.build import build

PLACEMENTS = ("head", "stem", "all")
SHAPES = {"grey": (1, 8, 8), "colour": (3, 12, 10)}
# Building these ten times takes seconds.
BIG = ("resnet50", "resnet101", "mobilenet_v2", "inception_v3")
SMALL = [name for name in MODELS.builtin_names() if name not in BIG]


def builder(name, placement, shape, activation="drelu", classes=4, **options):
    channels = shape[0]
    return lambda: build(
        name,
        shape=shape,
        classes=classes,
        activation=ACTIVATIONS.bind(activation),
        placement=placement,
        mean=[0.4] * channels,
        std=[0.3] * channels,
        options=options,
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", SMALL)
def test_every_registered_model_keeps_the_contract(name, placement, shape, tmp_path):
    shipped.check_model(builder(name, placement, shape), shape, 4, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "placement", "shape"),
    [
        *((name, "head", (3, 32, 32)) for name in BIG),
        *((name, placement, (3, 12, 10)) for name in BIG for placement in ("stem", "all")
          if name != "resnet101"),  # resnet50's code, twice as long
        *((name, "head", shape) for name in ("mobilenet_v2", "inception_v3")
          for shape in ((1, 28, 28), (3, 64, 64))),
    ],
)  # fmt: skip
def test_big_models_keep_the_contract(name, placement, shape, tmp_path):
    shipped.check_model(builder(name, placement, shape), shape, 4, tmp_path)


@pytest.mark.parametrize("activation", ACTIVATIONS.builtin_names())
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_activation_fits_every_placement(placement, activation, tmp_path):
    shape = (1, 8, 8)
    shipped.check_model(builder("shallow_cnn", placement, shape, activation), shape, 4, tmp_path)


class _Broken(nn.Module):
    """A network with one fault, chosen by name."""

    def __init__(self, fault):
        super().__init__()
        self.normalize = shipped.Normalize([0.0], [1.0])
        self.dense = nn.Linear(16, 3)
        self.relu = relu(3)
        self.unused = nn.Parameter(self.dense.weight.new_zeros(1))
        self.fault = fault
        if fault != "unused":
            del self.unused
        if fault == "evaluation mode":
            self.eval()

    def forward(self, x):
        if self.fault != "any size" and x.shape[1:] != (1, 4, 4):
            raise ModelError("wrong size")
        x = self.dense(self.normalize(x).flatten(1)[:, :16])
        if self.fault == "batch":
            x = x - x.mean(0)
        x = self.relu(x) + 0.1 * x
        return self.relu(x) + x if self.fault == "shared" else x


FAULTS = {
    "evaluation mode": "training mode",
    "any size": "wrong size are accepted",
    "batch": "depend on its batch",
    "shared": "shared by several",
    "unused": "no gradient reaches unused",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checks_catch_a_broken_model(fault, tmp_path):
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        shipped.check_model(lambda: _Broken(fault), (1, 4, 4), 3, tmp_path)


def test_the_checks_accept_the_same_model_without_a_fault(tmp_path):
    shipped.check_model(lambda: _Broken("none"), (1, 4, 4), 3, tmp_path)
