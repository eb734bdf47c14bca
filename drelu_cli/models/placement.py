"""Placement `all`: every ReLU of a net becomes an activation of its own, one per call site.

Modules cannot be swapped by name: torchvision's ResNets call one `self.relu` at several widths
and other nets call `F.relu`. So the forward pass is traced and its call sites are replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from drelu_cli.activations.capped import SReLU
from drelu_cli.activations.contract import Activation, ActivationFactory
from drelu_cli.activations.plain import ReLU
from drelu_cli.core.errors import ModelError
from drelu_cli.models.contract import Shape
from drelu_cli.runtime.modes import evaluation_mode


class OwnReLU6(SReLU):
    """A network's own ReLU6: its bounds and surrogates are known, placement `all` replaces it.

    An `SReLU` that somebody put into a network on purpose is none of these, whatever its cap.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 6.0)


def own_relu6(channels: int, /) -> Activation:
    """The `OwnReLU6` for `channels`."""
    return OwnReLU6(channels)


_MODULES = (ReLU, OwnReLU6, nn.ReLU, nn.ReLU6)
_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    F.relu,
    F.relu_,
    F.relu6,
    torch.relu,
    torch.relu_,
)
_METHODS = ("relu", "relu_")
# Functions whose train/eval flag a trace would freeze.
_MODE_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    F.batch_norm,
    F.instance_norm,
)


class _Tracer(fx.Tracer):
    """Traces through everything but torch's own layers and activations."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Activation) or super().is_leaf_module(m, module_qualified_name)


def fill_everywhere(
    model: nn.Module, activation: ActivationFactory, shape: Shape
) -> fx.GraphModule:
    """`model` with a new `activation(channels)` at every call of a ReLU or ReLU6.

    The activations are called `activation0`, `activation1`, ... in call order. Other parameters
    and buffers are those of `model`, under their own names. Train/eval mode is kept.

    Args:
        model: any net that torch.fx can trace.
        activation: fills the sites; channels are dimension 1 of the tensor at the site.
        shape: (C, H, W) of one input.

    Raises:
        ModelError: the net cannot be traced, freezes its mode, or has no ReLU.
    """
    traced = _traced(model)
    _refuse_frozen_modes(traced)
    sites = [node for node in traced.graph.nodes if _is_relu(node, traced)]
    if not sites:
        raise ModelError("placement all: the net has no ReLU to replace", hint="use placement head")
    channels = _channels(traced, sites, shape)
    for index, (site, width) in enumerate(zip(sites, channels, strict=True)):
        name = f"activation{index}"
        while hasattr(traced, name):
            name += "_"
        traced.add_module(name, activation(width).train(model.training))
        with traced.graph.inserting_after(site):
            new = traced.graph.call_module(name, (site.all_input_nodes[0],))
        site.replace_all_uses_with(new)
        traced.graph.erase_node(site)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _traced(model: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError) as problem:
        raise ModelError(
            f"placement all: the forward pass cannot be traced: {problem}",
            hint="use placement head or stem, or a forward pass without branches on data",
        ) from problem
    return fx.GraphModule(tracer.root, graph).train(model.training)


def _refuse_frozen_modes(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.target in _MODE_FUNCTIONS:
            raise ModelError(
                f"placement all: {node.target.__name__} is called as a function, "
                "so its train/eval mode cannot be kept",
                hint="use the layer, e.g. nn.Dropout for F.dropout",
            )


def _is_relu(node: fx.Node, traced: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), _MODULES)
    if node.op == "call_method":
        return node.target in _METHODS
    return node.op == "call_function" and node.target in _FUNCTIONS


def _channels(traced: fx.GraphModule, sites: list[fx.Node], shape: Shape) -> list[int]:
    """Dimension 1 at each site, from one pass of two blank images in evaluation mode."""
    like = next(traced.parameters(), torch.zeros(()))
    blank = torch.zeros(2, *shape, dtype=like.dtype, device=like.device)
    try:
        with evaluation_mode(traced), torch.no_grad():
            ShapeProp(traced).propagate(blank)
    except RuntimeError as problem:
        raise ModelError(f"the net cannot take images of shape {shape}: {problem}") from problem
    return [int(site.meta["tensor_meta"].shape[1]) for site in sites]
