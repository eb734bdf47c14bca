"""What a training scheme is: a function from a batch to a loss; phases, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from drelu_cli.runtime.streams import Stream


@dataclass(frozen=True)
class Loss:
    """A batch's loss.

    Attributes:
        total: 0-dim, what is minimised (without the cap penalty, which joins any scheme).
        terms: 0-dim detached tensors by name for the history, e.g. `natural`, `robust`;
            `accuracy` is the share of correct predictions on what the scheme trained on.
    """

    total: Tensor
    terms: Mapping[str, Tensor]


# model, x (B, C, H, W) float in [0, 1], y (B,) int64, the batch's stream -> loss
Scheme = Callable[[nn.Module, Tensor, Tensor, Stream], Loss]


@dataclass(frozen=True)
class Regime:
    """How the fit loop treats phases of a scheme.

    Attributes:
        stops: early stopping and the plateau schedule act on the validation loss, and the
            weights of its best epoch are kept. False: all epochs run at the given rate and the
            last weights are kept; validation is only recorded.
        bounds: the scheme needs a model with interval bounds; refused before training else.
    """

    stops: bool = True
    bounds: bool = False


def regime(*, stops: bool = True, bounds: bool = False) -> Callable[[Any], Any]:
    """Decorates a scheme that is trained in another way; see `Regime`."""

    def declare(scheme: Any) -> Any:
        scheme.regime = Regime(stops=stops, bounds=bounds)
        return scheme

    return declare


def regime_of(scheme: Any) -> Regime:
    """What a scheme, bound or not, declares; the ordinary regime where it declares nothing."""
    declared = getattr(getattr(scheme, "target", scheme), "regime", None)
    return declared if isinstance(declared, Regime) else Regime()


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

    @property
    def regime(self) -> Regime:
        """What its scheme declares."""
        return regime_of(self.scheme)


@dataclass(frozen=True)
class Snapshot:
    """A moment of a training whose weights are to be kept; the model holds them.

    Attributes:
        kind: `epoch`: after so many; `hop`: a minimum that basin hopping found.
        number: epochs trained so far, or the hop, 0 for the minimum it starts from.
        record: of the epoch, as in the history; or of the minimum: hop, accepted,
            validation_loss, validation_accuracy, task_loss.
    """

    kind: Literal["epoch", "hop"]
    number: int
    record: Mapping[str, Any]


@dataclass(frozen=True)
class FitResult:
    """What a training did.

    Attributes:
        history: one record per epoch.
        stopped_by: `epochs` or `early stopping`, of the last phase.
        validation_loss: task + penalty of the weights that were kept; NaN without validation.
        seconds: time spent in epochs, interrupted runs included.
        minima: one record per minimum of basin hopping.
    """

    history: tuple[dict[str, Any], ...]
    stopped_by: str
    validation_loss: float
    seconds: float
    minima: tuple[dict[str, Any], ...] = ()
