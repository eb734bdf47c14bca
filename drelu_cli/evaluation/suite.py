"""Running one attack on one list of samples, and judging what it returns."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.engines import Engine
from drelu_cli.attacks.prolonged import Ended
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import Outcome, State, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.beside import Work, beyond, companions_for
from drelu_cli.evaluation.judge import predict, returned_inputs, verify
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.threads import in_threads, threads_for, threads_pay
from drelu_cli.runtime.driver import micro_batch, micro_batch_size
from drelu_cli.runtime.footprint import fitting_batch
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.precision import float32_arithmetic


@dataclass(frozen=True)
class Judged:
    """One attack's outcomes.

    Attributes:
        outcomes: one per sample, in the samples' order.
        x_adv: (N, C, H, W) the points returned; clean-wrong samples keep their input.
        seconds: attack and judgement.
        outside: points of an outside engine that lay beyond ball or box and do not count.
    """

    outcomes: tuple[Outcome, ...]
    x_adv: Tensor
    seconds: float
    outside: int = 0


def check_fits(bound: Bound, threat: ThreatModel, classes: int) -> None:
    """Refuses an attack that is not defined for this threat or this number of classes.

    Raises:
        BadValue: names the attack, what it needs and what it got.
    """
    try:
        inspect.signature(bound.target).bind(None, None, None, None, None, **bound.effective)
    except TypeError as problem:
        raise BadValue(
            f"attack {bound.name} cannot be called: {problem}",
            hint="an attack is called as (model, x, y, threat, stream, *, options)",
        ) from None
    norms = getattr(bound.target, "norms", ("linf", "l2"))
    if threat.norm not in norms:
        raise BadValue(
            f"attack {bound.name} is not defined for norm {threat.norm}",
            hint=f"it is defined for {', '.join(norms)}",
        )
    fewest = getattr(bound.target, "min_classes", 2)
    if classes < fewest:
        raise BadValue(f"attack {bound.name} needs at least {fewest} classes, not {classes}")


def run_attack(
    model: nn.Module,
    samples: Samples,
    bound: Bound,
    threat: ThreatModel,
    *,
    seed: int,
    engine: Engine | None = None,
    ended: Ended | None = None,
) -> Judged:
    """Attacks every clean-correct sample and judges the points.

    Robust: correct on the clean input and at the point returned, which is misclassified where
    the attack saw any misclassified point. Clean-wrong samples are broken at distance 0 without
    a pass. The model runs in evaluation mode; its modes are restored. Float32 is float32: on
    CUDA, TF32 is off while it runs.

    Args:
        model: logits from images in [0, 1].
        samples: what to attack.
        bound: the attack with its options.
        threat: norm and radius.
        seed: the attack's seed; draws depend on it, the attack's name and the sample's index.
        engine: an outside library that runs the attack instead of ours. Its points beyond ball
            or box do not count: they are counted in `outside`, and the sample stands.
        ended: where a shorter run of the same search left these samples, on this model.

    Raises:
        InternalError: a point of ours outside ball or box.
        DreluError: points of another shape or type from an outside library.
    """
    began = time.perf_counter()
    with evaluation_mode(model), float32_arithmetic(tf32=False):
        clean_pred = predict(model, samples.x)
        correct = clean_pred == samples.y
        attacked = samples.rows(correct)
        work = Work(attacked, bound, threat, seed, ended.rows(correct) if ended else None)
        with micro_batch(_affordable(model, attacked.x)):
            result = _attack(model, work, engine)
        outside = 0
        if engine is not None:
            where = f"{bound.name} of {engine.label}"
            x_adv, outside = returned_inputs(attacked.x, result.x_adv, threat, attack=where)
            result = AttackResult(x_adv, result.forwards, result.backwards)
        lengths = verify(attacked.x, result.x_adv, threat, attack=bound.name)
        adv_pred = predict(model, result.x_adv)
    broken = adv_pred != attacked.y
    outcomes = _outcomes(samples, clean_pred, correct, adv_pred, broken, lengths, result)
    x_adv = samples.x.clone()
    x_adv[correct] = result.x_adv
    return Judged(outcomes, x_adv, time.perf_counter() - began, outside)


def not_run(samples: Sequence[int], clean_pred: Sequence[int]) -> list[Outcome]:
    """The outcomes of samples that an earlier attack or a smaller radius has broken."""
    return [
        Outcome(sample, State.NOT_RUN, clean, clean, float("nan"), 0, 0)
        for sample, clean in zip(samples, clean_pred, strict=True)
    ]


def _affordable(model: nn.Module, x: Tensor) -> int:
    """How many samples are attacked at once: on a GPU the driver halves what does not fit."""
    most = micro_batch_size()
    return most if x.device.type == "cuda" else fitting_batch(model, x[:1], len(x), most)


def _attack(model: nn.Module, work: Work, engine: Engine | None) -> AttackResult:
    samples, bound = work.samples, work.bound
    if not len(samples):
        nothing = torch.empty(0, dtype=torch.int64, device=samples.x.device)
        return AttackResult(samples.x, nothing, nothing)
    if engine is not None:
        return engine.attack(model, samples.x, samples.y, bound, work.threat, work.seed)
    parts = threads_for(model, samples.x, bound)
    if parts == 1:
        return work.run(model)
    if threads_pay(model):
        return in_threads([work.here] * parts, model, len(samples))
    beside = [beyond(one, work) for one in companions_for(bound, len(samples), parts)]
    if not beside:
        return work.run(model)
    return in_threads([work.here, *beside], model, len(samples))


def _outcomes(
    samples: Samples,
    clean_pred: Tensor,
    correct: Tensor,
    adv_pred: Tensor,
    broken: Tensor,
    lengths: Tensor,
    result: AttackResult,
) -> tuple[Outcome, ...]:
    attacked = iter(
        zip(
            adv_pred.tolist(),
            broken.tolist(),
            lengths.tolist(),
            result.forwards.tolist(),
            result.backwards.tolist(),
            strict=True,
        )
    )
    found = []
    for index, clean, right in zip(
        samples.index.tolist(), clean_pred.tolist(), correct.tolist(), strict=True
    ):
        if not right:
            found.append(Outcome(index, State.BROKEN, clean, clean, 0.0, 0, 0))
            continue
        adversarial, fell, length, forwards, backwards = next(attacked)
        state = State.BROKEN if fell else State.ROBUST
        reach = length if fell else float("nan")
        found.append(Outcome(index, state, clean, adversarial, reach, forwards, backwards))
    return tuple(found)
