"""The fit loop: phases, early stopping, plateau schedule, one resumable state per epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.caps import cap_penalty, cap_statistics, learnable_caps, project_caps_
from drelu_cli.core.errors import ModelError
from drelu_cli.core.recipe import Train
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import Stream, permutation
from drelu_cli.training.contract import Loss, Scheme

_VALIDATION_BATCH = 1000


@dataclass(frozen=True)
class Images:
    """A split on the device: uint8 images, labels and each sample's index in its data set.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        index: (N,) int64, the counter of the random streams.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) float32 in [0, 1], labels (B,) and indices (B,) of some rows."""
        return self.images[rows].float() / 255.0, self.labels[rows], self.index[rows]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class BoundPhase:
    """One phase ready to run.

    Attributes:
        name: the scheme's registered name.
        scheme: the scheme with its options bound.
        epochs: at most so many.
        lr: learning rate of the weights.
        cap_lr: learning rate of the caps.
    """

    name: str
    scheme: Scheme
    epochs: int
    lr: float
    cap_lr: float


@dataclass(frozen=True)
class FitResult:
    """What a training did.

    Attributes:
        history: one record per epoch.
        stopped_by: `epochs` or `early stopping`, of the last phase.
        validation_loss: task + penalty of the weights that were kept; NaN without validation.
        seconds: time spent in epochs, interrupted runs included.
    """

    history: tuple[dict[str, Any], ...]
    stopped_by: str
    validation_loss: float
    seconds: float


class Fit:
    """One training, epoch by epoch; `state` after any epoch continues it exactly.

    Loss: scheme(model, x, y) + lambda * sum_i m_i^2 (the source paper, eq. 1). Caps are
    projected to >= 0 after every step, Adam's moments are kept. Every random draw depends on
    (seed, phase, epoch, sample), so an interrupted training repeats nothing and changes nothing.

    Args:
        model: trained in place.
        data: training split.
        validation: validation split; None turns early stopping and the schedule off.
        phases: run in order; each starts with a new optimiser from the weights kept so far.
        lambda_: weight of the cap penalty.
        settings: batch size, seed, patience.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Images,
        validation: Images | None,
        phases: Sequence[BoundPhase],
        lambda_: float,
        settings: Train,
    ) -> None:
        self.model = model
        self.data = data
        self.validation = validation
        self.phases = tuple(phases)
        self.lambda_ = lambda_
        self.settings = settings
        self.phase = 0
        self.epoch = 0
        self.stale = 0
        self.best_loss = float("inf")
        self.best: dict[str, Tensor] | None = None
        self.history: list[dict[str, Any]] = []
        self.stopped_by = "epochs"
        self.seconds = 0.0
        self._skip_empty_phases()
        if not self.finished:
            self._start_phase()

    @property
    def finished(self) -> bool:
        """Whether every phase has ended."""
        return self.phase >= len(self.phases)

    def run(self, on_epoch: Callable[[Fit, Mapping[str, Any]], None]) -> FitResult:
        """Trains to the end; `on_epoch(self, record)` after every epoch."""
        while not self.finished:
            record = self._epoch()
            self.history.append(record)
            self._after_epoch(record)
            on_epoch(self, record)
        last = self.history[-1] if self.history else {}
        return FitResult(
            history=tuple(self.history),
            stopped_by=self.stopped_by,
            validation_loss=float(last.get("best_validation_loss", float("nan"))),
            seconds=self.seconds,
        )

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, as tensors and plain data."""
        return {
            "phase": self.phase,
            "epoch": self.epoch,
            "stale": self.stale,
            "best_loss": self.best_loss,
            "best": self.best,
            "history": self.history,
            "stopped_by": self.stopped_by,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimiser": None if self.finished else self.optimiser.state_dict(),
            "schedule": None if self.finished else self.schedule.state_dict(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continues from `state`, as if it had never stopped."""
        for name in ("phase", "epoch", "stale", "best_loss", "best", "stopped_by", "seconds"):
            setattr(self, name, state[name])
        self.history = list(state["history"])
        self.model.load_state_dict(state["model"])
        if not self.finished:
            self._start_optimiser()
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])

    def _skip_empty_phases(self) -> None:
        while not self.finished and self.phases[self.phase].epochs == 0:
            self.phase += 1

    def _start_phase(self) -> None:
        self.epoch, self.stale, self.best_loss, self.best = 0, 0, float("inf"), None
        self._start_optimiser()

    def _start_optimiser(self) -> None:
        phase = self.phases[self.phase]
        caps = learnable_caps(self.model)
        held = {id(cap) for cap in caps}
        weights = [p for p in self.model.parameters() if id(p) not in held and p.requires_grad]
        groups = [{"params": weights, "lr": phase.lr}, {"params": caps, "lr": phase.cap_lr}]
        self.optimiser = torch.optim.Adam([group for group in groups if group["params"]])
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser,
            factor=self.settings.plateau_factor,
            patience=self.settings.plateau_patience,
        )

    def _stream(self, index: Tensor, purpose: str) -> Stream:
        return Stream(self.settings.seed, index, (purpose, self.phase, self.epoch))

    def _epoch(self) -> dict[str, Any]:
        began = time.perf_counter()
        phase = self.phases[self.phase]
        order = permutation(
            self.settings.seed, f"order/{self.phase}/{self.epoch}", len(self.data)
        ).to(self.data.labels.device)
        self.model.train()
        totals: dict[str, Tensor] = {}
        for rows in _batches(order, self.settings.batch):
            x, y, index = self.data.batch(rows)
            loss = phase.scheme(self.model, x, y, self._stream(index, "train"))
            penalty = self._step(loss)
            _accumulate(totals, {**loss.terms, "penalty": penalty}, len(rows))
        record: dict[str, Any] = {"phase": phase.name, "epoch": self.epoch + 1}
        record.update({name: float(total) / len(self.data) for name, total in totals.items()})
        if not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise ModelError(
                f"training diverged in epoch {self.epoch + 1}: weights are no longer finite",
                hint="lower the learning rate: --set train.lr=1e-4",
            )
        record.update(self._validate(phase))
        caps = cap_statistics(self.model)
        if caps:
            record.update({**caps, "cap_lr": self.optimiser.param_groups[-1]["lr"]})
        record["lr"] = self.optimiser.param_groups[0]["lr"]
        record["seconds"] = time.perf_counter() - began
        self.seconds += record["seconds"]
        return record

    def _step(self, loss: Loss) -> Tensor:
        penalty = cap_penalty(self.model)
        self.optimiser.zero_grad(set_to_none=True)
        (loss.total + self.lambda_ * penalty).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        project_caps_(self.model)
        return penalty.detach()

    def _validate(self, phase: BoundPhase) -> dict[str, float]:
        """The scheme's own loss on the validation split, plus the penalty, and clean accuracy."""
        if self.validation is None:
            return {}
        loss = torch.zeros((), dtype=torch.float64)
        correct = torch.zeros((), dtype=torch.int64)
        with evaluation_mode(self.model), torch.no_grad():
            for start in range(0, len(self.validation), _VALIDATION_BATCH):
                x, y, index = self.validation.batch(slice(start, start + _VALIDATION_BATCH))
                scored = phase.scheme(self.model, x, y, self._stream(index, "validation"))
                loss += scored.total.cpu().double() * len(y)
                correct += (self.model(x).argmax(dim=1) == y).sum().cpu()
            penalty = float(self.lambda_ * cap_penalty(self.model))
        count = len(self.validation)
        return {
            "validation_loss": float(loss) / count + penalty,
            "validation_accuracy": float(correct) / count,
        }

    def _after_epoch(self, record: dict[str, Any]) -> None:
        """Keeps the best weights, steps the schedule, ends the phase where it is due."""
        self.epoch += 1
        stopped = False
        if self.validation is not None:
            loss = record["validation_loss"]
            if loss < self.best_loss:
                self.best_loss, self.stale = loss, 0
                self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            else:
                self.stale += 1
            self.schedule.step(loss)
            record["best_validation_loss"] = self.best_loss
            stopped = self.stale >= self.settings.stop_patience
        if stopped or self.epoch >= self.phases[self.phase].epochs:
            self._end_phase("early stopping" if stopped else "epochs")

    def _end_phase(self, reason: str) -> None:
        self.stopped_by = reason
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.phase += 1
        self._skip_empty_phases()
        if not self.finished:
            self._start_phase()


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Slices of `order`; a last slice of one joins the one before: batch norm needs two."""
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _accumulate(totals: dict[str, Tensor], terms: Mapping[str, Tensor], count: int) -> None:
    """Adds up on the device: a synchronisation per step would cost more than the step."""
    for name, value in terms.items():
        term = value.double() * count if value.device.type != "mps" else value * count
        totals[name] = totals[name] + term if name in totals else term
