"""Which device the work runs on."""

from __future__ import annotations

import torch

from drelu_cli.core.errors import DeviceError


def pick_device(name: str = "auto") -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes CUDA where there is one, else the CPU: MPS lacks float64, which results are
    verified in, so it is used only when asked for.

    Raises:
        DeviceError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"unknown device '{name}'", hint="known: auto, cpu, cuda, cuda:N, mps"
        ) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device '{name}' is not here: {count} CUDA devices found",
                hint="use --device cpu, or --device auto",
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps' is not here", hint="use --device cpu")
    elif device.type != "cpu":
        raise DeviceError(f"device '{name}' is not supported", hint="auto, cpu, cuda, cuda:N, mps")
    return device
