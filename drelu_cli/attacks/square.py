"""Square: random search over windows, no gradients (Andriushchenko et al. 2020, 1912.00049)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import same
from drelu_cli.attacks.gradient import forward
from drelu_cli.attacks.incremental import shortcut_through
from drelu_cli.attacks.losses import margin
from drelu_cli.attacks.prolonged import shorter_run
from drelu_cli.attacks.square_linf import LinfSearch
from drelu_cli.attacks.square_windows import BLOCK, L2Windows, LinfWindows
from drelu_cli.attacks.stages import KEPT, drawn_for, fresh, result, samples, untouched
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive, taken
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"), prolongs="queries")
def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    queries: Annotated[int, Field(ge=1)] = 5000,
    p: Annotated[float, Field(gt=0, le=1)] = 0.8,
    ties: bool = False,
) -> AttackResult:
    """Random search on the margin loss, as in AutoAttack.

    The side of the window is sqrt(p_t * height * width). p_t is `p` up to proposal 10 (counted
    from 0) and halves after proposals 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 whatever
    `queries` is: AutoAttack's `resc_schedule=False`. The paper's schedule is the same for 10,000
    queries.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, C, H, W) in [0, 1]; other shapes count as one row of pixels.
        y: (N,) int64.
        threat: ball; Linf starts from vertical stripes, L2 from a grid of bumps.
        stream: random numbers.
        queries: points proposed per sample, the start included. A proposal that changes no pixel
            is a query too, though it is not sent to the model: `forwards` counts what was sent.
            In the Linf ball a plain chain of layers is recomputed only where the window reaches
            (CPU; `attacks.incremental`), and a traced net's batch norms are folded into its
            convolutions (CPU, float32; `attacks.folded`); what that takes for misclassified is
            sent once more, whole, to the model itself, and counted once more.
        p: share of the pixels in the first windows.
        ties: accept a proposal of equal loss, so that the search can walk on flat losses.
    """
    if threat.eps == 0:
        return untouched(x)
    queue, drawn = samples(x, y, stream), stream.at("square")
    if threat.norm == "linf":
        windows = LinfWindows(x.shape[1:], threat, p)
        whole = x.shape[1:] == (windows.c, windows.h, windows.w)
        through = shortcut_through(model, x) if whole and len(x) else None
        search = LinfSearch(model, drawn, windows, queries=queries, ties=ties, shortcut=through)
        return search.run(queue, shorter_run(queries))
    walk = L2Search(model, drawn, L2Windows(x.shape[1:], threat, p), queries, ties)
    return result(drive(queue, walk.start, walk.step, keep=KEPT))


class L2Search:
    """The step function in the L2 ball; `step` counts the queries, `best` is the current point."""

    def __init__(
        self, model: nn.Module, stream: Stream, windows: L2Windows, queries: int, ties: bool
    ) -> None:
        self.model = model
        self.stream = stream
        self.windows = windows
        self.queries = queries
        self.ties = ties

    def start(self, rows: Rows) -> Rows:
        """The state at the first point; `draws` are the numbers of block number `block`."""
        drawn = drawn_for(self.stream, rows)
        state = fresh(rows, self.windows.first(rows["x"], drawn))
        return {**state, "draws": self._block(rows["index"], state["step"]), "block": state["step"]}

    def step(self, rows: Rows) -> Rows:
        """Sends one point per sample to the model and keeps it where it is better."""
        rows, point, spent = self._next_point(rows)
        loss, wrong = self._asked(point, rows, (~spent).nonzero()[:, 0])
        gain = loss >= rows["loss"] if self.ties else loss > rows["loss"]
        better = wrong | (gain & ~spent)
        queries = rows["step"] + (~spent).long()
        return {
            **rows,
            "best": choose(better, point, rows["best"]),
            "loss": choose(better, loss, rows["loss"]),
            "wrong": wrong,
            "step": queries,
            "forwards": rows["forwards"] + (~spent).long(),
            "done": wrong | (queries >= self.queries),
        }

    def _asked(self, point: Tensor, rows: Rows, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and misclassification, (n,), at the points of the samples `asked`."""
        if len(asked) == len(point):
            seen = forward(self.model, point, rows["y"], margin)
            return seen.loss, seen.wrong
        loss, wrong = rows["loss"], torch.zeros_like(rows["wrong"])
        if len(asked):
            seen = forward(self.model, point[asked], rows["y"][asked], margin)
            loss = loss.index_copy(0, asked, seen.loss)
            wrong = wrong.index_copy(0, asked, seen.wrong)
        return loss, wrong

    def _next_point(self, rows: Rows) -> tuple[Rows, Tensor, Tensor]:
        """The first proposal of each sample that changes a pixel.

        Returns:
            rows: with the queries that changed nothing counted.
            point: (n, ...).
            spent: (n,) bool, no query was left for a proposal that changes a pixel.
        """
        first = rows["step"] == 0
        rows, proposal = self._proposed(rows)
        point = choose(first, rows["best"], proposal)
        idle = (~first & same(point, rows["best"])).nonzero()[:, 0]
        step = rows["step"].index_add(0, idle, torch.ones_like(idle))
        idle = idle[step[idle] < self.queries]
        while len(idle):
            part, proposal = self._proposed({**taken(rows, idle), "step": step[idle]})
            point[idle] = proposal
            # The block may have moved on: the samples keep what was drawn for it.
            rows = {name: rows[name].index_copy(0, idle, part[name]) for name in _DRAWN} | {
                name: rows[name] for name in rows if name not in _DRAWN
            }
            idle = idle[same(proposal, part["best"])]
            step = step.index_add(0, idle, torch.ones_like(idle))
            idle = idle[step[idle] < self.queries]
        return {**rows, "step": step}, point, step >= self.queries

    def _proposed(self, rows: Rows) -> tuple[Rows, Tensor]:
        """One proposal per sample, (n, ...); proposal t follows query t + 1."""
        number = (rows["step"] - 1).clamp(min=0)
        block = number // BLOCK
        stale = (block != rows["block"]).nonzero()[:, 0]
        if len(stale):
            draws = self._block(rows["index"][stale], block[stale])
            rows = {**rows, "draws": rows["draws"].index_copy(0, stale, draws), "block": block}
        column = (number % BLOCK).view(-1, 1, 1).expand(-1, 1, rows["draws"].shape[2])
        draws = rows["draws"].gather(1, column)[:, 0]
        return rows, self.windows.propose(rows["x"], rows["best"], number, draws)

    def _block(self, index: Tensor, block: Tensor) -> Tensor:
        """(n, BLOCK, draws per proposal) uniform numbers."""
        drawn = drawn_for(self.stream, {"index": index})
        return drawn.uniform("proposals", (BLOCK, self.windows.draws), step=block)


_DRAWN = ("draws", "block")
