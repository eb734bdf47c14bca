"""Forward and backward passes to the input only; parameters keep their gradients and flags.

On a CPU, nets with convolutions get their points in slices: what they hold of 512 or more images
leaves the caches, and the allocator hands such blocks back to the system and fetches them again.
On the shallow CNN (28x28) a forward and backward pass then takes 0.6 of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.attacks.layer_steps import Step
from drelu_cli.attacks.layerwise import back_through, logits_through, steps_of, through
from drelu_cli.attacks.losses import cross_entropy, cross_entropy_and_gradient

# Height x width of the images in a slice, all together: 127 of 28x28, 97 of 32x32. Measured on
# the shallow CNN: 64 to 256 images are within 5 % of each other, 512 take 1.7 times as long each.
_PIXELS = 100_000

Loss = Callable[[Tensor, Tensor], Tensor]
"""logits (n, K), labels (n,) -> (n,), larger = more adversarial."""


@dataclass(frozen=True)
class Pass:
    """What one pass through the model saw at n points.

    Attributes:
        loss: (n,); infinite where some logit is not finite (that sample is misclassified).
        wrong: (n,) bool, misclassified.
        gradient: (n, ...) of the loss with respect to the points; entries that are not finite
            are 0; all 0 where no gradient was asked for.
    """

    loss: Tensor
    wrong: Tensor
    gradient: Tensor


def forward(model: nn.Module, points: Tensor, y: Tensor, loss: Loss) -> Pass:
    """One forward pass without a graph."""
    with torch.no_grad():
        logits = logits_at(model, points)
        return _seen(logits, loss(logits, y), y, points.new_zeros(()).expand_as(points))


def logits_at(model: nn.Module, points: Tensor) -> Tensor:
    """(n, K) logits of one forward pass without a graph."""
    with torch.no_grad():
        steps = steps_of(model, points)
        call = model if steps is None else partial(logits_through, steps)
        parts = _slices(model, points)
        return call(points) if len(parts) == 1 else torch.cat([call(points[p]) for p in parts])


def forward_backward(model: nn.Module, points: Tensor, y: Tensor, loss: Loss) -> Pass:
    """One forward and one backward pass."""
    steps = steps_of(model, points)
    look = partial(_through, model) if steps is None else partial(_layer_by_layer, steps)
    seen = [look(points, y, loss, part) for part in _slices(model, points)]
    if len(seen) == 1:
        return seen[0]
    loss_, wrong, gradient = zip(
        *((one.loss, one.wrong, one.gradient) for one in seen), strict=True
    )
    return Pass(torch.cat(loss_), torch.cat(wrong), torch.cat(gradient))


def _through(model: nn.Module, points: Tensor, y: Tensor, loss: Loss, part: slice) -> Pass:
    """One pass of the points in `part`."""
    with torch.enable_grad():
        leaf = points[part].detach().requires_grad_()
        logits = model(leaf)
        values = _losses(logits, y, loss, part)
        gradient = _gradient(values, leaf)
    return _seen(logits.detach(), values.detach(), y[part], _usable(gradient))


def _layer_by_layer(steps: list[Step], points: Tensor, y: Tensor, loss: Loss, part: slice) -> Pass:
    """The same where the layers are known; autograd sees the loss alone."""
    logits, backs = through(steps, points[part])
    if loss is cross_entropy:
        values, at_logits = cross_entropy_and_gradient(logits, y[part])
    else:
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            values = _losses(leaf, y, loss, part)
            at_logits = _gradient(values, leaf)
    gradient = back_through(backs, at_logits)
    return _seen(logits, values.detach(), y[part], _usable(gradient))


def _losses(logits: Tensor, y: Tensor, loss: Loss, part: slice) -> Tensor:
    """A loss may hold something of every sample (a target): it is called with all rows."""
    if len(logits) == len(y):
        return loss(logits, y)
    return loss(F.pad(logits, (0, 0, part.start, len(y) - part.stop)), y)[part]


def _gradient(values: Tensor, leaf: Tensor) -> Tensor:
    # A model that ignores its input has no path to it: its gradient is zero.
    if not values.requires_grad:
        return torch.zeros_like(leaf)
    # grad, not backward(): parameters' gradients are neither computed nor touched.
    (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True, materialize_grads=True)
    return gradient


def _usable(gradient: Tensor) -> Tensor:
    # An expanded gradient shares its entries: writing into those needs a copy.
    return gradient.detach().contiguous().nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def _slices(model: nn.Module, points: Tensor) -> list[slice]:
    """Slices of equal size, to within one, that go through the model one after the other."""
    count, pieces = len(points), 1
    if points.is_cpu and points.dim() == 4:
        pieces = -(-count // max(_PIXELS // points.shape[2:].numel(), 1))
    # Last, since a walk through the model takes as long as a small layer.
    if pieces <= 1 or not any(parameter.dim() > 2 for parameter in model.parameters()):
        return [slice(0, count)]
    ends = [count * number // pieces for number in range(pieces + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _seen(logits: Tensor, values: Tensor, y: Tensor, gradient: Tensor) -> Pass:
    # What is not finite times 0 is NaN, and so is the sum: a third of the calls of `isfinite`.
    finite = (logits * 0.0).sum(dim=1) == 0
    wrong = ~(finite & (logits.argmax(dim=1) == y))
    return Pass(torch.where(finite, values, torch.inf), wrong, gradient)
