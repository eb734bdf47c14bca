"""Records for the tests of the store, and the scripts that its child processes run."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drelu_cli.core.records import (
    MASKED,
    Evaluation,
    Evidence,
    Examination,
    ModelRecord,
    Outcome,
    State,
)
from drelu_cli.store.connect import open_store


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def model(name: str = "digits-dense-drelu-1-s0", **changes: Any) -> ModelRecord:
    values: dict[str, Any] = {
        "key": digest(name),
        "name": name,
        "label": "D-ReLU-1",
        "source": "trained",
        "dataset": "digits",
        "dataset_digest": digest("digits"),
        "architecture": "dense",
        "activation": "drelu",
        "placement": "head",
        "scheme": "natural",
        "lambda_": 1.0,
        "cap": 10.0,
        "seed": 0,
        "weights_digest": digest(f"weights of {name}"),
        "recipe": {"data": {"name": "digits"}, "phase": [{"scheme": "natural"}]},
        "summary": {"clean_accuracy": 0.975, "validation_loss": math.inf},
        "provenance": {"torch": "2.13.0"},
    }
    return ModelRecord(**{**values, **changes})


def evaluation(of: ModelRecord | None = None, **changes: Any) -> Evaluation:
    of = model() if of is None else of
    values: dict[str, Any] = {
        "model_key": of.key,
        "weights_digest": of.weights_digest,
        "dataset": of.dataset,
        "dataset_digest": of.dataset_digest,
        "attack": "pgd",
        "given": {"steps": 100},
        "effective": {"steps": 100, "restarts": 1, "step_size": None},
        "identity": {"name": "pgd", "options": {"steps": 100, "restarts": 1}},
        "version": 1,
        "norm": "linf",
        "eps": 8 / 255,
        "seed": 0,
        "warnings": ("outputs look like probabilities",),
        "provenance": {"device": "cpu"},
    }
    return Evaluation(**{**values, **changes})


def examination(of: ModelRecord | None = None, **changes: Any) -> Examination:
    of = model() if of is None else of
    seen = Evidence("zero_gradients", "ce at the clean point", 0.88, 0.1, True, True, ("pgd",), "x")
    values: dict[str, Any] = {
        "model_key": of.key,
        "weights_digest": of.weights_digest,
        "dataset_digest": of.dataset_digest,
        "norm": "linf",
        "eps": 0.2,
        "seed": 0,
        "samples": digest("the first 360"),
        "count": 360,
        "word": MASKED,
        "complete": True,
        "evidence": (seen, Evidence("saturation", "0", None, None, False)),
        "remedy": ({"attack": "apgd_ce", "params": {"steps": 100}, "broken": 12},),
        "control": {"broken": 1, "p": 1e-9, "passes": 4000},
        "notes": ("two rounds",),
    }
    return Examination(**{**values, **changes})


def certificate(
    of: ModelRecord | None = None, eps: float = 0.2
) -> tuple[str, str, str, float, str]:
    """What `add_certificate` and `certified_samples` begin with."""
    of = model() if of is None else of
    return of.key, of.weights_digest, of.dataset_digest, eps, "crown"


def outcome(sample: int, state: State = State.ROBUST, **changes: Any) -> Outcome:
    """Robust: 41 forwards; broken: class 4 at distance 0.125; not run: nothing spent."""
    by_state: dict[State, dict[str, Any]] = {
        State.ROBUST: {"adv_pred": 3, "distance": math.nan, "forwards": 41, "backwards": 40},
        State.BROKEN: {"adv_pred": 4, "distance": 0.125, "forwards": 7, "backwards": 6},
        State.NOT_RUN: {"adv_pred": 3, "distance": math.nan, "forwards": 0, "backwards": 0},
    }
    return Outcome(
        **{"sample": sample, "state": state, "clean_pred": 3, **by_state[state], **changes}
    )


def clean_wrong(sample: int) -> Outcome:
    return outcome(sample, State.BROKEN, adv_pred=3, distance=0.0, forwards=0, backwards=0)


def same(found: Iterable[Outcome], expected: Iterable[Outcome]) -> bool:
    """Equality with NaN equal to NaN."""
    return list(map(repr, found)) == list(map(repr, expected))


def main() -> None:
    """`FOLDER FIRST COUNT SIZE`: stores chunks, says each one's number when it is safe.

    With each chunk goes a certificate of its samples, and an examination that counts them.
    """
    folder, first, count, size = sys.argv[1], *map(int, sys.argv[2:])
    with open_store(Path(folder)) as store:
        store.add_model(model())
        for number in range(first, first + count):
            start = number * size
            outcomes = [outcome(sample) for sample in range(start, start + size)]
            store.add_outcomes(evaluation(), outcomes, seconds=1.0)
            proven = [sample % 2 == 0 for sample in range(start, start + size)]
            store.add_certificate(*certificate(), range(start, start + size), proven, seconds=1.0)
            store.add_examination(examination(notes=(str(number),)))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
