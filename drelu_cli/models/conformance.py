"""What every architecture must do, as functions that a third party's tests can call.

Each takes a function that builds the network anew and raises AssertionError where the contract
is broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation
from drelu_cli.core.errors import ModelError
from drelu_cli.models.build import check_input
from drelu_cli.models.checkpoints import load_into, read_weights, save_weights, weights_digest
from drelu_cli.models.contract import Normalize, Shape
from drelu_cli.runtime.streams import Stream, seeded_initialisation

Builder = Callable[[], nn.Module]


def check_model(builder: Builder, shape: Shape, classes: int, folder: Path) -> None:
    """All checks; `folder` takes a checkpoint."""
    check_logits(builder, shape, classes)
    check_gradients(builder, shape)
    check_initialisation(builder)
    check_call_sites(builder, shape)
    check_wrong_size(builder, shape)
    check_checkpoint(builder, shape, folder)


def seeded(builder: Builder, seed: int = 0) -> nn.Module:
    """A network whose weights come from `seed`."""
    with seeded_initialisation("conformance", seed):
        return builder()


def check_logits(builder: Builder, shape: Shape, classes: int) -> None:
    """Training mode after building; finite, deterministic (N, classes) logits; a sample's own."""
    model = seeded(builder)
    assert model.training, "a new network is not in training mode"
    assert isinstance(next(iter(model.children())), Normalize), "normalisation is not the first"
    assert check_input(model, shape) == classes, "not one logit per class"
    model.eval().double()
    images = blanks(shape, 3).double()
    logits = model(images)
    assert bool(logits.isfinite().all()), "logits are not finite"
    assert torch.equal(logits, model(images)), "the forward pass is random"
    alone = torch.cat([model(images[index : index + 1]) for index in range(3)])
    torch.testing.assert_close(alone, logits, msg="a sample's logits depend on its batch")


def check_gradients(builder: Builder, shape: Shape) -> None:
    """A finite gradient reaches the input, and every parameter in training mode."""
    model = seeded(builder)
    images = blanks(shape, 3).requires_grad_()
    loss = nn.functional.cross_entropy(model(images), torch.arange(3) % 2)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, [images, *parameters.values()], allow_unused=True)
    for name, gradient in zip(("input", *parameters), gradients, strict=True):
        assert gradient is not None, f"no gradient reaches {name}"
        assert bool(gradient.isfinite().all()), f"the gradient of {name} is not finite"
    assert bool((gradients[0] != 0).any()), "the gradient of the input is zero"


def check_initialisation(builder: Builder) -> None:
    """Weights come from torch's generator alone: equal for equal seeds, different for others."""
    digest = weights_digest(seeded(builder))
    assert digest == weights_digest(seeded(builder)), "equal seeds give different weights"
    assert digest != weights_digest(seeded(builder, 1)), "the seed does not change the weights"


def check_call_sites(builder: Builder, shape: Shape) -> None:
    """Every activation is called exactly once per forward pass: one module per call site."""
    model = seeded(builder).eval()
    activations = [module for module in model.modules() if isinstance(module, Activation)]
    calls: Counter[int] = Counter()
    for module in activations:
        module.register_forward_hook(lambda called, _, __: calls.update([id(called)]))
    model(blanks(shape, 2))
    assert activations, "the network has no activation"
    assert [calls[id(module)] for module in activations] == [1] * len(activations), (
        "an activation is shared by several call sites, or unused"
    )


def check_wrong_size(builder: Builder, shape: Shape) -> None:
    """Images of another size are refused, and train/eval mode is left alone."""
    model = seeded(builder)
    try:
        check_input(model, (shape[0], shape[1] + 1, shape[2]))
    except ModelError:
        assert all(module.training for module in model.modules()), "a refusal changed the mode"
    else:
        raise AssertionError("images of the wrong size are accepted")


def check_checkpoint(builder: Builder, shape: Shape, folder: Path) -> None:
    """A network built anew and loaded gives the same logits, bit for bit."""
    model = seeded(builder).eval()
    path = folder / "weights.safetensors"
    digest = save_weights(path, model, metadata={})
    state, _ = read_weights(path)
    other = seeded(builder, 1).eval()
    load_into(other, state, where=str(path))
    assert weights_digest(other) == digest, "weights change on the way through a checkpoint"
    images = blanks(shape, 2)
    assert torch.equal(model(images), other(images)), "a reloaded network differs"


def blanks(shape: Shape, count: int) -> Tensor:
    """(count, C, H, W) random images in [0, 1]."""
    return Stream(0, torch.arange(count)).uniform("images", shape)
