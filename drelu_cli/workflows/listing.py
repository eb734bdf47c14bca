"""`drelu list`: what is registered and what is stored. No torch, no pandas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.engines import ENGINES
from drelu_cli.attacks.suites import SUITES
from drelu_cli.core.errors import UnknownName
from drelu_cli.core.registry import Registry
from drelu_cli.data import DATASETS
from drelu_cli.evaluation.evidence import EVIDENCE
from drelu_cli.models import MODELS
from drelu_cli.store.connect import open_store
from drelu_cli.training import SCHEMES
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.presets import DEFAULT_PRESET, PRESETS
from drelu_cli.workflows.recipes import members, read_source, recipe_names

_REGISTRIES: dict[str, Registry] = {
    "activations": ACTIVATIONS,
    "architectures": MODELS,
    "datasets": DATASETS,
    "schemes": SCHEMES,
    "attacks": ATTACKS,
    "engines": ENGINES,
    "evidence": EVIDENCE,
}
STORED = ("models", "evaluations")
KINDS = (*STORED, *_REGISTRIES, "suites", "recipes", "presets")


@dataclass(frozen=True)
class Listing:
    """What `list` found.

    Attributes:
        items: one mapping per item; all have `kind` and `name`.
    """

    items: tuple[dict[str, Any], ...]

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu list`."""
        return {"items": list(self.items)}


def listing(kind: str | None = None, *, context: Context | None = None) -> Listing:
    """The items of one kind, or of all.

    Raises:
        UnknownName: unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownName.among("kind", kind, KINDS)
    wanted = KINDS if kind is None else (kind,)
    items: list[dict[str, Any]] = []
    for one in wanted:
        if one in STORED:
            items += _stored(one, context or Context())
        elif one == kind == "recipes":  # every grid is counted: where only names are asked for, not
            items += [_recipe(name) for name in recipe_names()]
        else:
            items += [{"kind": one, "name": name} for name in _names(one)]
    return Listing(tuple(items))


def _names(kind: str) -> list[str]:
    if kind in _REGISTRIES:
        return _REGISTRIES[kind].names()
    if kind == "suites":
        return list(SUITES)
    return recipe_names() if kind == "recipes" else list(PRESETS)


def _recipe(name: str) -> dict[str, Any]:
    """A packaged recipe, with the trainings of its grid under the default preset."""
    grid = [recipe for recipe, _ in members(read_source(name), preset=DEFAULT_PRESET)]
    title = grid[0].report.title or ""
    return {"kind": "recipes", "name": name, "title": title, "trainings": len(grid)}


def _stored(kind: str, context: Context) -> list[dict[str, Any]]:
    """Models or evaluations of the store; none where there is no store yet."""
    if not (context.store / "drelu.sqlite").is_file():
        return []
    with open_store(context.store, create=False) as store:
        if kind == "evaluations":
            names = {record.key: record.name for record in store.models()}
            return [
                {
                    "kind": kind,
                    "name": names.get(one.evaluation.model_key, one.evaluation.model_key[:12]),
                    "attack": one.evaluation.attack,
                    "norm": one.evaluation.norm,
                    "eps": one.evaluation.eps,
                    "engine": one.evaluation.engine,
                    "cascade": one.evaluation.cascade,
                    "params": dict(one.evaluation.effective),
                    "given": dict(one.evaluation.given),
                    "samples": one.samples,
                    "seconds": one.seconds,
                    "key": one.key,
                }
                for one in store.evaluations()
            ]
        counts: dict[str, int] = {}
        for one in store.evaluations():
            model = one.evaluation.model_key
            counts[model] = counts.get(model, 0) + 1
        return [
            {
                "kind": kind,
                "name": record.name,
                "label": record.label,
                "key": record.key,
                "dataset": record.dataset,
                "clean_accuracy": record.summary.get("clean_accuracy"),
                "evaluations": counts.get(record.key, 0),
            }
            for record in store.models()
        ]
