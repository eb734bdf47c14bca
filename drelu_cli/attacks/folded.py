"""A net's whole passes made cheaper: batch normalisation folded into the convolution before it.

The numbers are those of the model up to rounding; the model's own modules stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from drelu_cli.attacks.chain import leaves, same_at_probes
from drelu_cli.attacks.gradient import logits_at
from drelu_cli.attacks.shortcut import Change, Kept, Memos
from drelu_cli.runtime.containers import is_chain, is_watched


class Folded:
    """A net that is always asked about whole points."""

    follows_windows = False

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def fixed(self, low: Tensor, high: Tensor) -> Memos:  # noqa: ARG002
        """Nothing."""
        return []

    def blank(self, low: Tensor) -> Memos:  # noqa: ARG002
        """Nothing."""
        return []

    def full(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Kept]:  # noqa: ARG002
        """All layers, channels last."""
        return logits_at(self.net, points.contiguous(memory_format=torch.channels_last)), _Nothing()

    def windowed(
        self,
        fixed: Memos,  # noqa: ARG002
        memos: Memos,  # noqa: ARG002
        change: Change,  # noqa: ARG002
    ) -> None:
        """Never."""
        return


@dataclass(frozen=True)
class _Nothing:
    def write(self, memos: Memos, accepted: Tensor) -> None:
        """There are no memos."""


def folded(model: nn.Module, x: Tensor) -> Folded | None:
    """The shortcut, or None where there is nothing to fold or it is not certain what is called.

    Taken apart are chains and graphs that torch.fx made: what those call is known. In float32
    only, where it was measured.

    Args:
        model: in evaluation mode.
        x: (N, C, H, W) in [0, 1], on the CPU.
    """
    if x.dtype != torch.float32 or not is_chain(model):
        return None
    if any(is_watched(part) for part in model.modules()):
        return None
    layers = list(leaves(model))
    replaced = [
        _without_norms(part) if isinstance(part, fx.GraphModule) else part for part in layers
    ]
    if all(new is old for new, old in zip(replaced, layers, strict=True)):
        return None
    net = nn.Sequential(*replaced)
    return Folded(net) if same_at_probes(net, model, x) else None


def _without_norms(net: fx.GraphModule) -> fx.GraphModule:
    """A net that shares all modules but the convolutions that took in a normalisation."""
    found = fx.GraphModule(net, copy.deepcopy(net.graph))
    count = 0
    for norm in list(found.graph.nodes):
        pair = _pair(found, norm)
        if pair is None:
            continue
        name = f"folded{count}"
        count += 1
        convolution = norm.all_input_nodes[0]
        fused: Any = fuse_conv_bn_eval(*pair)
        found.add_module(name, fused.to(memory_format=torch.channels_last))
        with found.graph.inserting_after(convolution):
            new = found.graph.call_module(name, convolution.args, convolution.kwargs)
        norm.replace_all_uses_with(new)
        found.graph.erase_node(norm)
        found.graph.erase_node(convolution)
    if not count:
        return net
    found.delete_all_unused_submodules()
    found.recompile()
    return found


def _pair(net: fx.GraphModule, node: fx.Node) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """The convolution before a normalisation, where nothing else sees what it gives."""
    norm = _module(net, node)
    if type(norm) is not nn.BatchNorm2d or norm.training or norm.running_mean is None:
        return None
    before = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    if not isinstance(before, fx.Node) or len(before.users) != 1:
        return None
    convolution = _module(net, before)
    return (convolution, norm) if type(convolution) is nn.Conv2d else None


def _module(net: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return net.get_submodule(str(node.target)) if node.op == "call_module" else None
