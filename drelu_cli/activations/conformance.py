"""What every activation must do, as functions that a third party's tests can call.

Each takes an `ActivationFactory` and raises AssertionError where the contract is broken.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation, ActivationFactory
from drelu_cli.activations.surrogate import with_surrogate

CHANNELS = 5
_SHAPES = ((7, CHANNELS), (3, CHANNELS, 4, 2))


def check_activation(factory: ActivationFactory) -> None:
    """All checks."""
    check_shape_and_dtype(factory)
    check_elementwise(factory)
    check_bounds(factory)
    check_surrogates(factory)
    check_ends(factory)
    check_uncapped(factory)
    check_copies(factory)


def check_shape_and_dtype(factory: ActivationFactory) -> None:
    """Shape and dtype are kept; outputs and input gradients are finite; input is not changed."""
    for shape in _SHAPES:
        for dtype in (torch.float32, torch.float64):
            module = factory(CHANNELS).to(dtype)
            x = _inputs(shape, dtype).requires_grad_()
            before = x.detach().clone()
            y = module(x)
            (gradient,) = torch.autograd.grad(y.sum(), x)
            assert y.shape == x.shape, f"shape {tuple(x.shape)} became {tuple(y.shape)}"
            assert y.dtype == dtype, f"{dtype} became {y.dtype}"
            assert bool(y.isfinite().all()), "a finite input gave a non-finite output"
            assert bool(gradient.isfinite().all()), "a finite input gave a non-finite gradient"
            assert torch.equal(x.detach(), before), "the input was changed in place"


def check_elementwise(factory: ActivationFactory) -> None:
    """Changing one number of the input changes no other number of the output.

    An activation that says `elementwise = False` may change the rest of its sample, no other's.
    """
    for shape in _SHAPES:
        module = factory(CHANNELS)
        elementwise = getattr(module, "elementwise", True)
        x = _inputs(shape, torch.float32)
        other = x.clone()
        other[0, 0] = 0.25
        changed = module(x) != module(other)
        changed[(0, 0) if elementwise else 0] = False
        assert not bool(changed.any()), "an output depends on another element's input"


def check_bounds(factory: ActivationFactory) -> None:
    """For x in [l, u] the output lies in bounds(l, u), rounding included."""
    module = factory(CHANNELS)
    if not isinstance(module, Activation):
        return
    for shape in _SHAPES:
        a, b = _inputs(shape, torch.float32), _inputs(shape, torch.float32, seed=1)
        lower, upper = torch.minimum(a, b), torch.maximum(a, b)
        low, high = module.bounds(lower, upper)
        assert low.shape == high.shape == lower.shape, "bounds change the shape"
        for share in (0.0, 0.1, 0.5, 0.9, 1.0):
            inside = torch.clamp(lower + share * (upper - lower), lower, upper)
            y = module(inside)
            assert bool(((low <= y) & (y <= high)).all()), "an output lies outside its bounds"


def check_surrogates(factory: ActivationFactory) -> None:
    """The forward pass stays bit for bit; the backward pass uses the slope, finite, >= 0."""
    module = factory(CHANNELS)
    if not isinstance(module, Activation):
        return
    for shape in _SHAPES:
        x = _inputs(shape, torch.float32).requires_grad_()
        for name, slope in module.slopes().items():
            y = with_surrogate(module, name)(x)
            assert torch.equal(y, module(x)), f"surrogate {name} changes the forward pass"
            (gradient,) = torch.autograd.grad(y.sum(), x)
            expected = slope(x.detach())
            assert torch.equal(gradient, expected), f"surrogate {name} is not its slope"
            assert bool((expected.isfinite() & (expected >= 0)).all()), f"slope {name} is unusable"


def check_ends(factory: ActivationFactory) -> None:
    """The ends, where there are any, broadcast over the input, the lower one below."""
    module = factory(CHANNELS)
    if not isinstance(module, Activation):
        return
    for shape in _SHAPES:
        x = _inputs(shape, torch.float32)
        found = module.ends(x)
        if found is None:
            continue
        lower, upper = (torch.as_tensor(end, dtype=x.dtype).expand(shape) for end in found)
        assert bool((lower <= upper).all()), "the lower end lies above the upper one"


def check_uncapped(factory: ActivationFactory) -> None:
    """The version without a cap, where there is one, keeps shapes and reaches beyond any cap."""
    module = factory(CHANNELS)
    uncapped = module.uncapped() if isinstance(module, Activation) else None
    if uncapped is None:
        return
    for shape in _SHAPES:
        x = _inputs(shape, torch.float32).abs() + 1e6
        y = uncapped(x)
        assert y.shape == x.shape, f"uncapped: shape {tuple(x.shape)} became {tuple(y.shape)}"
        assert bool((y > module(x)).all()), "the version without a cap is capped"


def check_copies(factory: ActivationFactory) -> None:
    """A deep copy and a reloaded state give the same numbers: nothing is kept elsewhere."""
    module = factory(CHANNELS)
    x = _inputs(_SHAPES[0], torch.float32)
    assert torch.equal(copy.deepcopy(module)(x), module(x)), "a deep copy differs"
    fresh: nn.Module = factory(CHANNELS)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(x), module(x)), "the state dict does not hold all that matters"


def _inputs(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Numbers around 0 and far out, with exact zeros and ones among them."""
    draws = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 4
    draws[-1] *= 50
    draws[0].reshape(-1)[:2] = torch.tensor([0.0, 1.0], dtype=dtype)
    return draws
