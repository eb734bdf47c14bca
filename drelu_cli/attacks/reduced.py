"""Gradients in less precision than the logits: for speed on a GPU, only where asked for.

The forward pass stays in the model's own precision, so what counts as misclassified does, too:
only the direction that an attack follows is rounded.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from drelu_cli.activations.surrogate import vector_jacobian
from drelu_cli.core.errors import DeviceError
from drelu_cli.runtime.precision import float32_arithmetic

Reduced = Literal["tf32", "bf16"]


class ReducedGradients(nn.Module):
    """A model whose input gradients are computed in `kind`; logits as the model gives them.

    `tf32`: the backward pass of the float32 graph with TF32 products. `bf16`: a second pass under
    autocast to bfloat16, forward and backward, at the same points; it is not counted as a pass.

    Args:
        exact: (n, ...) -> logits (n, K), in evaluation mode.
        kind: `tf32` (CUDA only) or `bf16`.
    """

    def __init__(self, exact: nn.Module, kind: Reduced) -> None:
        super().__init__()
        self.exact = exact
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Logits, bit for bit the model's own.

        Raises:
            DeviceError: `tf32` beside another device than CUDA.
        """
        if not (torch.is_grad_enabled() and x.requires_grad):
            y: Tensor = self.exact(x)
            return y
        if self.kind == "tf32":
            require_tf32(x.device)
        out: Tensor = _Rounded.apply(x, self.exact, self.kind)  # type: ignore[no-untyped-call]
        return out


def require_tf32(device: torch.device) -> None:
    """Refuses a device without TF32.

    Raises:
        DeviceError: it is not CUDA.
    """
    if device.type != "cuda":
        raise DeviceError(
            f"precision=tf32 needs a CUDA device, not {device.type}",
            hint="precision=bf16 runs everywhere; without it gradients are float32",
        )


class _Rounded(torch.autograd.Function):
    """The model's logits; the vector-Jacobian product in less precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, exact: nn.Module, kind: Reduced) -> Tensor:
        ctx.kind = kind
        if kind == "tf32":
            with torch.enable_grad():
                ctx.point = x.detach().requires_grad_()
                ctx.y = exact(ctx.point)
            own: Tensor = ctx.y.detach()
            return own.view_as(own)
        with torch.no_grad():
            y: Tensor = exact(x)
        with torch.enable_grad(), torch.autocast(x.device.type, dtype=torch.bfloat16):
            ctx.point = x.detach().requires_grad_()
            ctx.y = exact(ctx.point)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cotangent = grad.to(ctx.y.dtype)
        with float32_arithmetic(tf32=ctx.kind == "tf32"):
            # Kept: a caller may ask for one logit's gradient after another.
            found = vector_jacobian(ctx.y, ctx.point, cotangent, keep=True)
        return torch.zeros_like(ctx.point) if found is None else found, None, None
