"""`drelu verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import (
    DEFAULT_STORE,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StoreOption,
)
from drelu_cli.core.errors import BadValue, CheckFailed
from drelu_cli.core.quantities import parse_fraction


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of --save-adversarial.")],
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name or key prefix of the registry, a .safetensors/.pt file, or "
            "package.module:factory.",
        ),
    ],
    architecture: Annotated[
        str | None,
        typer.Option("--model", help="Architecture of a weights file, or package.module:factory."),
    ] = None,
    activation: Annotated[str, typer.Option(help="Activation of that architecture.")] = "relu",
    placement: Annotated[str, typer.Option(help="Its placement: head, stem or all.")] = "head",
    dataset: Annotated[
        str | None, typer.Option(help="Data set for models from outside (default: the file's).")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Per channel, 0.49,0.48,0.45; with --std.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Per channel; with --mean.")] = None,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Check adversarial points: ball, box, images, labels, predictions; no attack, no outcomes.

    Exit code 1 where any sample of the file fails.

    Examples:
      drelu verify points.npz digits-dense-d-relu-1-s0
      drelu verify points.npz weights.pt --model shallow_cnn --dataset mnist
      drelu verify points.npz my_package.nets:robust_net --dataset cifar10 --json
    """
    from drelu_cli.report.proof import verify_tables
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.subjects import Outside
    from drelu_cli.workflows.verify import verify as run

    if (mean is None) != (std is None):
        raise BadValue("--mean and --std go together", hint="--mean 0.1307 --std 0.3081")
    own_data = dataset is not None and dataset.endswith(".npz")
    outside = Outside(
        architecture=architecture,
        activation=activation,
        placement=placement,
        dataset="npz" if own_data else dataset,
        data_path=dataset if own_data else None,
        mean=_channels(mean, "mean"),
        std=_channels(std, "std"),
    )
    output = Output("verify", json=json)
    context = Context(store=store, data_dir=data_dir, device=device)
    report = run(file, model, outside=outside, context=context)
    made_for = f"{report.proof.model} on {report.proof.dataset}"
    output.human(*verify_tables(report.document, report.reasons, made_for))
    output.document(report.document)
    if report.checked.failures:
        raise typer.Exit(CheckFailed.exit_code)


def _channels(text: str | None, what: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    return tuple(parse_fraction(part, what=what) for part in text.split(","))
