"""Ends of searches, kept while a model is examined: a longer run of the same search goes on there.

The court walks with ties for 5,000 queries as evidence and for 10,000 as a remedy. Points are not
stored with outcomes, so after a restart the longer run begins at its start; it finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drelu_cli.attacks.prolonged import Ended
from drelu_cli.core.digest import digest_of
from drelu_cli.core.records import Outcome, State, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.samples import Samples

# Bytes of points that one model's searches may keep; what is beyond is not kept.
MOST_BYTES = 256 * 2**20


@dataclass
class Walks:
    """Ends of one model's searches, by search, length and sample.

    Attributes:
        most_bytes: of points, all searches together.
    """

    most_bytes: int = MOST_BYTES
    _ends: dict[str, dict[int, list[tuple[Tensor, Ended]]]] = field(default_factory=dict)
    _bytes: int = 0

    def keep(self, run: Search, samples: Samples, outcomes: Sequence[Outcome], x: Tensor) -> None:
        """Keeps where a search has left the samples that it did not break.

        Args:
            run: an attack that is no search with a length leaves nothing.
            samples: what it ran on.
            outcomes: one per sample.
            x: (N, ...) the points.
        """
        if run.length is None:
            return
        stands = torch.tensor([one.state is State.ROBUST for one in outcomes], dtype=torch.bool)
        size = int(stands.sum()) * x[:1].numel() * x.element_size()
        if size == 0 or self._bytes + size > self.most_bytes:
            return
        self._bytes += size
        forwards = torch.tensor([one.forwards for one in outcomes])[stands]
        backwards = torch.tensor([one.backwards for one in outcomes])[stands]
        ended = Ended(x[stands.to(x.device)].cpu(), forwards, backwards, run.length)
        lengths = self._ends.setdefault(run.key, {})
        lengths.setdefault(run.length, []).append((samples.index.cpu()[stands], ended))

    def end(self, run: Search, samples: Samples) -> Ended | None:
        """Where the longest shorter run left all of these samples; None where none did."""
        if run.length is None:
            return None
        kept = self._ends.get(run.key, {})
        shorter = sorted((one for one in kept if one < run.length), reverse=True)
        found = (_joined(kept[one], samples) for one in shorter)
        return next((one for one in found if one is not None), None)


@dataclass(frozen=True)
class Search:
    """A run as its ends are told apart.

    Attributes:
        key: everything that decides its way but the length.
        length: of an attack that declares which option prolongs it; None for others.
    """

    key: str
    length: int | None

    @staticmethod
    def of(bound: Bound, threat: ThreatModel, seed: int) -> Search:
        """The run of `bound` at this threat."""
        name = getattr(bound.target, "prolongs", None)
        options = {key: value for key, value in bound.effective.items() if key != name}
        version = getattr(bound.target, "version", 0)
        key = digest_of([bound.name, version, options, threat.norm, threat.eps, seed])
        return Search(key, None if name is None else int(bound.effective[name]))


def _joined(kept: Sequence[tuple[Tensor, Ended]], samples: Samples) -> Ended | None:
    """The ends at `samples`, in their order; None where one is missing."""
    index = torch.cat([one for one, _ in kept])
    ordered, order = index.sort()
    wanted = samples.index.cpu()
    at = torch.searchsorted(ordered, wanted).clamp(max=len(index) - 1)
    if not bool((ordered[at] == wanted).all()):
        return None
    rows, device = order[at], samples.x.device
    return Ended(
        torch.cat([one.points for _, one in kept])[rows].to(device),
        torch.cat([one.forwards for _, one in kept])[rows].to(device),
        torch.cat([one.backwards for _, one in kept])[rows].to(device),
        kept[0][1].length,
    )
