import math

import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.caps import learnable_caps
from drelu_cli.certify.interval import ball, interval_bounds
from drelu_cli.certify.sensitivity import (
    WIDTH_FLOOR,
    log_widths,
    mean_log_width,
    output_box,
    require_bounds,
    sensitivity,
)
from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.models.build import build
from drelu_cli.runtime.streams import Stream, seeded_initialisation

EPS = 0.1


def net(name="dense", activation="drelu", **options):
    sizes = {"dense": {"width": 12}, "shallow_cnn": {"widths": (3, 4)}}[name]
    with seeded_initialisation("test", 0):
        made = build(
            name,
            shape=(1, 6, 6),
            classes=4,
            activation=ACTIVATIONS.bind(activation, **options),
            placement="all",
            mean=(0.4,),
            std=(0.3,),
            options={**sizes, "extra": 8},
        )
    for cap in learnable_caps(made):  # so that some units sit below, some beyond their cap
        cap.data = 0.05 + 0.3 * torch.arange(len(cap)) / len(cap)
    return made


def images(count=5, dtype=torch.float64):
    return Stream(0, torch.arange(count), ("x",)).uniform("x", (1, 6, 6), dtype=dtype)


BOUNDED = [("dense", "drelu"), ("dense", "relu"), ("dense", "srelu"), ("dense", "tanh"),
           ("dense", "silu"), ("dense", "qrelu"), ("shallow_cnn", "drelu"),
           ("shallow_cnn", "softplus")]  # fmt: skip


@pytest.mark.parametrize(("name", "activation"), BOUNDED)
def test_the_box_contains_what_sampled_inputs_reach(name, activation):
    model, x = net(name, activation).double(), images()
    low, high = output_box(model, x, EPS)
    assert low.shape == high.shape == (5, 4)
    for draw in range(50):
        signs = Stream(draw, torch.arange(5), ("s",)).signs("s", (1, 6, 6), dtype=x.dtype)
        point = (x + EPS * signs).clamp(0, 1)
        with torch.no_grad():
            logits = model(point)
        assert bool(((logits >= low - 1e-9) & (logits <= high + 1e-9)).all())


@pytest.mark.parametrize("name", ["dense", "shallow_cnn"])
def test_in_float64_it_is_the_box_of_the_proof(name):
    model, x = net(name).double(), images()
    proof = interval_bounds(model, *ball(x, EPS))
    for found, expected in zip(output_box(model, x, EPS), proof, strict=True):
        assert torch.equal(found, expected)


def test_the_box_keeps_the_dtype_of_the_images():
    low, high = output_box(net(), images(dtype=torch.float32), EPS)
    assert low.dtype == high.dtype == torch.float32


@pytest.mark.parametrize("name", ["dense", "shallow_cnn"])
def test_gradients_to_weights_and_caps_match_finite_differences(name):
    model, x = net(name).double(), images(3)
    mean_log_width(model, x, EPS).backward()
    parameters = dict(model.named_parameters())
    assert any("cap" in key and parameter.grad.abs().sum() > 0
               for key, parameter in parameters.items())  # fmt: skip
    for key, parameter in parameters.items():
        for place in (0, parameter.numel() // 2, parameter.numel() - 1):
            slope = float(parameter.grad.flatten()[place])
            assert slope == pytest.approx(_difference(model, parameter, place, x), abs=1e-6), key


def _difference(model, parameter, place, x, step=1e-6):
    flat = parameter.data.view(-1)
    values = []
    for sign in (1, -1):
        flat[place] += sign * step
        with torch.no_grad():
            values.append(float(mean_log_width(model, x, EPS)))
        flat[place] -= sign * step
    return (values[0] - values[1]) / (2 * step)


def test_it_grows_with_eps():
    model, x = net(), images(dtype=torch.float32)
    found = [sensitivity(model, x, eps).mean_log_width for eps in (0.01, 0.05, 0.1, 0.3)]
    assert found == sorted(found)
    assert len(set(found)) == 4


def test_the_log_volume_is_the_sum_over_logits():
    model, x = net(), images()
    found = sensitivity(model.double(), x, EPS)
    with torch.no_grad():
        low, high = output_box(model, x, EPS)
    volumes = (high - low).prod(dim=1).log()
    assert found.log_volume == pytest.approx(float(volumes.mean()), rel=1e-9)
    assert found.mean_log_width == pytest.approx(found.log_volume / 4)
    assert found.as_mapping() == {
        "eps": EPS, "samples": 5,
        "mean_log_width": found.mean_log_width, "log_volume": found.log_volume,
    }  # fmt: skip


def test_a_linear_net_has_its_widths_in_closed_form():
    layer = nn.Linear(36, 4)
    model = nn.Sequential(nn.Flatten(), layer).double()
    x = torch.full((2, 1, 6, 6), 0.5, dtype=torch.float64)  # the box does not cut the ball
    expected = (2 * EPS * layer.weight.abs().sum(dim=1)).log()
    torch.testing.assert_close(log_widths(output_box(model, x, EPS)), expected.expand(2, 4))


def test_a_net_of_constant_outputs_has_the_floor_and_no_gradient():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    nn.init.zeros_(model[1].weight)
    found = sensitivity(model, images(dtype=torch.float32), EPS)
    assert found.mean_log_width == pytest.approx(math.log(WIDTH_FLOOR), rel=1e-6)
    mean_log_width(model, images(dtype=torch.float32), EPS).backward()
    assert torch.isfinite(model[1].weight.grad).all()


def test_what_has_no_bounds_is_refused_by_name():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.BatchNorm1d(4))
    with pytest.raises(ModelError, match="scheme sensitivity needs interval bounds.*BatchNorm1d"):
        require_bounds(model, images(1))


@pytest.mark.parametrize(("x", "eps"), [(images() + 2, EPS), (images(), -0.1), (images(0), EPS)])
def test_bad_input_is_refused(x, eps):
    with pytest.raises(BadValue):
        sensitivity(net(), x, eps)
