"""Ball and box: distances, projections, steepest directions, random points.

Points and centres are (n, ...) in [0, 1]; a radius is in pixel units.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.runtime.streams import Stream

# Points are scaled to this share of an L2 radius: rounding of the norm and of x + delta in
# float32 (relative 1e-7 to 5e-7) then never carries them out of the ball.
L2_SHARE = 1.0 - 1e-6
# Points beyond this share are scaled. It lies between L2_SHARE and 1, so that a point that was
# scaled once counts as inside and stays bitwise as it is.
_L2_LIMIT = 1.0 - 0.5e-6
# Pixels that tell most different points apart.
_PROBE = 64


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(n,) as (n, 1, ..., 1), to broadcast against `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))


def length(delta: Tensor, norm: Norm) -> Tensor:
    """(n,) norm of each sample's perturbation; samples may have any shape."""
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().amax(dim=1)
    # Scaled by the largest entry: squares of tiny gradients would underflow.
    largest = flat.abs().amax(dim=1, keepdim=True)
    scaled = flat / torch.where(largest > 0, largest, torch.ones_like(largest))
    return largest[:, 0] * scaled.square().sum(dim=1).sqrt()


def distance(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """(n,) distance between points."""
    return length(a - b, norm)


def unit(delta: Tensor, norm: Norm) -> Tensor:
    """`delta` scaled to length 1 in its norm; 0 stays 0."""
    largest = per_sample(length(delta, "linf"), delta)
    scaled = delta / torch.where(largest > 0, largest, torch.ones_like(largest))
    if norm == "linf":
        return scaled
    # Scaled in two steps: a denormal length would lose its digits.
    size = per_sample(length(scaled, "l2"), delta)
    return scaled / torch.where(size > 0, size, torch.ones_like(size))


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of length 1 that raises a linear function most; 0 where the gradient is 0."""
    return gradient.sign() if norm == "linf" else unit(gradient, norm)


def project(points: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """The points brought into the ball around `x` and into the box; inside they stay as they are.

    Linf: the nearest point. L2: scaled towards `x`, then clamped to the box, as AutoAttack does;
    clamping moves towards `x`, so the point stays in the ball.
    """
    if threat.norm == "linf":
        return torch.clamp(points, x - threat.eps, x + threat.eps).clamp(0.0, 1.0)
    delta = points - x
    size = per_sample(length(delta, "l2"), x)
    outside = size > threat.eps * _L2_LIMIT
    scale = threat.eps * L2_SHARE / torch.where(outside, size, torch.ones_like(size))
    return torch.where(outside, x + delta * scale, points).clamp(0.0, 1.0)


def limits(x: Tensor, threat: ThreatModel) -> dict[str, Tensor]:
    """What `project_` needs beside `x`: for Linf the ends `low` and `high` of ball and box."""
    if threat.norm == "l2":
        return {}
    return {"low": (x - threat.eps).clamp_(min=0.0), "high": (x + threat.eps).clamp_(max=1.0)}


def project_(points: Tensor, rows: Mapping[str, Tensor], threat: ThreatModel) -> Tensor:
    """`project` with the samples' `x` and `limits` in `rows`; it may overwrite `points`."""
    if threat.norm == "l2":
        return project(points, rows["x"], threat)
    return torch.clamp(points, rows["low"], rows["high"], out=points)


def within(points: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """(n,) bool: inside the ball, with room for rounding; the input itself is always inside."""
    return inside(distance(points, x, threat.norm), threat)


def inside(lengths: Tensor, threat: ThreatModel) -> Tensor:
    """(n,) bool: lengths of perturbations that `within` takes for inside the ball."""
    share = _L2_LIMIT if threat.norm == "l2" else 1.0
    return lengths <= threat.eps * share


def random_in_ball(x: Tensor, threat: ThreatModel, stream: Stream) -> Tensor:
    """Uniform in the ball, then clamped to the box: the random start of PGD (1706.06083)."""
    shape = x.shape[1:]
    if threat.norm == "linf":
        draws = stream.uniform("start", shape, dtype=x.dtype)
        return project(x + threat.eps * (2.0 * draws - 1.0), x, threat)
    direction = unit(stream.normal("start", shape, dtype=x.dtype), "l2")
    radius = stream.uniform("radius", (1,), dtype=x.dtype)[:, 0] ** (1.0 / shape.numel())
    return project(x + threat.eps * per_sample(radius, x) * direction, x, threat)


def random_on_sphere(
    x: Tensor, threat: ThreatModel, stream: Stream, *, step: int | Tensor = 0
) -> Tensor:
    """A random direction stretched to length eps, clamped to the box: APGD's start (2003.01690).

    Linf: uniform draws from [-1, 1) divided by the largest of the sample; L2: normal draws.
    `step` as in `Stream.uniform`: one number for all samples or (n,) int64.
    """
    shape = x.shape[1:]
    if threat.norm == "linf":
        draws = 2.0 * stream.uniform("start", shape, step=step, dtype=x.dtype) - 1.0
    else:
        draws = stream.normal("start", shape, step=step, dtype=x.dtype)
    return project(x + threat.eps * unit(draws, threat.norm), x, threat)


def vanishes(delta: Tensor) -> Tensor:
    """(n,) bool: all entries are 0."""
    flat = delta.flatten(1)
    # Squares of tiny entries underflow: where the norm is 0, the entries themselves are looked at.
    zero: Tensor = torch.linalg.vector_norm(flat, dim=1) == 0
    likely = zero.nonzero()[:, 0]
    exactly = (flat.index_select(0, likely) == 0).all(dim=1)
    return zero.index_copy(0, likely, exactly)


def same(a: Tensor, b: Tensor) -> Tensor:
    """(n,) bool: bitwise equal points."""
    a, b = a.flatten(1), b.flatten(1)
    width = a.shape[1]
    if not a.is_cpu or width < 2 * _PROBE:
        return (a == b).all(dim=1)
    # Points that differ mostly do so in any few pixels: only the others are compared as a whole.
    probe = slice((width - _PROBE) // 2, (width + _PROBE) // 2)
    equal = (a[:, probe] == b[:, probe]).all(dim=1)
    likely = equal.nonzero()[:, 0]
    if len(likely):
        whole = (a.index_select(0, likely) == b.index_select(0, likely)).all(dim=1)
        equal = equal.index_copy(0, likely, whole)
    return equal
