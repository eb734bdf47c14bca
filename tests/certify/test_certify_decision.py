"""What callers see: decisions, errors, and that nothing else changes."""

import certify_nets as nets
import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.capped import SReLU
from drelu_cli.certify import crown
from drelu_cli.certify.crown import crown_margins
from drelu_cli.certify.decision import MARGIN, certified
from drelu_cli.certify.interval import ball, interval_bounds
from drelu_cli.certify.network import layers_of
from drelu_cli.core.errors import BadValue, ModelError, UnknownName


@pytest.fixture
def model():
    return nets.built("dense", ACTIVATIONS.bind("drelu"), "head", width=16, depth=2, extra=10)


def test_decisions_follow_the_margins(model):
    x = nets.images(40)
    y = model(x).argmax(1)
    for eps in (0.0, 0.002, 0.01, 0.05):
        found = certified(model, x, y, eps)
        direct = crown_margins(model, x, y, eps)
        assert (found >= (direct > MARGIN).all(1)).all()
        by_intervals = certified(model, x, y, eps, method="interval")
        assert (found >= by_intervals).all()
    assert 0 < found.sum() < 40 or not found.any()


def test_more_is_certified_by_crown_than_by_intervals(model):
    x = nets.images(40)
    y = model(x).argmax(1)
    counts = {
        method: [
            int(certified(model, x, y, eps, method=method).sum())
            for eps in (0.0, 0.005, 0.01, 0.02)
        ]
        for method in ("interval", "crown")
    }
    assert counts["interval"][0] == counts["crown"][0] == 40
    assert counts["interval"] == sorted(counts["interval"], reverse=True)
    assert counts["crown"] == sorted(counts["crown"], reverse=True)
    assert counts["crown"][2] > counts["interval"][2]


def test_a_wrong_image_is_never_certified(model):
    x = nets.images(20)
    y = model(x).argmin(1)
    assert not certified(model, x, y, 0.0).any()


def test_a_margin_below_the_tolerance_is_no_proof():
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, MARGIN / 2]))
    x, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([1])
    assert not certified(model, x, y, 0.1).any()
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([0.0, 2 * MARGIN]))
    assert certified(model, x, y, 0.1).all()


@pytest.mark.parametrize("size", [1, 1 << 12])
@pytest.mark.parametrize("kind", nets.LAYER_KINDS)
def test_a_sample_does_not_depend_on_its_neighbours_or_on_chunks(kind, size, monkeypatch):
    model, x = nets.LAYER_KINDS[kind](), nets.images(5)
    y = torch.tensor([0, 1, 2, 3, 0])
    together = crown_margins(model, x, y, 0.1)
    monkeypatch.setattr(crown, "_IMAGE_NUMBERS", size)
    monkeypatch.setattr(crown, "_WEIGHT_NUMBERS", size)
    order = torch.tensor([3, 0, 4, 1, 2])
    mixed = crown_margins(model, x[order], y[order], 0.1)
    torch.testing.assert_close(mixed, together[order], rtol=1e-10, atol=1e-10)


def test_the_model_is_left_as_it_was():
    model = nets.built("shallow_cnn", ACTIVATIONS.bind("drelu"), "head", widths=(3,), extra=6)
    model = model.float().train()
    model.net.head.eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = nets.images(2).float()
    random = torch.random.get_rng_state()
    certified(model, x, torch.tensor([0, 1]), 0.01)
    low, high = interval_bounds(model, x, x)
    assert low.dtype == torch.float32
    assert [module.training for module in model.modules()] == modes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])
        assert tensor.dtype == state[name].dtype
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert high.requires_grad


def test_bounds_of_a_float32_model_are_those_of_its_weights():
    model = nets.built("dense", ACTIVATIONS.bind("drelu"), "head", width=8, depth=1, extra=6)
    x, y = nets.images(), torch.tensor([0, 1, 2])
    single = model.float()
    rounded = crown_margins(single, x, y, 0.05)
    assert rounded.dtype == torch.float64
    assert torch.equal(rounded, crown_margins(single.double(), x, y, 0.05))


@pytest.mark.parametrize("name", nets.ACTIVATION_NAMES)
def test_interval_bounds_carry_gradients_to_all_weights(name):
    model = nets.built("dense", ACTIVATIONS.bind(name), "head", width=8, depth=1, extra=6).float()
    low, high = interval_bounds(model, *(end.float() for end in ball(nets.images(), 0.05)))
    gradients = torch.autograd.grad((high - low).sum(), list(model.parameters()), allow_unused=True)
    named = dict(zip(dict(model.named_parameters()), gradients, strict=True))
    # The width of the box does not depend on the last bias.
    assert all(g is not None and g.isfinite().all() for g in named.values())
    assert all(g.abs().sum() > 0 for n, g in named.items() if not n.endswith("output.bias"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_prove_nothing(model, value):
    x = nets.images(3)
    y = model(x).argmax(1)
    with torch.no_grad():
        model.net.dense0.weight[3, 5] = value
    for method in ("interval", "crown"):
        assert not certified(model, x, y, 0.01, method=method).any()


def test_no_image():
    model = nets.LAYER_KINDS["linear"]()
    x, y = nets.images(0), torch.zeros(0, dtype=torch.int64)
    assert certified(model, x, y, 0.1).shape == (0,)
    with pytest.raises(BadValue, match="no image"):
        crown_margins(model, x, y, 0.1)
    with pytest.raises(BadValue, match="no image"):
        interval_bounds(model, x, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -0.1}, "eps -0.1"),
        ({"eps": float("nan")}, "eps nan"),
        ({"eps": float("inf")}, "eps inf"),
        ({"x": nets.images() + 0.1}, "outside"),
        ({"x": nets.images() * torch.nan}, "outside"),
        ({"y": torch.tensor([0, 1, 4])}, "4 classes"),
        ({"y": torch.tensor([0, -1, 2])}, "4 classes"),
        ({"y": torch.tensor([0, 1])}, "2 labels for 3 images"),
    ],
)
def test_unusable_arguments(model, change, message):
    given = {"x": nets.images(), "y": torch.tensor([0, 1, 2]), "eps": 0.1} | change
    for function in (certified, crown_margins):
        with pytest.raises(BadValue, match=message):
            function(model, **given)


def test_unknown_method(model):
    with pytest.raises(UnknownName, match="crwon"):
        certified(model, nets.images(), torch.tensor([0, 1, 2]), 0.1, method="crwon")


def test_no_box(model):
    x = nets.images()
    with pytest.raises(BadValue, match="no box"):
        interval_bounds(model, x, x - 0.1)
    with pytest.raises(BadValue, match="no box"):
        interval_bounds(model, x, x[:1])


class Sly(nn.Linear):
    """Looks like a linear layer."""

    def forward(self, x):
        return super().forward(x).sin()


class Skip(nn.Sequential):
    """A residual connection in a container."""

    def forward(self, x):
        return x + super().forward(x)


class Gate(nn.Sequential):
    """Adds something where no test image is: a comparison at points does not see it."""

    def forward(self, x):
        return super().forward(x) + 50 * torch.relu(x[:, :1].flatten(1).amax(1, True) - 0.999)


class LeakyCap(SReLU):
    """A capped ReLU that is none."""

    def forward(self, x):
        return torch.relu(x)


def around(layer):
    return nn.Sequential(nn.Flatten(), nn.Linear(84, 84), layer, nn.Linear(84, 4)).double()


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.GELU(), "model.2, a GELU"),
        (nn.LeakyReLU(), "model.2, a LeakyReLU"),
        (Sly(84, 84), "model.2, a Sly"),
        (nn.Sequential(nn.ReLU(), nn.Softmax(1)), "model.2.1, a Softmax"),
        (nn.Flatten(0, 0), r"model.2, Flatten\(start_dim=0"),
        (Skip(nn.Linear(84, 84)), "model.2, a Skip"),
    ],
)
def test_what_has_no_bounds_is_named(layer, named):
    with pytest.raises(ModelError, match=named):
        certified(around(layer), nets.images(), torch.tensor([0, 1, 2]), 0.1)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(2, 2, 2, padding="same"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Linear(6, 6),
    ],
)
def test_settings_without_bounds_are_named(layer):
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(4)).double()
    with torch.no_grad():
        model(nets.images())
    with pytest.raises(ModelError, match=r"model\.0, "):
        certified(model, nets.images(), torch.tensor([0, 1, 2]), 0.1)


def test_a_subclass_of_a_known_activation_is_bounded_by_itself():
    """LeakyCap is no clamp: it gets its own `bounds`, and those are sound."""
    model, x = around(LeakyCap(84, 0.1)), nets.images()
    y = torch.tensor([0, 1, 2])
    relu = around(nn.ReLU())
    relu.load_state_dict(model.state_dict())
    assert torch.equal(model(x), relu(x))
    assert (crown_margins(model, x, y, 0.1) <= crown_margins(relu, x, y, 0.1) + 1e-9).all()


def test_a_hook_is_noticed(model):
    model.net.head.register_forward_hook(lambda module, given, out: 2 * out)
    with pytest.raises(ModelError, match="a hook or a replaced forward"):
        certified(model, nets.images(), torch.tensor([0, 1, 2]), 0.1)


def test_residual_networks_are_refused_by_name():
    model = nets.built("resnet18", ACTIVATIONS.bind("relu"), "head", extra=4)
    with pytest.raises(ModelError, match=r"model\.net\.0, a GraphModule"):
        certified(model, nets.images(), torch.tensor([0, 1, 2]), 0.1)


def test_a_container_with_a_forward_of_its_own_is_never_taken_apart():
    """Not even one that computes the same at every point that was compared."""
    plain = around(nn.ReLU())
    gate = Gate(*plain)
    x = 0.5 * torch.rand(3, 1, 7, 12, dtype=torch.float64)
    assert torch.equal(gate(x), plain(x))
    assert [type(layer).__name__ for layer in layers_of(plain, x)]
    with pytest.raises(ModelError, match="a Gate"):
        layers_of(gate, x)


@pytest.mark.parametrize("place", ["model", "layer", "forward"])
def test_a_hook_or_a_replaced_forward_is_refused(place):
    model = around(nn.ReLU())
    x = torch.rand(2, 1, 7, 12, dtype=torch.float64)
    if place == "forward":
        model[1].forward = lambda point: point
    else:
        watched = model if place == "model" else model[1]
        watched.register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="hook or a replaced forward"):
        layers_of(model, x)
