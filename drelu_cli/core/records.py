"""What rooms hand to each other and the store keeps: frozen, plain, without tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import BadValue
from drelu_cli.core.registry import Bound

Norm = Literal["linf", "l2"]

COLUMNS = ("claimed", "standard", "autoattack", "adaptive", "certified")
MASKED = "masked"
SUSPICIOUS = "suspicious"
NO_FAILURE = "no failure found"
NOT_EXAMINED = "not examined"
VERDICTS = (MASKED, SUSPICIOUS, NOT_EXAMINED, NO_FAILURE)
"""The verdicts, worst first."""
OWN = "drelu"
"""The engine of this package."""
_AFTER = "after "


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """The perturbations an attack may use: a ball around the input, cut with the box [0, 1].

    Attributes:
        norm: `linf` or `l2`, over all pixels and channels of an image.
        eps: radius in units of pixel values in [0, 1]; `eps = 0` leaves only the input.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise BadValue(f"unknown norm '{self.norm}'", hint="known: linf, l2")
        if not math.isfinite(self.eps) or self.eps < 0:
            raise BadValue(f"eps {self.eps} is not a finite number >= 0")


class State(IntEnum):
    """What an attack did to one sample."""

    ROBUST = 0
    BROKEN = 1
    NOT_RUN = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample under one attack, as judged by the evaluation.

    Attributes:
        sample: index in the data set's test split.
        state: robust, broken or not run.
        clean_pred: predicted class of the clean input; -1 where logits are not finite.
        adv_pred: predicted class of the returned point; `clean_pred` where not run.
        distance: distance of an adversarial point in the threat's norm; 0 for clean-wrong
            samples; NaN for robust ones and ones not run.
        forwards: forward passes spent on this sample.
        backwards: backward passes spent on this sample.
    """

    sample: int
    state: State
    clean_pred: int
    adv_pred: int
    distance: float
    forwards: int
    backwards: int

    @property
    def clean_wrong(self) -> bool:
        """Misclassified before any attack: stored as broken at distance 0 without a pass."""
        return self.state is State.BROKEN and self.distance == 0 and self.forwards == 0


def cascade_text(before: str, digest: str, samples: str = "") -> str | None:
    """What an evaluation was part of, as it enters the key; None for a full run.

    Args:
        before: what ran earlier, for people; empty where nothing did.
        digest: of everything that decides which samples were left.
        samples: digest of the sample list, where outcomes depend on it (outside engines).
    """
    parts = [f"{_AFTER}{before} [{digest[:12]}]"] if before else []
    parts += [f"samples {samples[:12]}"] if samples else []
    return "; ".join(parts) or None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One attack on one model under one threat: everything but the outcomes.

    `key` digests what determines the outcomes, and nothing else; the samples are stored
    beside it and extended. `given` holds the options that differ from the attack's defaults,
    `effective` all of them. `engine` is `drelu`, or an outside library with its version;
    `cascade` comes from `cascade_text`.
    """

    model_key: str
    weights_digest: str
    dataset: str
    dataset_digest: str
    attack: str
    given: Mapping[str, Any]
    effective: Mapping[str, Any]
    identity: Mapping[str, Any]
    version: int
    norm: Norm
    eps: float
    seed: int
    engine: str = OWN
    cascade: str | None = None
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        record: ModelRecord,
        bound: Bound,
        threat: ThreatModel,
        *,
        seed: int,
        engine: str = OWN,
        cascade: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """The evaluation of a registered model under a bound attack."""
        return cls(
            model_key=record.key,
            weights_digest=record.weights_digest,
            dataset=record.dataset,
            dataset_digest=record.dataset_digest,
            attack=bound.name,
            given=bound.changed,
            effective=dict(bound.effective),
            identity=bound.identity,
            version=int(getattr(bound.target, "version", 0)),
            norm=threat.norm,
            eps=threat.eps,
            seed=seed,
            engine=engine,
            cascade=cascade,
            provenance=provenance or {},
        )

    @property
    def threat(self) -> ThreatModel:
        """Norm and radius."""
        return ThreatModel(self.norm, self.eps)

    @property
    def survivors_only(self) -> bool:
        """Whether it leaves out what an earlier attack or a smaller radius has broken."""
        return self.cascade is not None and self.cascade.startswith(_AFTER)

    @property
    def key(self) -> str:
        """sha256 of what determines the outcomes, 64 hexadecimal digits."""
        return digest_of(
            {
                "record": "evaluation",
                "model": self.model_key,
                "weights": self.weights_digest,
                "data": self.dataset_digest,
                "attack": dict(self.identity),
                "version": self.version,
                "threat": [self.norm, self.eps],
                "seed": self.seed,
                "engine": self.engine,
                "cascade": self.cascade,
            }
        )


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model in the registry.

    Attributes:
        key: `Recipe.key` of a trained model; a digest of architecture and weights of a model
            that came from outside.
        name: unique and readable, e.g. `digits-dense-drelu-1-s0`.
        label: the treatment in tables, e.g. `D-ReLU-0.1`, `AT`, `TRADES-6`.
        source: `trained`, `file` or `factory`.
        recipe: the effective recipe of a trained model; for a model from outside, how to
            load it again (`{"reference": ..., "architecture": ...}`).
        summary: clean_accuracy (fraction, test split), validation_loss, epochs, stopped_by,
            cap_mean, cap_max, seconds, sensitivity; `parent` (the training's key) and `epoch`
            or `hop` of a checkpoint; absent keys are unknown.
    """

    key: str
    name: str
    label: str
    source: Literal["trained", "file", "factory"]
    dataset: str
    dataset_digest: str
    architecture: str
    activation: str
    placement: str
    scheme: str
    lambda_: float | None
    cap: float | None
    seed: int | None
    weights_digest: str
    recipe: Mapping[str, Any]
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def is_checkpoint(self) -> bool:
        """Whether these are a training's weights on its way, or a minimum that it passed."""
        return "parent" in self.summary


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing a check of the court saw.

    Attributes:
        check: registered name of the check.
        point: what it looked at: `ce at the final point of pgd`.
        value: what was measured; None where it could not be.
        threshold: what the flag compares with; None where nothing is flagged.
        flag: whether the value speaks against the number.
        mechanism: whether the flag is a mechanism of hidden gradients: only those decide a
            verdict.
        attacks: the attacks whose numbers a mechanism flag makes doubtful.
        detail: one sentence for people.
    """

    check: str
    point: str
    value: float | None
    threshold: float | None
    flag: bool
    mechanism: bool = False
    attacks: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What the court found: one model, threat, attack seed and list of samples.

    Attributes:
        model_key: the model.
        weights_digest: its weights.
        dataset_digest: the data set.
        norm: of the threat.
        eps: of the threat.
        seed: the attacks' seed.
        samples: digest of the list of samples.
        count: how many samples the list has.
        word: the verdict.
        complete: whether the adaptive suite ran to its end on the whole list.
        evidence: what the checks saw.
        remedy: per remedy attack: attack, params, round, broken, robust_accuracy.
        control: broken, p, remedy_broken; None where no control was needed.
        notes: sentences for people.
        basis: digest of the runs, checks and twin it rests on: another one asks for a new look.
    """

    model_key: str
    weights_digest: str
    dataset_digest: str
    norm: Norm
    eps: float
    seed: int
    samples: str
    count: int
    word: str
    complete: bool
    evidence: tuple[Evidence, ...] = ()
    remedy: tuple[Mapping[str, Any], ...] = ()
    control: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    basis: str = ""

    @property
    def key(self) -> str:
        """sha256 of what it belongs to, not of what was found."""
        return digest_of(
            {
                "record": "examination",
                "model": self.model_key,
                "weights": self.weights_digest,
                "data": self.dataset_digest,
                "threat": [self.norm, self.eps],
                "seed": self.seed,
                "samples": self.samples,
            }
        )
