"""`drelu attack`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

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
from drelu_cli.cli.progress import Progress
from drelu_cli.core.errors import BadValue
from drelu_cli.core.quantities import parse_eps_list
from drelu_cli.core.records import OWN

_DEFAULT_SAMPLES = 1000
_DEFAULT_GRID = "default"
_NUMBERS = re.compile(r"-?[0-9.][0-9.,eE+/-]*")


class AttackCommand(TyperCommand):
    """`drelu attack`, where `--curve` may stand without a value."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """The usual parsing, after a bare `--curve` got its default value."""
        return super().parse_args(ctx, _with_curve_value(args))


def _with_curve_value(words: list[str]) -> list[str]:
    """Typer knows no options with an optional value: the default grid is spelled out."""
    out = []
    for place, word in enumerate(words):
        follows = words[place + 1] if place + 1 < len(words) else ""
        # A word with a comma is no model: a list with a typing error is to be named as such.
        value = _NUMBERS.fullmatch(follows) or follows == _DEFAULT_GRID or "," in follows
        bare = word == "--curve" and not value
        out.append(f"--curve={_DEFAULT_GRID}" if bare else word)
    return out


def attack(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Names or key prefixes of the registry, .safetensors/.pt files, or "
            "package.module:factory. Default: every model of the registry.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="whitebox (default), standard, adaptive (the masking court), blackbox, paper or "
            "smoke.",
            show_default=False,
        ),
    ] = None,
    attack_: Annotated[
        list[str] | None,
        typer.Option("--attack", help="An attack: pgd:steps=100,restarts=5; repeatable."),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="Radius: 0.1, 8/255 or a list; default: the data set's."),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            help="Radii 0.01,0.02,... in one ascending pass over survivors; without a value ten "
            "radii around the data set's.",
            metavar="[EPS,...]",
            show_default=False,
        ),
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Suite standard: every attack on all samples."),
    ] = False,
    engine: Annotated[
        str, typer.Option(help="drelu, torchattacks or autoattack (extra: reference).")
    ] = OWN,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    certify: Annotated[
        bool,
        typer.Option(
            "--certify", help="Also prove what can be proven, Linf: the column certified."
        ),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="NAME",
            help="Go on although the preflight refuses: probabilities, random, stateful, weights, "
            "outputs; repeatable, or a list with commas.",
            show_default=False,
        ),
    ] = None,
    remedy: Annotated[
        bool,
        typer.Option(
            "--remedy/--no-remedy",
            help="Where gradients turn out to be hidden, attack what still stands through "
            "surrogate backward passes, if that costs less than the run did.",
        ),
    ] = True,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="VERDICT",
            help="Exit 1 on this verdict: masked, suspicious or not-examined; repeatable, or a "
            "list with commas.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="The first N of the fixed test order (default 1000).", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the attacks.", min=0)] = 0,
    model: ArchitectureOption = None,
    activation: ActivationOption = "relu",
    placement: PlacementOption = "head",
    dataset: Annotated[
        str | None, typer.Option(help="Data set for models from outside (default digits).")
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    label: Annotated[
        str | None, typer.Option(help="Name in tables of a model from outside.")
    ] = None,
    save_adversarial: Annotated[
        Path | None,
        typer.Option(
            "--save-adversarial",
            help="Write the adversarial points behind the outcomes of one model and radius to "
            "an .npz file; drelu verify checks it.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Attack models; every outcome is stored per sample and never computed twice.

    Examples:
      drelu attack --suite whitebox
      drelu attack --suite standard --exhaustive
      drelu attack --suite adaptive --fail-on masked
      drelu attack digits-dense-d-relu-1-s0 --attack pgd:steps=100,restarts=5 --eps 0.1,0.2
      drelu attack weights.pt --model shallow_cnn --dataset mnist --eps 8/255
      drelu attack my_package.nets:robust_net --dataset cifar10 --suite blackbox
      drelu attack --attack pgd --curve 0.05,0.1,0.2
      drelu attack --attack cw_l2 --curve
      drelu attack --suite standard --engine autoattack
      drelu attack --attack pgd --certify
      drelu attack digits-dense-d-relu-1-s0 --suite standard --save-adversarial points.npz
    """
    from drelu_cli.report.certificates import violation_lines
    from drelu_cli.report.curves import curve_tables
    from drelu_cli.report.evaluations import evaluation_tables, warning_lines
    from drelu_cli.report.proof import saved_lines
    from drelu_cli.report.verdicts import fatal_words, verdicts_among
    from drelu_cli.workflows.attack import DEFAULT_SUITE
    from drelu_cli.workflows.attack import attack as run
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.plan import Wanted

    if norm not in ("linf", "l2"):
        raise BadValue(f"unknown norm '{norm}'", hint="known: linf, l2")
    output = Output("attack", json=json)
    wanted = Wanted(
        suite=suite or (None if attack_ else DEFAULT_SUITE),
        attacks=tuple(attack_ or ()),
        norm="linf" if norm == "linf" else "l2",
        eps=None if eps is None else parse_eps_list(eps),
        samples=_DEFAULT_SAMPLES if samples is None else samples,
        samples_given=samples is not None,
        seed=seed,
        exhaustive=exhaustive,
        curve=None if curve is None else _curve(curve),
        engine=engine,
        allow=_names(allow),
        certify=certify,
        remedy=remedy,
    )
    words = fatal_words(_names(fail_on))
    outside = outside_of(
        dataset,
        mean,
        std,
        architecture=model,
        activation=activation,
        placement=placement,
        label=label,
    )
    with Progress(output) as progress:
        context = Context(store=store, data_dir=data_dir, device=device, progress=progress)
        report = run(
            models or (),
            wanted=wanted,
            outside=outside,
            context=context,
            save_adversarial=save_adversarial,
        )
    if curve is None:
        output.human(*evaluation_tables(report.entries))
    else:
        output.human(*curve_tables(report.curves), *warning_lines(report.entries))
    ran = "1 evaluation" if report.run == 1 else f"{report.run} evaluations"
    output.human(f"{ran} run, {report.reused} found in {store}")
    if report.saved is not None:
        output.human(*saved_lines(report.saved.document))
    output.document(report.document)
    failed = [f"not evaluated: {one['model']}: {one['error']}" for one in report.failures]
    failed += violation_lines(report.violations)
    failed += verdicts_among(report.entries, words)
    for line in failed:
        output.note(line)
    if failed:
        raise typer.Exit(1)


def _names(given: Sequence[str] | None) -> tuple[str, ...]:
    """Words given one by one or with commas, each once."""
    words = (word.strip() for text in given or () for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _curve(text: str) -> tuple[float, ...]:
    return () if text == _DEFAULT_GRID else parse_eps_list(text, option="--curve")
