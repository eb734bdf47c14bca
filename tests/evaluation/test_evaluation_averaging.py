"""A random model seen through its average: a fixed function of each image alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from drelu_cli.attacks import ATTACKS
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.averaging import Averaged
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack

X = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Noisy(nn.Module):
    """A linear net on noisy inputs; counts its passes."""

    def __init__(self, noise):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.net = nn.Linear(16, 3).double()
        self.noise, self.passes = noise, 0

    def forward(self, x):
        self.passes += 1
        return self.net(self.noise(x).flatten(1))


def gaussian(x):
    return x + 0.3 * torch.randn_like(x)


def dropout(x):
    return functional.dropout(x, 0.5, training=True)


def from_numpy(x):
    # Reads the image's values, which vmap cannot follow.
    return x + 0.3 * torch.from_numpy(np.random.standard_normal(x.detach().numpy().shape))  # noqa: NPY002


NOISES = pytest.mark.parametrize("noise", [gaussian, dropout, from_numpy])


@NOISES
def test_the_same_images_give_the_same_logits(noise):
    model = Averaged(Noisy(noise))
    assert torch.equal(model(X), model(X))
    assert not torch.equal(Noisy(noise)(X), Noisy(noise)(X))


@NOISES
def test_an_image_does_not_depend_on_its_neighbours(noise):
    model = Averaged(Noisy(noise))
    whole = model(X)
    assert torch.allclose(model(X[[4, 1]]), whole[[4, 1]], rtol=0, atol=1e-12)
    assert torch.allclose(model(X[3:4]), whole[3:4], rtol=0, atol=1e-12)


def test_vectorised_draws_are_those_of_single_images():
    model = Averaged(Noisy(gaussian))
    single = torch.stack(
        [sum(model._seeded(image, draw) for draw in range(model.draws)) / 16 for image in X]
    )
    assert torch.allclose(model(X), single, rtol=0, atol=1e-12)


def test_it_is_the_mean_over_distinct_draws():
    noisy = Noisy(gaussian)
    drawn = torch.stack([Averaged(noisy)._draw(X, number) for number in range(16)])
    assert torch.allclose(Averaged(noisy)(X), drawn.mean(0))
    assert len({tuple(one.flatten().tolist()) for one in drawn}) == 16
    many = Averaged(noisy, draws=2000)(X)
    assert torch.allclose(many, noisy.net(X.flatten(1)), atol=0.06)


@NOISES
def test_gradients_flow_through_every_draw(noise):
    model = Averaged(Noisy(noise), draws=4)
    x = X.clone().requires_grad_()
    model(x)[:, 0].sum().backward()
    weight = model.model.net.weight[0].reshape(1, 4, 4)
    if noise is not dropout:
        assert torch.allclose(x.grad, weight.expand_as(x.grad))
    ratios = x.grad / weight
    # Dropout at one half keeps a pixel, doubled, in some of the four draws.
    assert set(ratios.round(decimals=6).flatten().tolist()) <= {0.0, 0.5, 1.0, 1.5, 2.0}
    assert ratios.any()


def test_global_random_state_is_put_back():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    Averaged(Noisy(gaussian))(X)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_error_of_the_model_is_its_own():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Averaged(Noisy(gaussian))(torch.rand(2, 1, 5, 5, dtype=torch.float64))


def test_an_attack_and_the_judge_see_the_same_function():
    model = Averaged(Noisy(gaussian)).eval()
    samples = Samples(torch.arange(6), X, model(X).argmax(1))
    bound, threat = ATTACKS.bind("pgd", steps=5), ThreatModel("linf", 0.05)
    together = run_attack(model, samples, bound, threat, seed=0).outcomes
    apart = [
        run_attack(model, samples.rows(torch.tensor([row])), bound, threat, seed=0).outcomes[0]
        for row in range(6)
    ]
    assert [one.state for one in together] == [one.state for one in apart]
