"""`drelu doctor`."""

from __future__ import annotations

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
from drelu_cli.cli.progress import Progress


def doctor(
    selftest: Annotated[
        bool,
        typer.Option(
            "--selftest", help="Also let the masking court judge nets made on the spot (minutes)."
        ),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Check environment, device, data, store, and the attacks against a known optimum.

    Examples:
      drelu doctor
      drelu doctor --device cuda --json
      drelu doctor --selftest
    """
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.doctor import doctor as run

    output = Output("doctor", json=json)
    with Progress(output) as progress:
        context = Context(store=store, data_dir=data_dir, device=device, progress=progress)
        report = run(selftest=selftest, context=context)
    for check in report.checks:
        output.human(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    output.document(report.document)
    if not report.ok:
        raise typer.Exit(1)
