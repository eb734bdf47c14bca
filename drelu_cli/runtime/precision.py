"""How exact float32 arithmetic is on a CUDA device.

torch lets cuDNN round the factors of float32 convolutions to TF32, 10 bits of mantissa, unless it
is told otherwise. What decides whether a sample is robust must not be rounded like that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_arithmetic(*, tf32: bool) -> Iterator[None]:
    """Float32 products inside the block: in full, or through TF32; the user's choice afterwards.

    The flags belong to the process. On a CPU they change nothing.

    Args:
        tf32: whether CUDA may round the factors of convolutions and matrix products to TF32.
    """
    backends: tuple[Any, Any] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = tf32
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
