"""`drelu list`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Annotated, Any

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from drelu_cli.core.quantities import part_text
from drelu_cli.core.records import OWN


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="models, evaluations, activations, architectures, datasets, schemes, attacks, "
            "engines, suites, recipes or presets; default: everything but evaluations.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List what is registered and what is stored.

    Examples:
      drelu list
      drelu list models
      drelu list recipes
      drelu list evaluations --json
    """
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.listing import listing

    output = Output("list", json=json)
    found = listing(kind, context=Context(store=store))
    for name, group in groupby(found.items, lambda item: item["kind"]):
        items = list(group)
        if name == "models":
            output.human(f"models in {store}:", *(_model(item) for item in items))
        elif name == "evaluations":
            if kind is not None:
                output.human(f"evaluations in {store}:", *(_evaluation(item) for item in items))
        elif name == kind == "recipes":
            output.human("recipes (trainings of preset fast):", *map(_recipe, items))
        else:
            output.human(f"{name}: {', '.join(item['name'] for item in items)}")
    if not any(item["kind"] == "models" for item in found.items) and kind in (None, "models"):
        output.human(f"no models in {store} yet: drelu train makes one")
    output.document(found.document)


def _model(item: Mapping[str, Any]) -> str:
    clean = item["clean_accuracy"]
    share = "" if clean is None else f"clean {100 * clean:.2f} %, "
    return (
        f"  {item['name']} ({item['label']}), key {item['key'][:12]}, {share}"
        f"{item['evaluations']} evaluations"
    )


def _recipe(item: Mapping[str, Any]) -> str:
    return f"  {item['name']}: {item['title']} ({item['trainings']})"


def _evaluation(item: Mapping[str, Any]) -> str:
    engine = "" if item["engine"] == OWN else f" [{item['engine']}]"
    cascade = "" if item["cascade"] is None else f", {item['cascade']}"
    attack = part_text(item["attack"], item["given"])
    return (
        f"  {item['name']}: {attack}{engine} ({item['norm']} {item['eps']:g}), "
        f"{item['samples']} samples, {item['seconds']:.1f} s{cascade}"
    )
