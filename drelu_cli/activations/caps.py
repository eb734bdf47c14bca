"""The learnable caps of a whole network: the penalty counts them, the optimiser projects them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation


def learnable_caps(model: nn.Module) -> list[nn.Parameter]:
    """Every learnable cap once, by identity, in module order; one (channels,) tensor per layer."""
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, Activation):
            found.update((id(cap), cap) for cap in module.caps())
    return list(found.values())


def cap_penalty(model: nn.Module) -> Tensor:
    """sum_i m_i^2 over all learnable caps, 0-dimensional; a zero where there are none.

    The factor lambda of the source paper's equation (1) is the caller's.
    """
    caps = learnable_caps(model)
    if caps:
        return torch.stack([cap.square().sum() for cap in caps]).sum()
    tensors = itertools.chain(model.parameters(), model.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    return (
        torch.zeros(()) if like is None else torch.zeros((), dtype=like.dtype, device=like.device)
    )


@torch.no_grad()
def project_caps_(model: nn.Module) -> None:
    """Sets negative caps to 0, in place: the projection onto m >= 0; optimiser state is kept."""
    for cap in learnable_caps(model):
        cap.clamp_(min=0)


@torch.no_grad()
def cap_statistics(model: nn.Module) -> dict[str, float]:
    """Mean, least and greatest learnable cap; empty where there are none."""
    caps = learnable_caps(model)
    if not caps:
        return {}
    values = torch.cat([cap.flatten() for cap in caps])
    return {
        "cap_mean": float(values.mean()),
        "cap_min": float(values.min()),
        "cap_max": float(values.max()),
    }
