import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drelu_cli.runtime.streams import Stream
from drelu_cli.training import SCHEMES
from drelu_cli.training.contract import regime_of
from drelu_cli.training.inner import linf_pgd

EPS = 0.1


@pytest.fixture
def net(request):
    """With batch norm, for all schemes but those that need bounds."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    bounds = name is not None and regime_of(SCHEMES.bind(name, **options_of(name))).bounds
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = nn.Identity() if bounds else nn.BatchNorm1d(32)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), norm, nn.ReLU(), nn.Linear(32, 4))


@pytest.fixture
def batch():
    stream = Stream(0, torch.arange(24), ("test",))
    return stream.uniform("x", (1, 4, 4)), stream.integers("y", (), high=4), stream


def options_of(name):
    return {"eps": EPS} if "eps" in SCHEMES.options_of(name) else {}


def bind(name):
    return SCHEMES.bind(name, **options_of(name))


@pytest.mark.parametrize("name", SCHEMES.builtin_names())
class TestContract:
    """What holds for every scheme."""

    def test_the_loss_is_finite_and_reaches_every_weight(self, name, net, batch):
        x, y, stream = batch
        loss = bind(name)(net, x, y, stream)
        assert loss.total.shape == ()
        loss.total.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
        assert 0 <= float(loss.terms["accuracy"]) <= 1
        assert all(not term.requires_grad for term in loss.terms.values())

    def test_it_is_repeatable_and_leaves_the_global_state(self, name, net, batch):
        x, y, stream = batch
        net.eval()
        before = torch.random.get_rng_state()
        first = bind(name)(net, x, y, stream).total
        second = bind(name)(net, x, y, stream).total
        assert torch.equal(first, second)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_modes_are_untouched(self, name, net, batch):
        x, y, stream = batch
        net.train()
        bind(name)(net, x, y, stream)
        assert all(module.training for module in net.modules())

    def test_it_works_without_gradients_outside(self, name, net, batch):
        x, y, stream = batch
        with torch.no_grad():
            assert torch.isfinite(bind(name)(net.eval(), x, y, stream).total)


@pytest.mark.parametrize("name", ["madry", "trades"])
def test_the_inner_loop_computes_no_weight_gradients(name, net, batch):
    """One gradient per weight and training step: the ten inner steps add none."""
    x, y, stream = batch
    counts = dict.fromkeys(range(len(list(net.parameters()))), 0)

    def counting(number):
        def hook(_):
            counts[number] += 1

        return hook

    for number, parameter in enumerate(net.parameters()):
        parameter.register_hook(counting(number))
    loss = bind(name)(net, x, y, stream)
    assert set(counts.values()) == {0}
    loss.total.backward()
    assert set(counts.values()) == {1}


def test_batch_norm_statistics_do_not_see_the_inner_steps(net, batch):
    x, _, stream = batch
    net.train()
    before = net[2].num_batches_tracked.clone()
    linf_pgd(net, x, stream, lambda logits: logits.sum(), eps=EPS, steps=3, rel_step=0.25)
    assert torch.equal(net[2].num_batches_tracked, before)


def test_the_inner_maximum_of_a_linear_model_is_the_corner(batch):
    """On a linear model with one-sided margin, PGD must end at x + eps * sign(w)."""
    x, _, stream = batch
    x = 0.25 + 0.5 * x
    weight = stream.rows(slice(0, 1)).normal("w", (1, 4, 4))
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(weight.flatten(1))
    points = linf_pgd(model, x, stream, lambda z: z.sum(), eps=EPS, steps=10, rel_step=0.25)
    assert torch.allclose(points, x + EPS * weight.sign(), atol=1e-6)


def test_points_stay_inside_ball_and_box(net, batch):
    x, y, stream = batch
    x = torch.where(x < 0.3, torch.zeros_like(x), x)
    points = linf_pgd(
        net, x, stream, lambda z: F.cross_entropy(z, y), eps=EPS, steps=5, rel_step=0.25
    )
    assert points.min() >= 0
    assert points.max() <= 1
    assert (points - x).abs().max() <= EPS + 1e-6


def test_trades_is_cross_entropy_plus_beta_divergence(net, batch):
    x, y, stream = batch
    net.eval()
    small = SCHEMES.bind("trades", eps=EPS, beta=1.0)(net, x, y, stream)
    large = SCHEMES.bind("trades", eps=EPS, beta=6.0)(net, x, y, stream)
    assert torch.allclose(large.total - small.total, 5.0 * small.terms["robust"], atol=1e-5)
    assert torch.allclose(small.terms["natural"], F.cross_entropy(net(x), y))
    none = SCHEMES.bind("trades", eps=0.0)(net, x, y, stream)
    assert float(none.terms["robust"]) == pytest.approx(0.0, abs=1e-6)
