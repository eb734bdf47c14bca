"""Ball and box: every point inside, nearest points, directions of length one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drelu_cli.attacks import geometry
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream

SHAPES = [(7,), (1, 4, 4), (3, 5, 4), (2, 3, 2, 2)]


def inputs(shape, dtype, count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, *shape, generator=generator, dtype=torch.float64)
    x[::2] = x[::2].round()  # pixels at 0 and 1
    return x.to(dtype)


def assert_inside(points, x, threat):
    points, x = points.double(), x.double()
    assert points.min() >= 0
    assert points.max() <= 1
    delta = (points - x).flatten(1)
    size = delta.abs().amax(1) if threat.norm == "linf" else delta.norm(dim=1)
    assert size.max() <= threat.eps + 1e-6


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(["linf", "l2"]),
    st.sampled_from([0.0, 1e-7, 0.01, 8 / 255, 0.3, 1.5, 18.0]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 50),
)
def test_everything_ends_inside(shape, norm, eps, dtype, seed):
    threat = ThreatModel(norm, eps)
    x = inputs(shape, dtype, seed=seed)
    stream = Stream(seed, torch.arange(len(x)))
    wild = x + 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    for points in (
        geometry.project(wild, x, threat),
        geometry.random_in_ball(x, threat, stream),
        geometry.random_on_sphere(x, threat, stream),
    ):
        assert points.dtype == dtype
        assert_inside(points, x, threat)
        if dtype == torch.float64:
            # A point inside stays bitwise as it is; float32 cannot resolve small L2 balls so well.
            assert torch.equal(geometry.project(points, x, threat), points)
        assert torch.equal(points, x) or eps > 0


def test_large_float32_l2_ball_is_not_left():
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    for eps in (0.5, 18.0, 50.0):
        wild = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
        assert_inside(geometry.project(wild, x, ThreatModel("l2", eps)), x, ThreatModel("l2", eps))


def test_linf_projection_is_the_nearest_point():
    x = torch.tensor([[0.5, 0.05, 0.95]])
    found = geometry.project(torch.tensor([[0.9, -0.4, 2.0]]), x, ThreatModel("linf", 0.1))
    assert torch.allclose(found, torch.tensor([[0.6, 0.0, 1.0]]))


def test_l2_projection_is_radial():
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    found = geometry.project(x + torch.tensor([[0.3, 0.4]]), x, ThreatModel("l2", 0.05))
    expected = torch.tensor([[0.03, 0.04]], dtype=torch.float64)
    assert torch.allclose(found - x, expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_steepest_has_length_one_at_any_scale(norm, scale):
    gradient = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * scale
    gradient[2] = 0
    direction = geometry.steepest(gradient, norm)
    size = geometry.length(direction, norm)
    assert torch.allclose(size, torch.tensor([1.0, 1, 0, 1, 1]), atol=1e-6)
    assert (direction * gradient.sign() >= 0).all()


def test_distance():
    a, b = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 0.0], [0.0, -4.0]]])
    assert geometry.distance(a, b, "l2").item() == pytest.approx(5.0)
    assert geometry.distance(a, b, "linf").item() == 4.0


def test_random_in_ball_fills_the_ball():
    x = torch.full((2000, 2), 0.5, dtype=torch.float64)
    points = geometry.random_in_ball(x, ThreatModel("l2", 0.4), Stream(0, torch.arange(2000)))
    share = ((points - x).norm(dim=1) < 0.2).double().mean().item()
    # A quarter of the disc's area; four standard deviations.
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5


def test_random_points_follow_the_sample_not_the_batch():
    x = inputs((3, 3), torch.float64)
    threat = ThreatModel("linf", 0.2)
    together = geometry.random_in_ball(x, threat, Stream(5, torch.arange(6)))
    alone = geometry.random_in_ball(x[4:5], threat, Stream(5, torch.tensor([4])))
    assert torch.equal(together[4:5], alone)


def test_start_is_the_same_direction_at_every_radius():
    x = torch.full((3, 8), 0.5, dtype=torch.float64)
    stream = Stream(0, torch.arange(3))
    for start in (geometry.random_in_ball, geometry.random_on_sphere):
        small = start(x, ThreatModel("linf", 0.01), stream) - x
        large = start(x, ThreatModel("linf", 0.1), stream) - x
        assert torch.allclose(10 * small, large, atol=1e-12)
