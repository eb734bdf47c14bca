"""Square's search in the Linf ball: what a point is, is told by one sign per pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.gradient import logits_at
from drelu_cli.attacks.prolonged import Ended
from drelu_cli.attacks.shortcut import Change, Kept, Shortcut, window_pixels, windows_at
from drelu_cli.attacks.square_answer import Answer, listed, named
from drelu_cli.attacks.square_windows import BLOCK, HALVINGS, LinfWindows
from drelu_cli.attacks.stages import drawn_for, fresh
from drelu_cli.runtime.driver import Rows, choose, drive, micro_batch_size
from drelu_cli.runtime.streams import Stream

# Blocks of draws that a sample holds: samples run out of them at different times, and those
# that have used half are served together.
_BLOCKS = 4
# Proposals are looked at in one go, to pass over those that change nothing, as long as they
# have about this many pixels together.
_LOOKED_AT = 80
# At least so many where every pass is a whole one: a sample that finds none among them misses
# the pass, and passes of fewer images cost more for each.
_AT_LEAST = 4
_TAKEN_UP = ("up", "step", "forwards", "backwards")


class LinfSearch:
    """The step function; `up` holds the signs of the current point, `step` counts the queries.

    Every point of the search has x + eps or x - eps, cut to the box, in every pixel. `unseen`:
    the model has not been asked about the current point, which is the first one or the last one
    of a shorter run.
    """

    def __init__(
        self,
        model: nn.Module,
        stream: Stream,
        windows: LinfWindows,
        *,
        queries: int,
        ties: bool,
        shortcut: Shortcut | None,
    ) -> None:
        self.model = model
        self.stream = stream
        self.windows = windows
        self.queries = queries
        self.ties = ties
        self.shortcut = shortcut
        self.bounds = torch.tensor(HALVINGS)
        windowed = shortcut is not None and shortcut.follows_windows
        self.least = 1 if windowed else _AT_LEAST

    def run(self, queue: Rows, ended: Ended | None) -> AttackResult:
        """All samples of `queue` to their end, from where a shorter run ended or from the start."""
        if ended is not None:
            queue = {**queue, **self._taken_up(queue["x"], ended)}
        found = drive(queue, self.start, self.step, keep=("up", "forwards", "backwards"))
        points = torch.empty_like(queue["x"])
        # In parts: memory beyond queue and result is bounded by the micro-batch.
        size = micro_batch_size()
        for begin in range(0, len(points), size):
            part = slice(begin, begin + size)
            points[part] = self.windows.points(queue["x"][part], found["up"][part])
        return AttackResult(points, found["forwards"], found["backwards"])

    def start(self, rows: Rows) -> Rows:
        """The state at the first point; `draws` are the numbers from block number `block` on."""
        x = rows["x"]
        state = {**fresh(rows, x), **{name: rows[name] for name in _TAKEN_UP if name in rows}}
        del state["best"]
        if "up" not in state:
            state["up"] = self.windows.stripes(drawn_for(self.stream, rows))
        state |= self._remembered(x)
        block = state["step"] // BLOCK
        draws = self._blocks(rows["index"], block)
        return {**state, "draws": draws, "block": block, "unseen": ~state["done"]}

    def _taken_up(self, x: Tensor, ended: Ended) -> Rows:
        """What the end of a shorter run says of the state; the last point is looked at again."""
        no = torch.zeros((), dtype=torch.bool, device=x.device)
        up = ended.points > (self.windows.moved(x, no) + self.windows.moved(x, ~no)) / 2
        return {
            "up": up.view(-1, self.windows.c, self.windows.h, self.windows.w),
            "step": torch.full_like(ended.forwards, ended.length - 1),
            "forwards": ended.forwards - 1,
            "backwards": ended.backwards,
        }

    def _remembered(self, x: Tensor) -> Rows:
        if self.shortcut is None:
            return {}
        no = torch.zeros((), dtype=torch.bool, device=x.device)
        low, high = self.windows.moved(x, no), self.windows.moved(x, ~no)
        with torch.no_grad():
            fixed, memos = self.shortcut.fixed(low, high), self.shortcut.blank(low)
        return named("fixed", fixed) | named("memo", memos)

    @torch.no_grad()
    def step(self, rows: Rows) -> Rows:
        """Sends one point per sample to the model and keeps it where it is better."""
        rows = self._drawn(rows)
        begun = ~rows["unseen"]
        spent = (~begun).long()
        answer = Answer(rows)
        left = []
        for level, members in self._by_level(rows, begun):
            proposals, used = self._next(rows, level, members)
            spent = spent.index_add(0, members, used)
            if len(proposals.rows) and not self._asked_windowed(rows, answer, proposals):
                left.append(proposals)
        # One pass for all: samples drift apart, and a pass of few images costs more for each.
        self._ask_whole(rows, answer, (~begun).nonzero()[:, 0], left)
        self._confirm(rows, answer)
        return self._accepted(rows, answer, spent)

    def _accepted(self, rows: Rows, answer: Answer, spent: Tensor) -> Rows:
        loss, wrong = answer.loss, answer.wrong
        gain = loss >= rows["loss"] if self.ties else loss > rows["loss"]
        better = wrong | (gain & answer.asked)
        queries = rows["step"] + spent
        return {
            **rows,
            **(answer.written(rows, better) if bool(better.any()) else {}),
            "loss": choose(better, loss, rows["loss"]),
            "wrong": rows["wrong"] | wrong,
            "unseen": torch.zeros_like(wrong),
            "step": queries,
            "forwards": rows["forwards"] + answer.passes,
            "done": rows["done"] | wrong | (queries >= self.queries),
        }

    def _by_level(self, rows: Rows, begun: Tensor) -> list[tuple[int, Tensor]]:
        """The samples (indices) that are not done, by the size of their next window."""
        level = torch.bucketize(rows["step"] - 1, self.bounds.to(begun.device)).masked_fill(
            ~begun | rows["done"], -1
        )
        low, high = (int(value) for value in level.aminmax())
        if low == high >= 0:
            return [(low, torch.arange(len(level), device=level.device))]
        levels = range(max(low, 0), high + 1)
        groups = [(value, (level == value).nonzero()[:, 0]) for value in levels]
        return [(value, members) for value, members in groups if len(members)]

    def _next(self, rows: Rows, level: int, members: Tensor) -> tuple[Change, Tensor]:
        """Each member's next proposal that changes a pixel.

        Members without one among those looked at have no proposal now.

        Returns:
            The proposals, and (g,) int64 the queries used, those that change nothing included.
        """
        high, wide = self.windows.table[level]
        channels = self.windows.c
        look = max(_LOOKED_AT // (channels * high * wide), self.least)
        number = (rows["step"][members] - 1)[:, None] + torch.arange(look, device=members.device)
        column = number - BLOCK * rows["block"][members, None]
        end = HALVINGS[level] + 1 if level < len(HALVINGS) else self.queries
        usable = (number < min(end, self.queries - 1)) & (column < BLOCK * _BLOCKS)
        column = column.clamp(max=BLOCK * _BLOCKS - 1) + members[:, None] * (BLOCK * _BLOCKS)
        draws = rows["draws"].view(-1, self.windows.draws).index_select(0, column.view(-1))
        top, left = self.windows.places(draws, high, wide)
        signs = draws[:, 2:] >= 0.5
        samples = members.repeat_interleave(look) if look > 1 else members
        standing = windows_at(rows["up"], samples, top, left, (high, wide))
        # A window changes nothing where all of its pixels in a channel have the sign already.
        idle = standing.flatten(2).sum(dim=2) == signs * (high * wide)
        moves = ~idle.all(dim=1).view(-1, look) & usable
        changes = Change(samples, top, left, signs, standing)
        if look == 1:
            return changes.taken(moves.view(-1).nonzero()[:, 0]), usable.view(-1).long()
        found = moves.any(dim=1)
        chosen = moves.to(torch.uint8).argmax(dim=1)
        used = torch.where(found, chosen + 1, usable.sum(dim=1))
        at = found.nonzero()[:, 0]
        return changes.taken(at * look + chosen.index_select(0, at)), used

    def _asked_windowed(self, rows: Rows, answer: Answer, proposals: Change) -> bool:
        """Asks the shortcut about the windows; False where a whole pass costs no more."""
        answer.proposals.append(proposals)
        if self.shortcut is None:
            return False
        found = self.shortcut.windowed(listed(rows, "fixed"), listed(rows, "memo"), proposals)
        if found is None:
            return False
        self._answered(rows, answer, proposals.rows, found)
        return True

    def _ask_whole(
        self, rows: Rows, answer: Answer, first: Tensor, proposals: list[Change]
    ) -> None:
        """Whole points: the first ones of the samples `first`, and the proposals."""
        if len(first) or proposals:
            asked, points = self._points(rows, first, proposals)
            self._answered(rows, answer, asked, self._pass(points, asked))

    def _points(self, rows: Rows, standing: Tensor, changes: list[Change]) -> tuple[Tensor, Tensor]:
        """The current points of the samples `standing`, then the changed ones.

        Returns:
            (g,) int64 the samples, and (g, C, H, W) their points.
        """
        asked = torch.cat([standing, *(change.rows for change in changes)])
        up = rows["up"].index_select(0, asked)
        begin = len(standing)
        for change in changes:
            end = begin + len(change.rows)
            pixels = window_pixels(change, *up.shape[2:])
            signs = change.signs[..., None, None].expand_as(change.standing)
            up[begin:end].flatten(1).scatter_(1, pixels, signs.flatten(1))
            begin = end
        return asked, self.windows.points(rows["x"].index_select(0, asked), up)

    def _pass(self, points: Tensor, asked: Tensor) -> tuple[Tensor, Kept | None]:
        with torch.no_grad():
            if self.shortcut is not None:
                return self.shortcut.full(points, asked)
            return logits_at(self.model, points), None

    def _answered(
        self, rows: Rows, answer: Answer, asked: Tensor, found: tuple[Tensor, Kept | None]
    ) -> None:
        logits, kept = found
        answer.record(asked, logits, rows["y"][asked])
        answer.passes = answer.passes.index_add(0, asked, torch.ones_like(asked))
        if kept is not None:
            answer.kept.append((asked, kept))

    def _confirm(self, rows: Rows, answer: Answer) -> None:
        """Asks the model itself about points that a shortcut says are misclassified."""
        if self.shortcut is None:
            return
        if not bool(answer.wrong.any()):
            return
        first = (answer.wrong & rows["unseen"]).nonzero()[:, 0]
        asked, points = self._points(rows, first, answer.among(answer.wrong))
        answer.record(asked, logits_at(self.model, points), rows["y"][asked])
        answer.passes = answer.passes.index_add(0, asked, torch.ones_like(asked))

    def _drawn(self, rows: Rows) -> Rows:
        """The state with draws for each sample's next proposal."""
        block = (rows["step"] - 1).clamp(min=0) // BLOCK
        used = block - rows["block"]
        if not bool((used >= _BLOCKS).any()):
            return rows
        late = (used >= _BLOCKS // 2).nonzero()[:, 0]
        draws = self._blocks(rows["index"][late], block[late])
        return {
            **rows,
            "draws": rows["draws"].index_copy(0, late, draws),
            "block": rows["block"].index_copy(0, late, block[late]),
        }

    def _blocks(self, index: Tensor, block: Tensor) -> Tensor:
        """(n, _BLOCKS * BLOCK, draws per proposal) uniform numbers."""
        steps = block[:, None] + torch.arange(_BLOCKS, device=block.device)
        drawn = drawn_for(self.stream, {"index": index.repeat_interleave(_BLOCKS)})
        shape = (BLOCK, self.windows.draws)
        draws = drawn.uniform("proposals", shape, step=steps.flatten())
        return draws.view(len(index), _BLOCKS * BLOCK, self.windows.draws)
