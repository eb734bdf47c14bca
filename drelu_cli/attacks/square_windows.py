"""Where Square looks: windows, their sizes over time, and what is put into them (1912.00049)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drelu_cli.attacks.geometry import L2_SHARE, per_sample, project, unit
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream

# p halves after each of these proposals (AutoAttack, resc_schedule=False).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Proposals whose random numbers belong together: a counter-based draw costs some 200
# microseconds however small it is. Part of what a draw means: changing it changes outcomes.
BLOCK = 64
_GRID = 5  # the L2 start divides each side by 5 (2003.01690's code)
_TINY = 1e-12


def image_shape(shape: torch.Size) -> tuple[int, int, int]:
    """(channels, height, width) of one sample; what is not an image is one row of pixels."""
    if len(shape) == 3 and min(shape[1:]) > 1:
        return shape[0], shape[1], shape[2]
    return 1, 1, shape.numel()


def sides(p: float, height: int, width: int, *, least: int, odd: bool) -> list[tuple[int, int]]:
    """(height, width) of the windows at p, p/2, p/4, ..., one entry more than `HALVINGS`."""
    found = []
    for halvings in range(len(HALVINGS) + 1):
        share = p / 2**halvings
        side = round(share * width if height == 1 else math.sqrt(share * height * width))
        side = max(side, least)
        side += odd and side % 2 == 0
        found.append((1, min(side, width)) if height == 1 else (min(side, height, width),) * 2)
    return found


def _sizes_at(table: list[tuple[int, int]], number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(level, height, width), each (n,), of the windows of the proposals `number`."""
    device = number.device
    level = torch.bucketize(number, torch.tensor(HALVINGS, device=device))
    size = torch.tensor(table, device=device)[level]
    return level, size[:, 0], size[:, 1]


def _placed(draw: Tensor, size: Tensor | int, length: int) -> Tensor:
    """(n,) int64 first index of a window of `size` on an axis, every place equally likely."""
    return (draw * (length - size + 1)).long()


def _window(top: Tensor, left: Tensor, high: Tensor, wide: Tensor, h: int, w: int) -> Tensor:
    """(n, 1, h, w) bool."""
    rows = torch.arange(h, device=top.device) - top[:, None]
    columns = torch.arange(w, device=top.device) - left[:, None]
    inside_rows = (rows >= 0) & (rows < high[:, None])
    inside_columns = (columns >= 0) & (columns < wide[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws >= 0.5, 1.0, -1.0)


class LinfWindows:
    """A window takes one of x + eps and x - eps per channel (algorithm 2)."""

    def __init__(self, shape: torch.Size, threat: ThreatModel, p: float) -> None:
        self.threat = threat
        self.c, self.h, self.w = image_shape(shape)
        self.table = sides(p, self.h, self.w, least=1, odd=False)
        self.draws = 2 + self.c

    def stripes(self, stream: Stream) -> Tensor:
        """(n, C, H, W) bool, the signs of the first points: vertical stripes of width one."""
        signs = stream.signs("stripes", (self.c, 1, self.w)) > 0
        return signs.expand(-1, -1, self.h, -1).contiguous()

    def points(self, x: Tensor, up: Tensor) -> Tensor:
        """(n, ...): the points whose signs are `up`, (n, C, H, W) bool or flat."""
        return self.moved(x, up.view(x.shape))

    def moved(self, x: Tensor, up: Tensor) -> Tensor:
        """Pixels x + eps where `up`, else x - eps, cut to the box; any shapes that broadcast.

        That is where a step of 2 eps ends after projection, from any point of the ball.
        """
        pattern = torch.where(up, 1.0, -1.0).to(x.dtype)
        return project(x + self.threat.eps * pattern, x, self.threat)

    def places(self, draws: Tensor, high: int, wide: int) -> tuple[Tensor, Tensor]:
        """First row and column of windows of one size, from draws (..., k)."""
        top = _placed(draws[..., 0], high, self.h)
        left = _placed(draws[..., 1], wide, self.w)
        return top, left


class L2Windows:
    """Perturbation moves from one window into another, with a bump added (algorithm 3)."""

    def __init__(self, shape: torch.Size, threat: ThreatModel, p: float) -> None:
        self.threat = threat
        self.radius = threat.eps * L2_SHARE
        self.c, self.h, self.w = image_shape(shape)
        self.table = sides(p, self.h, self.w, least=3, odd=True)
        high, wide = self.table[0]
        self.bumps = torch.zeros(len(self.table), 2, high, wide, dtype=torch.float64)
        for level, (rows, columns) in enumerate(self.table):
            self.bumps[level, :, :rows, :columns] = bump(rows, columns)
        self.draws = 5 + self.c

    def first(self, x: Tensor, stream: Stream) -> Tensor:
        """A grid of bumps, each with its own direction and, per channel, its own sign."""
        high, wide = max(self.h // _GRID, 1), max(self.w // _GRID, 1)
        down, across = self.h // high, self.w // wide
        draws = stream.uniform("tiles", (down, across, 1 + self.c), dtype=x.dtype)
        both = bump(high, wide).to(x)
        tile = torch.where((draws[..., 0] >= 0.5)[..., None, None], both[1], both[0])
        tiles = tile[:, :, :, None] * _signs(draws[..., 1:]).to(x.dtype)[..., None, None]
        # (n, down, across, c, high, wide) -> (n, c, down * high, across * wide)
        grid = tiles.permute(0, 3, 1, 4, 2, 5).reshape(len(x), self.c, down * high, across * wide)
        top, left = (self.h - down * high) // 2, (self.w - across * wide) // 2
        canvas = x.new_zeros(len(x), self.c, self.h, self.w)
        canvas[:, :, top : top + down * high, left : left + across * wide] = grid
        return project(x + self.radius * unit(canvas.reshape(x.shape), "l2"), x, self.threat)

    def propose(self, x: Tensor, point: Tensor, number: Tensor, draws: Tensor) -> Tensor:
        """The points with one window emptied into another."""
        level, high, wide = _sizes_at(self.table, number)
        tops = [_placed(draws[:, column], high, self.h) for column in (0, 2)]
        lefts = [_placed(draws[:, column], wide, self.w) for column in (1, 3)]
        target, source = (
            _window(top, left, high, wide, self.h, self.w)
            for top, left in zip(tops, lefts, strict=True)
        )
        delta = (point - x).reshape(-1, self.c, self.h, self.w)
        turned = (draws[:, 4] >= 0.5).long()
        fill = self._bumps_at(level, turned, tops[0], lefts[0]).to(x.dtype)
        fill = fill[:, None] * _signs(draws[:, 5:]).to(x.dtype)[:, :, None, None]
        fill = fill + delta / (_TINY + _window_length(delta, target))
        unused = (self.radius**2 - per_sample(delta.square().sum((1, 2, 3)), delta)).clamp(min=0.0)
        budget = unused / self.c + _window_length(delta, target | source).square()
        fill = fill / (_TINY + _window_length(fill, target)) * budget.sqrt()
        delta = torch.where(target, fill, delta.masked_fill(source, 0.0)).reshape(x.shape)
        return project(x + self.radius * unit(delta, "l2"), x, self.threat)

    def _bumps_at(self, level: Tensor, turned: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """(n, h, w): each sample's bump at its place; outside the window anything."""
        bumps = self.bumps.to(level.device)
        rows = (torch.arange(self.h, device=top.device) - top[:, None]).clamp(0, bumps.shape[2] - 1)
        columns = (torch.arange(self.w, device=top.device) - left[:, None]).clamp(
            0, bumps.shape[3] - 1
        )
        return bumps[
            level[:, None, None], turned[:, None, None], rows[:, :, None], columns[:, None, :]
        ]


def _window_length(delta: Tensor, window: Tensor) -> Tensor:
    """(n, c, 1, 1) L2 norm inside the window, per channel."""
    return (delta.square() * window).sum(dim=(2, 3), keepdim=True).sqrt()


def bump(rows: int, columns: int) -> Tensor:
    """(2, rows, columns) float64: a positive and a negative pyramid side by side, L2 norm 1.

    The first is divided horizontally, the second vertically, as far as the shape allows.
    """
    flat = torch.zeros(2, rows, columns, dtype=torch.float64)
    across = columns // 2
    upright = torch.cat([_pyramid(rows, across), -_pyramid(rows, columns - across)], dim=1)
    flat[1] = upright
    flat[0] = upright.T if rows == columns else upright
    return flat / flat[1].square().sum().sqrt()


def _pyramid(rows: int, columns: int) -> Tensor:
    """The sum over k of 1/(k+1)^2 on the squares of side 2k+1 around the middle, norm 1."""
    height = torch.zeros(rows, columns, dtype=torch.float64)
    if height.numel() == 0:
        return height
    middle_row, middle_column = rows // 2, columns // 2
    for k in range(max(middle_row, middle_column) + 1):
        top, left = max(middle_row - k, 0), max(middle_column - k, 0)
        height[top : middle_row + k + 1, left : middle_column + k + 1] += 1.0 / (k + 1) ** 2
    return height / height.square().sum().sqrt()
