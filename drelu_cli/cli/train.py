"""`drelu train`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import (
    DEFAULT_STORE,
    DataDirOption,
    DeviceOption,
    JsonOption,
    PresetOption,
    SetOption,
    StoreOption,
    dataset_fields,
    parse_assignments,
)
from drelu_cli.cli.progress import Progress
from drelu_cli.core.quantities import parse_fraction


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A packaged recipe's name or a TOML file.", show_default=False),
    ] = None,
    preset: PresetOption = "fast",
    dataset: Annotated[
        str | None, typer.Option(help="digits, mnist, cifar10 ..., an .npz file or a folder/.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="dense, shallow_cnn, resnet18, resnet50, mobilenet_v2 ...")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="relu, relu6, srelu, drelu ..., or package.module:Class.")
    ] = None,
    placement: Annotated[str | None, typer.Option(help="head, stem or all.")] = None,
    scheme: Annotated[
        str | None, typer.Option(help="natural, at, trades:beta=6, sensitivity ...")
    ] = None,
    lambda_: Annotated[
        str | None, typer.Option("--lambda", help="Weight of the cap penalty, >= 0.")
    ] = None,
    cap: Annotated[
        str | None, typer.Option(help="Cap: drelu's start value, srelu's constant.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs at most; of at: of its natural phase.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Batch size.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and data order.")] = None,
    generated: Annotated[
        str | None, typer.Option(metavar="FILE", help="Generated images (.npz) mixed into epochs.")
    ] = None,
    generated_share: Annotated[
        str | None, typer.Option(help="Generated part of every epoch: 0.7, tiny_imagenet 0.8.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The treatment's name in tables.")] = None,
    set_: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Train again although finished.")] = False,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train a classifier; the checkpoint goes into the registry, once.

    Without arguments: a dense net with D-ReLU on the embedded digits.

    Examples:
      drelu train --activation relu
      drelu train --dataset mnist --model shallow_cnn --lambda 0.1
      drelu train --scheme trades:beta=6 --seed 1
      drelu train my_recipe.toml --set train.batch=64
    """
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.train import train as run

    output = Output("train", json=json)
    options: list[tuple[str, Any]] = [
        *dataset_fields(dataset),
        *_fields(model=model, activation=activation, scheme=scheme),
        ("model.placement", placement),
        ("penalty.lambda", _number(lambda_, "lambda")),
        ("activation.cap", _number(cap, "cap")),
        ("data.generated", generated),
        ("data.generated_share", _number(generated_share, "share of generated images")),
        ("train.batch", batch),
        ("train.seed", seed),
        ("report.label", label),
        ("train.epochs", epochs),
    ]
    given = [(field, value) for field, value in options if value is not None]
    with Progress(output) as progress:
        context = Context(store=store, data_dir=data_dir, device=device, progress=progress)
        report = run(
            recipe,
            preset=preset,
            options=[*given, *parse_assignments(set_)],
            force=force,
            context=context,
        )
    output.human(*_sentences(report))
    output.document(report.document)


def _fields(**parts: str | None) -> list[tuple[str, Any]]:
    return list(parts.items())


def _number(text: str | None, what: str) -> float | None:
    return None if text is None else parse_fraction(text, what=what)


def _sentences(report: Any) -> list[str]:
    record, summary = report.record, report.record.summary
    head = "found in the registry" if report.reused else "trained"
    lines = [f"{head}: {record.name} ({record.label}), key {record.key[:12]}"]
    if summary.get("clean_accuracy") is not None:
        lines.append(
            f"  clean accuracy {100 * summary['clean_accuracy']:.2f} % on the test split, "
            f"{summary['epochs']} epochs, {summary['seconds']:.1f} s"
        )
    if summary.get("cap_mean") is not None:
        lines.append(f"  caps: mean {summary['cap_mean']:.4g}, max {summary['cap_max']:.4g}")
    lines.append(f"  {report.checkpoint}")
    return lines
