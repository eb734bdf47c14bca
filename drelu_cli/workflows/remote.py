"""What workers run: one training, or the attacks on one training's weights.

Both take and give plain data, so that any executor can carry them. They write the store that
`config["store"]` names, which is theirs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import DreluError
from drelu_cli.core.recipe import Recipe
from drelu_cli.runtime.channel import tell
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.scratch import in_use
from drelu_cli.workflows.train import train_recipe

TRAIN = f"{__name__}:train_job"
ATTACK = f"{__name__}:attack_job"


def context_config(context: Context, folder: Path, device: str) -> dict[str, Any]:
    """The part of a configuration that says where a job runs."""
    return {
        "store": str(folder.resolve()),
        "data_dir": None if context.data_dir is None else str(context.data_dir),
        "device": device,
    }


def train_job(config: Mapping[str, Any]) -> dict[str, Any]:
    """Trains `config["recipe"]`, not yet effective; gives `key` and `reused`."""
    context = _context(config)
    with in_use(context.store):
        recipe = Recipe.model_validate(config["recipe"])
        trained = train_recipe(recipe, context=context)
        return {"key": trained.record.key, "reused": trained.reused}


def attack_job(config: Mapping[str, Any]) -> dict[str, Any]:
    """Runs each of `config["runs"]`: `models` (keys) and `wanted`.

    Gives `runs`, one for each: `reused`, `run`, `violations`, or `error`. One that fails does
    not stop the next.
    """
    context = _context(config)
    with in_use(context.store):
        return {"runs": [_run(one, context) for one in config["runs"]]}


def _run(config: Mapping[str, Any], context: Context) -> dict[str, Any]:
    try:
        found = attack(config["models"], wanted=_wanted(config["wanted"]), context=context)
    except Exception as problem:  # noqa: BLE001 - one job must not stop the others
        return {"error": described(problem)}
    return {"reused": found.reused, "run": found.run, "violations": list(found.violations)}


def described(problem: Exception) -> str:
    """An error as one sentence of a report."""
    if isinstance(problem, DreluError):
        return problem.message
    return f"{type(problem).__name__}: {problem}"


def attack_config(models: Sequence[str], wanted: Wanted) -> dict[str, Any]:
    """One of the `runs` of `attack_job`."""
    return {"models": list(models), "wanted": asdict(wanted)}


def _wanted(config: Mapping[str, Any]) -> Wanted:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    return Wanted(**given)


def _context(config: Mapping[str, Any]) -> Context:
    data_dir = config["data_dir"]
    return Context(
        store=Path(config["store"]),
        data_dir=None if data_dir is None else Path(data_dir),
        device=config["device"],
        progress=tell,
    )
