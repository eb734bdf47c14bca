"""What a shortcut through a model is: logits of points that differ inside a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Memos = list[Tensor]
"""What is remembered of some samples, each (n, ...)."""


@dataclass(frozen=True)
class Change:
    """New points for some samples; each differs from the current point in one window.

    All points have one of two values in every pixel, the low or the high one.

    Attributes:
        rows: (g,) int64, which samples.
        top: (g,) int64, first row of the window.
        left: (g,) int64, first column.
        signs: (g, C) bool, True: the window gets the high values.
        standing: (g, C, high, wide) bool, which values the current points have there.
    """

    rows: Tensor
    top: Tensor
    left: Tensor
    signs: Tensor
    standing: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(high, wide) of all windows."""
        return self.standing.shape[2], self.standing.shape[3]

    def taken(self, selection: Tensor) -> Change:
        """Some of the changes, by indices."""
        parts = (self.rows, self.top, self.left, self.signs, self.standing)
        return Change(*(part.index_select(0, selection) for part in parts))


def windows(maps: Tensor, change: Change) -> Tensor:
    """(g, C, high, wide): what the maps (n, C, H, W) of the samples hold in the windows."""
    return windows_at(maps, change.rows, change.top, change.left, change.size)


def windows_at(
    maps: Tensor, rows: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]
) -> Tensor:
    """(g, C, *size): windows at (top, left), (g,) each, of the contiguous maps (n, C, H, W)."""
    channels, height, width = maps.shape[1:]
    high, wide = size
    # A view of all windows by the place of their first pixel, some of them across borders.
    last = maps.numel() - (high - 1) * width - wide
    views = maps.as_strided((last + 1, high, wide), (1, width, 1))
    plane = rows[:, None] * channels + torch.arange(channels, device=rows.device)
    corner = plane * (height * width) + (top * width + left)[:, None]
    return views.index_select(0, corner.view(-1)).view(len(rows), channels, high, wide)


def window_pixels(change: Change, height: int, width: int) -> Tensor:
    """(g, C * high * wide) int64: the windows' pixels, counted in their flat image."""
    high, wide = change.size
    device = change.rows.device
    plane = torch.arange(change.signs.shape[1], device=device)[:, None, None] * (height * width)
    down = torch.arange(high, device=device)[:, None] * width
    offsets = (plane + down + torch.arange(wide, device=device)).view(-1)
    return (change.top * width + change.left)[:, None] + offsets


class Kept(Protocol):
    """What a pass found on its way; where its point is accepted, it goes into the memos."""

    def write(self, memos: Memos, accepted: Tensor) -> None:
        """Writes the accepted ones, (a,) positions among those asked about, into `memos`."""
        ...


class Shortcut(Protocol):
    """A model that can be asked about changes.

    Attributes:
        follows_windows: False where `windowed` gives None whatever it is asked.
    """

    follows_windows: bool

    def fixed(self, low: Tensor, high: Tensor) -> Memos:
        """What is the same for all points of a sample, from its two images (n, C, H, W)."""
        ...

    def blank(self, low: Tensor) -> Memos:
        """Memos of the current points, to be filled by a first full pass."""
        ...

    def full(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Kept]:
        """Logits at whole points (g, C, H, W) of the samples `rows`."""
        ...

    def windowed(self, fixed: Memos, memos: Memos, change: Change) -> tuple[Tensor, Kept] | None:
        """Logits of the changed points; None where a full pass costs no more."""
        ...
