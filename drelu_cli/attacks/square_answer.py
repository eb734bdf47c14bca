"""What Square's search in the Linf ball learns from a query, and what of it goes into the state."""

from __future__ import annotations

import torch
from torch import Tensor

from drelu_cli.attacks.losses import margin, misclassified
from drelu_cli.attacks.shortcut import Change, Kept, Memos, window_pixels
from drelu_cli.runtime.driver import Rows


class Answer:
    """What a step learns: per sample loss and misclassification of the point asked about."""

    def __init__(self, rows: Rows) -> None:
        self.loss = rows["loss"]
        self.wrong = torch.zeros_like(rows["wrong"])
        self.asked = torch.zeros_like(rows["wrong"])
        self.passes = torch.zeros_like(rows["forwards"])
        self.proposals: list[Change] = []
        self.kept: list[tuple[Tensor, Kept]] = []

    def record(self, asked: Tensor, logits: Tensor, y: Tensor) -> None:
        """Takes in the logits of the points of the samples `asked`."""
        # NaN where a logit is not finite: such a sample is misclassified, with infinite loss.
        loss = margin(logits, y) + (logits - logits).sum(dim=1)
        wrong = torch.zeros_like(asked, dtype=torch.bool)
        suspect = (~(loss < 0)).nonzero()[:, 0]
        if len(suspect):
            loss = loss.masked_fill(loss.isnan(), torch.inf)
            wrong[suspect] = misclassified(logits[suspect], y[suspect])
        self.loss = self.loss.index_copy(0, asked, loss)
        self.wrong = self.wrong.index_copy(0, asked, wrong)
        self.asked = self.asked.index_fill(0, asked, True)

    def among(self, chosen: Tensor) -> list[Change]:
        """The proposals of the samples in the mask `chosen`, (n,) bool."""
        return [
            proposals.taken(chosen.index_select(0, proposals.rows).nonzero()[:, 0])
            for proposals in self.proposals
        ]

    def written(self, rows: Rows, better: Tensor) -> Rows:
        """The state's `up` and memos with the points of the samples `better`, (n,) bool."""
        up = rows["up"].clone()
        for chosen in self.among(better):
            pixels = window_pixels(chosen, *up.shape[2:])
            signs = chosen.signs[..., None, None].expand_as(chosen.standing)
            up.flatten(1)[chosen.rows[:, None], pixels] = signs.flatten(1)
        found = [memo.clone() for memo in listed(rows, "memo")]
        for asked, kept in self.kept:
            kept.write(found, better.index_select(0, asked).nonzero()[:, 0])
        return {"up": up, **named("memo", found)}


def named(kind: str, tensors: Memos) -> Rows:
    """What a shortcut remembers, as part of a state."""
    return {f"{kind}{number}": tensor for number, tensor in enumerate(tensors)}


def listed(rows: Rows, kind: str) -> Memos:
    """What a state holds of that kind."""
    return [rows[name] for name in rows if name.startswith(kind)]
