"""K dense nets of one architecture as one net: their layers as batched matrix products."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.capped import DReLU, SReLU, capped
from drelu_cli.activations.plain import Hardtanh, ReLU, SiLU, Softplus, Tanh
from drelu_cli.certify.chain import leaves
from drelu_cli.core.errors import ModelError
from drelu_cli.models.contract import Normalize

_PLAIN = (ReLU, Tanh, Hardtanh, SiLU, Softplus)


def form_of(model: nn.Module) -> Hashable | None:
    """What nets must share to be stacked; None where `model` has a layer that cannot be.

    Weights, biases and learnable caps are each net's own; all else is in the form.
    """
    try:
        layers = [layer for _, layer in leaves(model, "model")]
    except ModelError:  # watched by a hook: what it computes is not certain
        return None
    forms = tuple(_form(layer) for layer in layers)
    return None if None in forms else forms


def _form(layer: nn.Module) -> Hashable | None:
    kind = type(layer)
    # The kind itself, since a subclass may compute anything.
    if isinstance(layer, nn.Linear) and kind is nn.Linear:
        return kind, layer.in_features, layer.out_features, layer.bias is not None
    if isinstance(layer, Normalize) and kind is Normalize:
        scale, shift = layer.scale_and_shift()
        return kind, *scale.flatten().tolist(), *shift.flatten().tolist()
    if isinstance(layer, nn.Flatten) and kind is nn.Flatten:
        return kind if (layer.start_dim, layer.end_dim) == (1, -1) else None
    if isinstance(layer, DReLU) and kind is DReLU:
        return kind, layer.channels
    if isinstance(layer, SReLU) and kind is SReLU:
        return kind, layer.cap
    return kind if kind in _PLAIN else None


class StackedNet(nn.Module):
    """(K * B, C, H, W) images in [0, 1], net by net, to (K * B, classes) logits, net by net.

    While it lives, the parameters of the nets and their gradients are views into its own,
    (K, ...): a step of an optimiser on either is a step of both. `release` ends that.

    Args:
        nets: of one form (`form_of`), on one device, in one dtype.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(nets)
        self._parts: list[nn.Parameter] = []
        chains = [[layer for _, layer in leaves(net, "model")] for net in nets]
        self._layers = nn.ModuleList(self._stacked(layers) for layers in zip(*chains, strict=True))
        self._dense = [layer for layer in self._layers if isinstance(layer, _Dense)]
        self._caps = [layer.cap for layer in self._layers if isinstance(layer, _Caps)]

    def _stacked(self, layers: Sequence[nn.Module]) -> nn.Module:
        first = layers[0]
        if isinstance(first, nn.Linear):
            bias = None if first.bias is None else self._join(layers, "bias")
            return _Dense(self._join(layers, "weight"), bias)
        if isinstance(first, DReLU):
            return _Caps(self._join(layers, "cap"))
        return _Flat(self.count) if isinstance(first, nn.Flatten) else first

    def _join(self, layers: Sequence[nn.Module], name: str) -> nn.Parameter:
        parts: list[nn.Parameter] = [getattr(layer, name) for layer in layers]
        whole = nn.Parameter(torch.stack([part.detach() for part in parts]))
        whole.grad = torch.zeros_like(whole)
        for part, own, grad in zip(parts, whole.detach(), whole.grad, strict=True):
            part.data, part.grad = own, grad
        self._parts += parts
        return whole

    def forward(self, x: Tensor) -> Tensor:
        """(K * B, C, H, W) to (K * B, classes)."""
        for layer in self._layers:
            x = layer(x)
        return x.flatten(0, 1)

    def spend(self, x: Tensor) -> Tensor:
        """The same logits; may overwrite `x`, for which no gradient is asked."""
        first, *others = self._layers
        if not isinstance(first, Normalize) or first.mean.dtype != x.dtype:
            return self.forward(x)
        x = x.sub_(first.mean).div_(first.std)
        for layer in others:
            x = layer(x)
        return x.flatten(0, 1)

    def backward(self, loss: Tensor) -> None:
        """Puts the gradients of `loss`, 0-dim, in the place of the last ones."""
        for cap in self._caps:
            assert cap.grad is not None
            cap.grad.zero_()
        for layer in self._dense:
            layer.gathers, layer.gathered = True, False
        loss.backward()  # type: ignore[no-untyped-call]
        for layer in self._dense:
            layer.gathers = False

    def cap_penalty(self) -> Tensor:
        """(K,): sum_i m_i^2 of each net; zeros where there are no caps."""
        if not self._caps:
            return self._dense[0].weight.new_zeros(self.count)
        return torch.stack([cap.square().sum(dim=1) for cap in self._caps]).sum(dim=0)

    @torch.no_grad()
    def project_caps_(self) -> None:
        """Sets negative caps to 0."""
        for cap in self._caps:
            cap.clamp_(min=0)

    def release(self) -> None:
        """Gives each net parameters of its own again, with the values of now."""
        for part in self._parts:
            part.data, part.grad = part.detach().clone(), None


class _Flat(nn.Module):
    """(K * B, ...) to (K, B, features); what has that shape stays as it is."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x if x.dim() == 3 else x.reshape(self.count, -1, x[0].numel())


class _Caps(nn.Module):
    """D-ReLU on (K, B, channels)."""

    def __init__(self, cap: nn.Parameter) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        return capped(x, self.cap[:, None])


class _Dense(nn.Module):
    """(K, B, in) to (K, B, out).

    Its parameters' gradients are gathered in buffers that stay: a new one at every step, as
    torch makes them, and its copy into the layout of the weights, were half of a step on a CPU.

    Attributes:
        gathers: a backward pass is one to the weights. Attacks have others.
        gathered: the buffers hold a part of this step's gradients.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.gathers = False
        self.gathered = False

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Affine.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return y

    def gather(self, grad: Tensor, x: Tensor) -> None:
        """Adds the gradients of one pass: (K, B, out) of its output, (K, B, in) its input."""
        kept = 1.0 if self.gathered else 0.0
        assert self.weight.grad is not None
        self.weight.grad.baddbmm_(grad.mT, x, beta=kept)
        if self.bias is not None:
            assert self.bias.grad is not None
            self.bias.grad.mul_(kept).add_(grad.sum(dim=1))
        self.gathered = True


class _Affine(torch.autograd.Function):
    """x W^T + b for each net; the layer itself gathers the gradients of its parameters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _Dense) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        if ctx.layer.gathers:
            ctx.layer.gather(grad, x)
        return torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None, None, None, None
