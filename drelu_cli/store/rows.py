"""Models and evaluations as flat rows, the same in every frame and listing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drelu_cli.core.records import ModelRecord
from drelu_cli.store.evaluations import StoredEvaluation

MODEL_COLUMNS = (
    "model_key", "name", "label", "dataset", "architecture", "activation", "placement", "scheme",
    "lambda", "cap", "seed",
)  # fmt: skip


def of_model(model: ModelRecord) -> dict[str, Any]:
    """A model under the names of MODEL_COLUMNS."""
    values = {name: getattr(model, name) for name in MODEL_COLUMNS if hasattr(model, name)}
    return {**values, "model_key": model.key, "lambda": model.lambda_}


def of_evaluation(stored: StoredEvaluation) -> dict[str, Any]:
    """An evaluation without its outcomes."""
    evaluation = stored.evaluation
    return {
        "evaluation": stored.key,
        "model_key": evaluation.model_key,
        "dataset": evaluation.dataset,
        "attack": evaluation.attack,
        "options": options_text(evaluation.given),
        "norm": evaluation.norm,
        "eps": evaluation.eps,
        "attack_seed": evaluation.seed,
        "engine": evaluation.engine,
        "cascade": evaluation.cascade or "",
    }


def options_text(given: Mapping[str, Any]) -> str:
    """Options as a user types them, sorted by name: `restarts=5,steps=100`."""
    return ",".join(f"{name}={_value_text(given[name])}" for name in sorted(given))


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(_value_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
