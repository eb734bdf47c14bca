"""K dense nets of one architecture as one net: their layers as batched matrix products."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn

from drelu_cli.activations.capped import DReLU, SReLU, capped
from drelu_cli.activations.plain import Hardtanh, ReLU, SiLU, Softplus, Tanh
from drelu_cli.certify.chain import leaves
from drelu_cli.core.errors import ModelError
from drelu_cli.models.contract import Normalize

_PLAIN = (ReLU, Tanh, Hardtanh, SiLU, Softplus)

Layer = Callable[[Tensor], Tensor]


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
    if kind is nn.Linear:
        return kind, layer.in_features, layer.out_features, layer.bias is not None
    if kind is Normalize:
        scale, shift = layer.scale_and_shift()
        return kind, *scale.flatten().tolist(), *shift.flatten().tolist()
    if kind is nn.Flatten:
        return (kind,) if (layer.start_dim, layer.end_dim) == (1, -1) else None
    if kind is DReLU:
        return kind, layer.channels
    if kind is SReLU:
        return kind, layer.cap
    return (kind,) if kind in _PLAIN else None


class StackedNet(nn.Module):
    """(K * B, C, H, W) images in [0, 1], net by net, to (K * B, classes) logits, net by net.

    While it lives, the parameters of the nets are views into its own, (K, ...): a step of an
    optimiser on either is a step of both. `release` ends that.

    Args:
        nets: of one form (`form_of`), on one device, in one dtype.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(nets)
        self._joined: list[tuple[nn.Parameter, Sequence[nn.Parameter]]] = []
        self._caps: list[nn.Parameter] = []
        chains = [[layer for _, layer in leaves(net, "model")] for net in nets]
        self._layers = [self._stacked(layers) for layers in zip(*chains, strict=True)]

    def _stacked(self, layers: Sequence[nn.Module]) -> Layer:
        first = layers[0]
        if isinstance(first, nn.Linear):
            weight = self._join([layer.weight for layer in layers])
            if first.bias is None:
                return lambda x: torch.bmm(x, weight.mT)
            bias = self._join([layer.bias for layer in layers])
            return lambda x: torch.baddbmm(bias[:, None], x, weight.mT)
        if isinstance(first, DReLU):
            cap = self._join([layer.cap for layer in layers])
            self._caps.append(cap)
            return lambda x: capped(x, cap[:, None])
        if isinstance(first, nn.Flatten):
            return lambda x: x if x.dim() == 3 else x.reshape(self.count, -1, x[0].numel())
        return first

    def _join(self, parts: Sequence[nn.Parameter]) -> nn.Parameter:
        whole = nn.Parameter(torch.stack([part.detach() for part in parts]))
        for part, own in zip(parts, whole.detach(), strict=True):
            part.data = own
        self.register_parameter(f"stacked{len(self._joined)}", whole)
        self._joined.append((whole, parts))
        return whole

    def forward(self, x: Tensor) -> Tensor:
        """(K * B, C, H, W) to (K * B, classes)."""
        for layer in self._layers:
            x = layer(x)
        return x.flatten(0, 1)

    def cap_penalty(self) -> Tensor:
        """(K,): sum_i m_i^2 of each net; zeros where there are no caps."""
        if not self._caps:
            return self._joined[0][0].new_zeros(self.count)
        return torch.stack([cap.square().sum(dim=1) for cap in self._caps]).sum(dim=0)

    @torch.no_grad()
    def project_caps_(self) -> None:
        """Sets negative caps to 0."""
        for cap in self._caps:
            cap.clamp_(min=0)

    def hand_out_gradients(self) -> None:
        """Gives each net its part of the gradients."""
        for whole, parts in self._joined:
            if whole.grad is not None:
                for part, own in zip(parts, whole.grad, strict=True):
                    part.grad = own

    def release(self) -> None:
        """Gives each net parameters of its own again, with the values of now."""
        for _, parts in self._joined:
            for part in parts:
                part.data = part.detach().clone()
                part.grad = None
