"""The fit loop: phases, early stopping, plateau schedule, one resumable state per epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.caps import cap_penalty, cap_statistics, project_caps_
from drelu_cli.certify.sensitivity import require_bounds
from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.core.recipe import Train
from drelu_cli.runtime.streams import Stream
from drelu_cli.training.batches import Images, TrainingImages, accumulate, batches
from drelu_cli.training.contract import BoundPhase, FitResult, Loss, Snapshot
from drelu_cli.training.hopping import Hopping, copy_of
from drelu_cli.training.optimiser import optimiser_of, schedule_of
from drelu_cli.training.validation import Validation, validated

__all__ = ["BoundPhase", "Fit", "FitResult", "Images", "Snapshot"]

_STATE = ("phase", "epoch", "stale", "best_loss", "best", "stopped_by", "seconds")


def _keep_nothing(fit: Fit, snapshot: Snapshot) -> None:
    """For callers that want the final weights alone."""


class Fit:
    """One training, epoch by epoch; `state` after any epoch continues it exactly.

    Loss: scheme(model, x, y) + lambda * sum_i m_i^2 (the source paper, eq. 1). Caps are
    projected to >= 0 after every step, Adam's moments are kept. Every random draw depends on
    (seed, phase, epoch, sample), so an interrupted training repeats nothing and changes nothing.
    Hops come after the phases, each a perturbation and then the last phase's scheme again.

    Args:
        model: trained in place.
        data: training split, alone or mixed with generated images.
        validation: validation split; None turns early stopping and the schedule off.
        phases: run in order; each starts with a new optimiser from the weights kept so far.
        lambda_: weight of the cap penalty.
        settings: batch size, seed, patience, hops, which weights are kept on the way.

    Raises:
        BadValue: hops without a validation split or without a phase.
        ModelError: a scheme that needs bounds, and a model that has none.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingImages,
        validation: Images | None,
        phases: Sequence[BoundPhase],
        lambda_: float,
        settings: Train,
    ) -> None:
        self.model = model
        self.data = data
        self.validation = validation
        self.phases = (*phases, *_hops(phases, validation, settings))
        self.first_hop = len(phases)
        self.lambda_ = lambda_
        self.settings = settings
        self.hopping = Hopping(settings.seed, settings.hop_step, settings.hop_temperature)
        self.phase = 0
        self.epoch = 0
        self.stale = 0
        self.best_loss = float("inf")
        self.best: dict[str, Tensor] | None = None
        self.history: list[dict[str, Any]] = []
        self.stopped_by = "epochs"
        self.seconds = 0.0
        if any(phase.regime.bounds and phase.epochs for phase in self.phases):
            require_bounds(model, data.batch(slice(0, 1))[0])
        self._start_next()

    @property
    def finished(self) -> bool:
        """Whether every phase has ended."""
        return self.phase >= len(self.phases)

    @property
    def hop(self) -> int:
        """Which hop is under way, from 1; 0 in the phases before."""
        return max(0, self.phase - self.first_hop + 1)

    def run(
        self,
        on_epoch: Callable[[Fit, Mapping[str, Any]], None],
        keep: Callable[[Fit, Snapshot], None] = _keep_nothing,
    ) -> FitResult:
        """Trains to the end.

        Args:
            on_epoch: called as `on_epoch(self, record)` after every epoch.
            keep: called as `keep(self, snapshot)` where weights are to be kept, before the
                epoch's `on_epoch`; called again with the same weights after an interruption
                between the two.
        """
        while not self.finished:
            if self.hop and self.epoch == 0:
                self._leave_minimum(keep)
            self.end_epoch(self.train_epoch(), on_epoch, keep)
        return self.result()

    def end_epoch(
        self,
        record: dict[str, Any],
        on_epoch: Callable[[Fit, Mapping[str, Any]], None],
        keep: Callable[[Fit, Snapshot], None] = _keep_nothing,
    ) -> None:
        """Takes over a trained epoch: history, best weights, schedule, the next phase."""
        self.history.append(record)
        every = self.settings.checkpoint_every
        if every and not self.hop and len(self.history) % every == 0:
            keep(self, Snapshot("epoch", len(self.history), record))
        reason = self._after_epoch(record)
        if reason is not None:
            self._end_phase(reason, keep)
        on_epoch(self, record)

    def result(self) -> FitResult:
        """What the training did, once it has ended."""
        return FitResult(
            history=tuple(self.history),
            stopped_by=self.stopped_by,
            validation_loss=self._kept_loss(),
            seconds=self.seconds,
            minima=tuple(self.hopping.minima),
        )

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, as tensors and plain data."""
        return {
            **{name: getattr(self, name) for name in _STATE},
            "history": self.history,
            "hopping": self.hopping.state(),
            "model": self.model.state_dict(),
            "optimiser": None if self.finished else self.optimiser.state_dict(),
            "schedule": None if self.finished else self.schedule.state_dict(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continues from `state`, as if it had never stopped."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.history = list(state["history"])
        if "hopping" in state:  # states of the first release have none
            self.hopping.resume(state["hopping"])
        self.model.load_state_dict(state["model"])
        if not self.finished:
            self._start_optimiser()
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])

    def _start_next(self) -> None:
        """Starts the phase at hand, or the first after it that has epochs."""
        while not self.finished and self.phases[self.phase].epochs == 0:
            self.phase += 1
        if not self.finished:
            self.epoch, self.stale, self.best_loss, self.best = 0, 0, float("inf"), None
            self._start_optimiser()

    def _start_optimiser(self) -> None:
        self.optimiser = optimiser_of(self.model, self.phases[self.phase], self.settings)
        self.schedule = schedule_of(self.optimiser, self.settings)

    def stream(self, index: Tensor, purpose: str) -> Stream:
        """The random numbers of some samples in the epoch at hand."""
        return Stream(self.settings.seed, index, (purpose, self.phase, self.epoch))

    def rows(self) -> list[Tensor]:
        """The mini-batches of the epoch at hand, as rows of the data."""
        order = self.data.order(self.settings.seed, f"{self.phase}/{self.epoch}")
        return batches(order, self.settings.batch)

    def train_epoch(self) -> dict[str, Any]:
        """Trains one epoch; gives its record, which `end_epoch` takes."""
        began = time.perf_counter()
        phase = self.phases[self.phase]
        self.model.train()
        totals: dict[str, Tensor] = {}
        for rows in self.rows():
            x, y, index = self.data.batch(rows)
            loss = phase.scheme(self.model, x, y, self.stream(index, "train"))
            penalty = self._step(loss)
            accumulate(totals, {**loss.terms, "penalty": penalty}, len(rows))
        return self.record(totals, time.perf_counter() - began)

    def record(
        self, totals: Mapping[str, Tensor], seconds: float, found: Validation | None = None
    ) -> dict[str, Any]:
        """The record of the epoch at hand, once its steps are done.

        Args:
            totals: of each term, 0-dim, summed over the images.
            seconds: spent so far.
            found: on the validation split; None measures it here, where there is one.

        Raises:
            ModelError: weights are no longer finite.
        """
        began = time.perf_counter()
        record: dict[str, Any] = {
            "phase": self.phases[self.phase].name,
            "epoch": self.epoch + 1,
        }
        if self.hop:
            record["hop"] = self.hop
        record.update({name: float(total) / len(self.data) for name, total in totals.items()})
        if not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise ModelError(
                f"training diverged in epoch {self.epoch + 1}: weights are no longer finite",
                hint="lower the learning rate: --set train.lr=1e-4",
            )
        if self.validation is not None:
            found = found or self._validated(lambda index: self.stream(index, "validation"))
            record["validation_loss"] = found.loss
            record["validation_accuracy"] = found.accuracy
        caps = cap_statistics(self.model)
        if caps:
            record.update({**caps, "cap_lr": self.optimiser.param_groups[-1]["lr"]})
        record["lr"] = self.optimiser.param_groups[0]["lr"]
        record["seconds"] = seconds + time.perf_counter() - began
        self.seconds += record["seconds"]
        return record

    def _step(self, loss: Loss) -> Tensor:
        penalty = cap_penalty(self.model)
        self.optimiser.zero_grad(set_to_none=True)
        (loss.total + self.lambda_ * penalty).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        project_caps_(self.model)
        return penalty.detach()

    def _validated(self, streams: Callable[[Tensor], Stream]) -> Validation:
        """The scheme's own loss on the validation split, plus the penalty, and clean accuracy."""
        assert self.validation is not None
        scheme = self.phases[self.phase].scheme
        return validated(self.model, self.validation, scheme, self.lambda_, streams)

    def _after_epoch(self, record: dict[str, Any]) -> str | None:
        """Keeps the best weights, steps the schedule; why the phase ends, where it does."""
        self.epoch += 1
        phase = self.phases[self.phase]
        if self.validation is not None:
            loss = record["validation_loss"]
            if not phase.regime.stops:
                self.best_loss = loss  # the last weights are kept, whatever they are
            elif loss < self.best_loss:
                self.best_loss, self.stale, self.best = loss, 0, copy_of(self.model)
            else:
                self.stale += 1
            if phase.regime.stops:
                self.schedule.step(loss)
            record["best_validation_loss"] = self.best_loss
        if self.stale >= self.settings.stop_patience:
            return "early stopping"
        return "epochs" if self.epoch >= phase.epochs else None

    def _end_phase(self, reason: str, keep: Callable[[Fit, Snapshot], None]) -> None:
        self.stopped_by = reason
        if self.best is not None:
            self.model.load_state_dict(self.best)
        if self.hop:
            self._found_minimum(keep)
            self.model.load_state_dict(self.hopping.current or {})
        self.phase += 1
        self._start_next()
        if self.finished and self.hopping.lowest is not None:
            self.model.load_state_dict(self.hopping.lowest)

    def _leave_minimum(self, keep: Callable[[Fit, Snapshot], None]) -> None:
        """The perturbation that begins a hop; the first one leaves the phases' own minimum."""
        if not self.hopping.minima:
            self._found_minimum(keep)
        self.hopping.perturb_(self.model)

    def _found_minimum(self, keep: Callable[[Fit, Snapshot], None]) -> None:
        # The same draws for all minima: their losses are compared with each other.
        found = self._validated(lambda index: Stream(self.settings.seed, index, ("minimum",)))
        scores = {
            "validation_loss": found.loss,
            "validation_accuracy": found.accuracy,
            "task_loss": found.task_loss,
        }
        record = self.hopping.offer(copy_of(self.model), scores)
        keep(self, Snapshot("hop", record["hop"], record))

    def _kept_loss(self) -> float:
        """The validation loss of the weights at the end; NaN where there is none."""
        if self.hopping.minima:
            return self.hopping.lowest_loss
        last = self.history[-1] if self.history else {}
        return float(last.get("best_validation_loss", float("nan")))


def _hops(
    phases: Sequence[BoundPhase], validation: Images | None, settings: Train
) -> list[BoundPhase]:
    """The last phase again, once for each hop."""
    if settings.hops and (validation is None or not phases):
        raise BadValue(
            "basin hopping compares minima by their validation loss, and there is none",
            hint="leave train.validation = true",
        )
    return [replace(phases[-1], epochs=settings.hop_epochs) for _ in range(settings.hops)]
