"""Gradients in bfloat16 or TF32: another direction, the same logits and the same judgement."""

import pytest
import torch
from torch import nn

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.reduced import ReducedGradients
from drelu_cli.core.errors import BadValue, DeviceError
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.precision import float32_arithmetic
from drelu_cli.runtime.streams import Stream

THREAT = ThreatModel("linf", 0.05)


@pytest.fixture
def net():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 48), nn.ReLU(), nn.Linear(48, 5))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 3
    return model.eval()


@pytest.fixture
def images():
    return torch.rand(80, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def gradient(model, x):
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    return logits.detach(), torch.autograd.grad(logits[:, 0].sum(), leaf)[0]


def test_logits_are_exact_and_gradients_are_rounded(net, images):
    logits, exact = gradient(net, images)
    seen, rounded = gradient(ReducedGradients(net, "bf16"), images)
    assert torch.equal(seen, logits)
    assert not torch.equal(rounded, exact)
    assert rounded.dtype == torch.float32
    # bfloat16 has 8 bits: a few percent over three layers, not another direction.
    assert torch.nn.functional.cosine_similarity(rounded.flatten(), exact.flatten(), 0) > 0.999


def test_the_attack_finds_as_much_and_every_success_is_one_in_float32(net, images):
    with torch.no_grad():
        samples = Samples(torch.arange(80), images, net(images).argmax(1))
    left = {}
    for precision in ("own", "bf16"):
        bound = bind_attack("pgd", precision=precision)
        judged = run_attack(net, samples, bound, THREAT, seed=0)
        left[precision] = sum(one.state is State.ROBUST for one in judged.outcomes)
        broken = torch.tensor([one.state is State.BROKEN for one in judged.outcomes])
        with torch.no_grad():
            assert torch.equal(net(judged.x_adv).argmax(1) != samples.y, broken)
    assert 10 < left["own"] < 70
    assert abs(left["bf16"] - left["own"]) <= 2


def test_it_stacks_with_a_surrogate(net, images):
    bound = bind_attack("pgd", precision="bf16", backward="generic", steps=3)
    stream = Stream(0, torch.arange(80))
    found = bound(net, images, net(images).argmax(1), THREAT, stream)
    assert found.x_adv.dtype == torch.float32


def test_tf32_needs_cuda_and_unknown_precisions_are_named(net, images):
    bound = bind_attack("pgd", precision="tf32")
    with pytest.raises(DeviceError, match="tf32 needs a CUDA device, not cpu"):
        bound(net, images, net(images).argmax(1), THREAT, Stream(0, torch.arange(80)))
    with pytest.raises(BadValue, match="'own', 'float64', 'tf32' or 'bf16'"):
        bind_attack("pgd", precision="fp8")


class Watching(nn.Module):
    """Notes how exact float32 is while it runs."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, set()

    def forward(self, x):
        cuda, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        self.seen.add((cuda, cudnn))
        return self.net(x)


def test_evaluations_run_in_full_float32_and_the_users_flags_come_back(net, images):
    watching = Watching(net)
    with float32_arithmetic(tf32=True):
        samples = Samples(torch.arange(80), images, net(images).argmax(1))
        run_attack(watching, samples, bind_attack("fgsm"), THREAT, seed=0)
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert flags == (True, True)
    assert watching.seen == {(False, False)}


@pytest.mark.gpu
def test_tf32_rounds_gradients_only(net, images):
    net, images = net.cuda(), images.cuda()
    logits, _ = gradient(net, images)
    seen, _ = gradient(ReducedGradients(net, "tf32"), images)
    assert torch.equal(seen, logits)
