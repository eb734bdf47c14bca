"""Basin hopping over the minima of a training (Wales & Doye 1997, J. Phys. Chem. A 101:5111).

The current minimum's weights are perturbed and trained again; the minimum that this ends in is
accepted where its loss is lower, or by chance (Metropolis). arXiv 1810.11726 uses it to find
minima of different depth, and compares their sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.caps import project_caps_
from drelu_cli.runtime.streams import Stream

Weights = dict[str, Tensor]
_STATE = ("minima", "current", "current_loss", "lowest", "lowest_loss")


@dataclass
class Hopping:
    """Where a walk over minima stands.

    Attributes:
        seed: of the draws.
        step: size of a perturbation, relative to each tensor's standard deviation.
        temperature: of the Metropolis rule, in units of the loss; 0 accepts improvements only.
        minima: per minimum hop, accepted, validation_loss and what else was measured; hop 0 is
            where the walk starts.
        current: weights of the minimum that the next hop leaves from.
        current_loss: its validation loss.
        lowest: weights of the lowest minimum so far: the result.
        lowest_loss: its validation loss; infinite before the first.
    """

    seed: int
    step: float
    temperature: float
    minima: list[dict[str, Any]] = field(default_factory=list)
    current: Weights | None = None
    current_loss: float = math.inf
    lowest: Weights | None = None
    lowest_loss: float = math.inf

    def offer(self, weights: Weights, scores: Mapping[str, float]) -> dict[str, Any]:
        """Takes up a minimum that was found, accepted or not; its record.

        Args:
            weights: a model's state, not changed afterwards.
            scores: `validation_loss`, by which it is judged, and what else is to be recorded.
        """
        hop, loss = len(self.minima), scores["validation_loss"]
        accepted = hop == 0 or self._accepts(hop, loss)
        if accepted:
            self.current, self.current_loss = weights, loss
        if self.lowest is None or loss < self.lowest_loss:
            self.lowest, self.lowest_loss = weights, loss
        record = {"hop": hop, "accepted": accepted, **scores}
        self.minima.append(record)
        return record

    def perturb_(self, model: nn.Module) -> None:
        """Moves the trained parameters by the draws of the next hop, in place; caps stay >= 0.

        Each tensor gets Gaussian noise of `step` times its standard deviation, of its root mean
        square where all entries are equal. Frozen parameters and buffers stay.
        """
        stream = Stream(self.seed, torch.zeros(1, dtype=torch.int64), ("hop", len(self.minima)))
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if tensor.requires_grad:
                    noise = stream.normal(name, tuple(tensor.shape), dtype=torch.float64)[0]
                    tensor.add_((self.step * _scale(tensor) * noise.to(tensor)).to(tensor))
        project_caps_(model)

    def state(self) -> dict[str, Any]:
        """What `resume` takes, as tensors and plain data."""
        return {name: getattr(self, name) for name in _STATE}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.minima = list(self.minima)

    def _accepts(self, hop: int, loss: float) -> bool:
        if not math.isfinite(loss):
            return False
        if loss < self.current_loss:
            return True
        if self.temperature == 0:
            return False
        stream = Stream(self.seed, torch.zeros(1, dtype=torch.int64), ("hop", hop))
        draw = float(stream.uniform("accept", (), dtype=torch.float64))
        return draw < math.exp((self.current_loss - loss) / self.temperature)


def _scale(tensor: Tensor) -> Tensor:
    """0-dim standard deviation of the entries, or their root mean square where it is 0."""
    exact = tensor.detach().float()
    spread = exact.std(correction=0)
    return torch.where(spread > 0, spread, exact.square().mean().sqrt())


def copy_of(model: nn.Module) -> Weights:
    """A model's state, unaffected by further training."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
