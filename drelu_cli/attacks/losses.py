"""What attacks maximise: one value per sample, larger = more adversarial.

logits (n, K), labels (n,) int64 -> (n,) in the dtype of the logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from drelu_cli.core.errors import BadValue

RANGE = 10.0  # the spread of rescaled logits: far from e^-104, where float32 underflows


def misclassified(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) bool: argmax (lowest index on ties) is not `y`, or some logit is not finite."""
    return ~(torch.isfinite(logits).all(dim=1) & (logits.argmax(dim=1) == y))


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Of FGSM (1412.6572) and PGD (1706.06083): log sum_i exp z_i - z_y."""
    return F.cross_entropy(logits, y, reduction="none")


def cross_entropy_and_gradient(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The cross entropy and its gradient softmax(z) - onehot(y) at the logits, without a graph.

    Bit for bit what autograd gives: the gradient comes from its own kernel.
    """
    likelihood = logits.log_softmax(dim=1)
    at_likelihood = torch.zeros_like(logits).scatter_(1, y[:, None], -1.0)
    gradient: Tensor = torch.ops.aten._log_softmax_backward_data(  # noqa: SLF001
        at_likelihood, likelihood, 1, logits.dtype
    )
    return -likelihood.gather(1, y[:, None])[:, 0], gradient


def ce_rescaled(logits: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of RANGE z / (max_i z_i - min_i z_i), the divisor held constant.

    Invariant to the scale of the logits: at large scales the plain cross entropy saturates, its
    gradient underflows to 0; at small ones changes of the loss drown in rounding. Both errors
    are described with another divisor by Yu & Xu (MIFPE, AAAI 2023).
    """
    spread = (logits.amax(dim=1) - logits.amin(dim=1)).detach()
    # Equal logits stay as they are.
    scale = torch.where(spread > 0, spread, torch.ones_like(spread))
    return cross_entropy(RANGE * (logits / scale[:, None]), y)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{i != y} z_i - z_y: the negative of f_6 without its hinge (1608.04644)."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(dim=1) - logits.gather(1, y[:, None])[:, 0]


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """-(z_y - max_{i != y} z_i) / (z_pi1 - z_pi3): invariant to shift and scale (2003.01690).

    Raises:
        BadValue: fewer than 3 classes, for which it is not defined.
    """
    if logits.shape[1] < 3:
        raise BadValue(
            f"the DLR loss needs 3 classes, the model has {logits.shape[1]}",
            hint="use apgd_ce instead of apgd_dlr",
        )
    top = logits.topk(3, dim=1).values
    # 1e-12 as in the reference: equal logits give 0, not NaN.
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """-(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2), target (n,) int64 (2003.01690, eq. 7).

    Raises:
        BadValue: fewer than 4 classes, for which it is not defined.
    """
    if logits.shape[1] < 4:
        raise BadValue(
            f"the targeted DLR loss needs 4 classes, the model has {logits.shape[1]}",
            hint="use apgd_dlr (3 classes) or apgd_ce instead of apgd_t",
        )
    top = logits.topk(4, dim=1).values
    width = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])
    # 1e-12 as in `dlr`.
    return ahead(logits, y, target) / (width + 1e-12)


def ahead(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_t - z_y, target (n,) int64: what FAB brings to 0 (1907.02044)."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]
