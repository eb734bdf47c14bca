"""`drelu verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import (
    DEFAULT_STORE,
    ActivationOption,
    ArchitectureOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    MeanOption,
    PlacementOption,
    StdOption,
    StoreOption,
    outside_of,
)
from drelu_cli.core.errors import CheckFailed


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
    architecture: ArchitectureOption = None,
    activation: ActivationOption = "relu",
    placement: PlacementOption = "head",
    dataset: Annotated[
        str | None, typer.Option(help="Data set for models from outside (default: the file's).")
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
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
    from drelu_cli.workflows.verify import verify as run

    outside = outside_of(
        dataset, mean, std, architecture=architecture, activation=activation, placement=placement
    )
    output = Output("verify", json=json)
    context = Context(store=store, data_dir=data_dir, device=device)
    report = run(file, model, outside=outside, context=context)
    made_for = f"{report.proof.model} on {report.proof.dataset}"
    output.human(*verify_tables(report.document, report.reasons, made_for))
    output.document(report.document)
    if report.checked.failures:
        raise typer.Exit(CheckFailed.exit_code)
