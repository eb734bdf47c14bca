"""How many images of a network fit into memory at once, where gradients are taken."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drelu_cli.runtime.modes import evaluation_mode

# What a pass may keep for its backward pass. On a CPU a fixed sum, since the system kills a
# process that takes too much before anybody can react; on a GPU a share of what it has.
_CPU_BYTES = 2 * 2**30
_CUDA_SHARE = 1 / 8
# So few images are never measured: even ResNet-101 keeps but 2.5 GB for them at 32 x 32 pixels.
_ALWAYS = 64


def fitting_batch(model: nn.Module, one: Tensor, count: int, most: int) -> int:
    """The largest batch, up to `most`, whose pass with gradients stays within a fixed memory.

    One image is put through the network in evaluation mode, to see what autograd keeps of it;
    no random numbers are drawn from, as far as torch's own generators go.

    Args:
        model: on the device of `one`; its modes are restored.
        one: (1, ...) an image.
        count: how many are to be passed.
        most: what small networks take.

    Returns:
        At least 1; `most` wherever no more than 64 images are asked for, or gradients cannot be.
    """
    if min(count, most) <= _ALWAYS:
        return most
    try:
        kept = kept_bytes(model, one)
    except (RuntimeError, TypeError, ValueError):  # a black box that takes no such tensor
        return most
    return most if not kept else max(1, min(most, _allowed(one.device) // kept))


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the gradient to `x`, weights and buffers left out.

    Args:
        model: on the device of `x`; its modes are restored.
        x: (N, ...) images.
    """
    own = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    devices = [x.device] if x.device.type == "cuda" else []
    with (
        evaluation_mode(model),
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        # A copy: a slice would be counted with all that it is a slice of.
        kept = model(x.detach().clone().requires_grad_(True))
    del kept  # until here no storage is freed, and none has the place of another
    return sum(found.values())


def _allowed(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory * _CUDA_SHARE)
