"""Convolutions and poolings recomputed only where a window of the input reaches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.attacks.chain import called
from drelu_cli.attacks.convolutions import Piece, Stage, paste, pixels_of, stages_of
from drelu_cli.attacks.shortcut import Change, Kept, Memos, windows

# Floats per sample that may be remembered, and the share of a stage above which recomputing
# a piece of it costs as much as all of it: measured with benchmarks of Square on two CNNs.
_MOST_REMEMBERED = 100_000
_WORTH = 0.7


class Receptive:
    """A net that begins with convolutions; the inputs of its stages are remembered.

    Maps are (n, height, width, channels), so that a piece is made of whole rows of channels.
    """

    follows_windows = True

    def __init__(
        self, before: list[nn.Module], stages: list[Stage], after: list[nn.Module]
    ) -> None:
        self.before = before
        self.stages = stages
        self.after = after

    def fixed(self, low: Tensor, high: Tensor) -> Memos:
        """The first stage's input at the low and at the high values, (n, C, H, W) each."""
        return [called(self.before, low), called(self.before, high)]

    def blank(self, low: Tensor) -> Memos:
        """The padded input of each stage, and the last one's output."""
        maps = [low.new_zeros((len(low), *stage.padded_shape)) for stage in self.stages]
        return [*maps, low.new_zeros((len(low), *self.stages[-1].output_shape))]

    def full(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Kept]:
        """All layers."""
        found = called(self.before, points).permute(0, 2, 3, 1).contiguous()
        seen = []
        for stage in self.stages:
            padded = F.pad(found, stage.border)
            seen.append(padded)
            found = stage.run(padded)
        seen.append(found)
        return called(self.after, found.permute(0, 3, 1, 2)), _Maps(seen, rows)

    def windowed(self, fixed: Memos, memos: Memos, change: Change) -> tuple[Tensor, Kept] | None:
        """Each stage where the window reaches, then the layers after it."""
        if self._share(change.size) > _WORTH:
            return None
        low, high = (windows(values, change) for values in fixed)
        values = torch.where(change.signs[..., None, None], high, low)
        values = values.permute(0, 2, 3, 1).contiguous()
        piece = Piece(values, change.top, change.left)
        pieces = []
        for stage, memo in zip(self.stages, memos, strict=False):
            piece = piece.moved(stage.vertical.padding, stage.horizontal.padding)
            pieces.append(piece)
            piece = stage.follow(piece, memo, change.rows)
        pieces.append(piece)
        found = paste(memos[-1].index_select(0, change.rows), piece)
        return called(self.after, found.permute(0, 3, 1, 2)), _Pieces(pieces, change.rows)

    def _share(self, size: tuple[int, int]) -> float:
        """Share of a full pass's multiplications that a window of this size costs."""
        part, whole = 0.0, 0.0
        high, wide = size
        for stage in self.stages:
            high, wide = stage.vertical.reached(high), stage.horizontal.reached(wide)
            share = high * wide / (stage.vertical.out * stage.horizontal.out)
            part += share * stage.weight_uses
            whole += stage.weight_uses
        return part / whole


def receptive(
    before: list[nn.Module], rest: list[nn.Module], shape: torch.Size
) -> Receptive | None:
    """The shortcut through a net whose first layer that is not pointwise is a convolution.

    Args:
        before: the pointwise layers before it.
        rest: the other layers.
        shape: (C, H, W) of the images.
    """
    stages, _ = stages_of(rest, shape)
    kept: list[Stage] = []
    high, wide = shape[1] // 4, shape[2] // 4
    remembered = 0
    for stage in stages:
        high, wide = stage.vertical.reached(high), stage.horizontal.reached(wide)
        remembered += torch.Size(stage.padded_shape).numel()
        most = _WORTH * stage.vertical.out * stage.horizontal.out
        if high * wide > most or remembered > _MOST_REMEMBERED:
            break
        kept.append(stage)
    if not kept:
        return None
    used = sum(1 + len(stage.after) for stage in kept)
    return Receptive(before, kept, rest[used:])


@dataclass(frozen=True)
class _Maps:
    """What a full pass saw: whole maps."""

    maps: list[Tensor]
    rows: Tensor

    def write(self, memos: Memos, accepted: Tensor) -> None:
        for memo, seen in zip(memos, self.maps, strict=True):
            memo[self.rows[accepted]] = seen[accepted]


@dataclass(frozen=True)
class _Pieces:
    """What a windowed pass saw: a piece of each map."""

    pieces: list[Piece]
    rows: Tensor

    def write(self, memos: Memos, accepted: Tensor) -> None:
        rows = self.rows[accepted]
        for memo, piece in zip(memos, self.pieces, strict=True):
            index = pixels_of(
                rows, piece.top[accepted], piece.left[accepted], piece.values.shape[1:3], memo
            )
            values = piece.values[accepted].reshape(-1, memo.shape[3])
            memo.view(-1, memo.shape[3]).index_copy_(0, index.flatten(), values)
