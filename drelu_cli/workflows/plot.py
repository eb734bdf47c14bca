"""`drelu plot`: stored outcomes as a figure, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.core.quantities import parse_fraction
from drelu_cli.report.figures import FORMATS, POINT_COLUMNS, draw, points_csv, rendered
from drelu_cli.report.figures_style import threat_words
from drelu_cli.report.layout import eps_text
from drelu_cli.store.connect import Store, open_store
from drelu_cli.store.rows import options_text
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.files import check_folder, write_atomically
from drelu_cli.workflows.jobs import Job, plan
from drelu_cli.workflows.points import Point, Results, results
from drelu_cli.workflows.points_groups import AXES, check_axis, drawable, is_moment
from drelu_cli.workflows.points_radii import radii_points
from drelu_cli.workflows.points_swept import swept_points
from drelu_cli.workflows.points_training import epoch_points, sensitivity_points
from drelu_cli.workflows.presets import DEFAULT_PRESET
from drelu_cli.workflows.recipes import Options, read_source
from drelu_cli.workflows.selection import (
    ADAPTIVE,
    adaptive_column,
    check_rule,
    not_selected,
    select_lambda,
)
from drelu_cli.workflows.subjects import DataCache

_NAMED_RADII = 4
_ENDINGS = (".png", ".svg", ".csv", ".pdf")
# What is drawn where the user names no attacks: colours or lines stand for something else there.
_DEFAULT_ATTACKS = {"eps": ("apgd_ce",), "sensitivity": ("pgd",), "epoch": ("pgd",)}
_EMPTY: Mapping[str, Any] = {
    **dict.fromkeys(POINT_COLUMNS), "interval": "", "norm": "", "verdict": "", "survivors": False,
    "mark": "", "n_seeds": 1,
}  # fmt: skip


@dataclass(frozen=True)
class PlotReport:
    """What `plot` drew.

    Attributes:
        name: of the figure, the stem of its files.
        over: the axis.
        title: above the panels.
        points: what is drawn, `report.figures.POINT_COLUMNS`.
        files: PNG, SVG and CSV.
        notes: what a reader must know beside the picture.
    """

    name: str
    over: str
    title: str
    points: pd.DataFrame
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu plot`; accuracies are fractions."""
        rows = self.points.astype(object).where(self.points.notna(), None)
        return {
            "figure": {"name": self.name, "over": self.over, "title": self.title},
            "files": [str(path) for path in self.files],
            "points": [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Asked:
    """A recipe, or the whole store."""

    name: str
    over: str
    title: str = ""
    jobs: Sequence[Job] = ()
    attacks: tuple[str, ...] = field(default=())
    seed: int = 0
    recipe: str = ""

    @property
    def keys(self) -> set[str]:
        """Of the recipe's trainings."""
        return {job.key for job in self.jobs}


def plot(
    recipe: str | None = None,
    *,
    over: str | None = None,
    attacks: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
    samples: int | None = None,
    attack_seed: int | None = None,
    select: str | None = None,
    out: Path | None = None,
    preset: str = DEFAULT_PRESET,
    options: Options = (),
    context: Context | None = None,
) -> PlotReport:
    """Draws what is stored of a recipe's grid, or everything stored that fits.

    Args:
        recipe: a packaged recipe's name or a path; None takes the whole store.
        over: one of AXES or a dotted field of recipes; None takes the recipe's `[report] plot`.
        attacks: which attacks; empty takes the recipe's, else the paper's.
        where: keep models whose column has this value, e.g. `{"dataset": "mnist"}`.
        samples: the first N of the fixed order; default: what most results cover.
        attack_seed: which attack seed's results; None takes the recipe's, else 0.
        select: one lambda stands for D-ReLU, chosen as in tables: `validation` (PGD-10) or
            `adaptive` (that column); None draws all of them.
        out: the files' name; its ending decides nothing. Default: the recipe's name.
        preset: of the recipe.
        options: of the recipe, dotted fields and values.
        context: folders.

    Raises:
        DreluError: nothing stored that fits, an unknown axis, recipe or attack.
    """
    context = context or Context()
    if select is not None:
        check_rule(select)
    if over is not None:
        check_axis(over)  # a typing error must not load data, or download it
    asked = _asked(recipe, over, preset, options, context)
    stem = _stem(out, asked.name)
    with open_store(context.store, create=False) as store:
        models, notes = _models(store, asked, context)
        found, more = results(
            store,
            samples=samples,
            where=where or {},
            attack_seed=asked.seed if attack_seed is None else attack_seed,
            models=models,
            attacks=attacks,
            planned=_DEFAULT_ATTACKS.get(asked.over) or asked.attacks,
        )
        if select is not None:
            found, chosen = _selected(found, select, asked.over)
            more = [*more, *chosen]
        points, on_points = _points(asked.over, found, store)
    frame = pd.DataFrame([{**_EMPTY, **point} for point in points])
    frame = frame[list(POINT_COLUMNS)].astype({"mean": float, "low": float, "high": float})
    figure = draw(frame, asked.over, title=asked.title or None)
    files = []
    for kind in FORMATS:
        files.append(stem.with_name(f"{stem.name}.{kind}"))
        write_atomically(files[-1], rendered(figure, kind))
    files.append(stem.with_name(f"{stem.name}.csv"))
    write_atomically(files[-1], points_csv(frame))
    all_notes = (*notes, *_named(more, found.series), *on_points)
    title = asked.title or f"{asked.name} over {asked.over}"
    return PlotReport(stem.name, asked.over, title, frame, tuple(files), all_notes)


def _asked(
    recipe: str | None, over: str | None, preset: str, options: Options, context: Context
) -> _Asked:
    if recipe is None:
        if options:
            raise BadValue("--set belongs to a recipe", hint="drelu plot fig11 --set train.seed=1")
        if over is None:
            raise BadValue("plot over what?", hint=f"--over {', '.join(AXES)}; or name a recipe")
        return _Asked(f"over-{check_axis(over)}", over)
    jobs = plan(recipe, preset=preset, options=options, data=DataCache(context), context=context)
    report = jobs[0].recipe.report
    axis = over or report.plot
    if not axis:
        raise BadValue(
            f"recipe {recipe} does not say what to plot over",
            hint=f'--over {", ".join(AXES)}; or plot = "lambda" in its [report]',
        )
    own = over is None or over == report.plot
    names = [_shown(task.bound.name, task.bound.changed) for job in jobs for task in job.tasks]
    return _Asked(
        read_source(recipe).name + ("" if own else f"-over-{check_axis(axis)}"),
        check_axis(axis),
        (report.title or "") if own else "",
        tuple(jobs),
        tuple(dict.fromkeys(names)),
        jobs[0].wanted.seed,
        recipe,
    )


def _shown(name: str, given: Mapping[str, Any]) -> str:
    """An attack as cells name it."""
    text = options_text(given)
    return f"{name}:{text}" if text else name


def _stem(out: Path | None, name: str) -> Path:
    """The files' common name."""
    stem = Path(name) if out is None else out
    if not stem.name or stem.is_dir():
        raise BadValue(f"--out {stem} is a folder", hint=f"name a file: --out {stem / name}.png")
    if stem.suffix.lower() in _ENDINGS:
        stem = stem.with_suffix("")
    check_folder(stem)
    return stem


def _models(store: Store, asked: _Asked, context: Context) -> tuple[set[str], list[str]]:
    """Keys of the models to draw: the recipe's, with checkpoints and minima of its trainings."""
    registered = store.models()
    if not asked.jobs:
        placed = drawable(registered, asked.over)
        if not placed:
            raise UnknownName(
                f"no stored model has a place on the axis {asked.over}",
                hint="drelu sweep fig11 makes some over lambda; drelu list shows what is stored",
            )
        return placed, []
    wanted = asked.keys
    trained = wanted & {record.key for record in registered}
    if not trained:
        raise UnknownName(
            f"none of the {len(wanted)} trainings of {asked.name} is in {context.store}",
            hint=f"drelu sweep {asked.recipe}, with the same --preset and --set",
        )
    notes = []
    if len(trained) < len(wanted):
        notes = [
            f"{len(trained)} of {len(wanted)} trainings are stored; drelu sweep {asked.recipe} "
            "makes the others"
        ]
    moments = {one.key for one in registered if is_moment(one) and one.summary["parent"] in trained}
    return trained | moments, notes


def _selected(found: Results, rule: str, over: str) -> tuple[Results, list[str]]:
    """Without the lambdas that were not chosen, and what a reader must know of the choice."""
    if over == "lambda":
        raise BadValue("--select leaves one lambda, over lambda all are drawn", hint="--over eps")
    records = list(found.records.values())
    rows = [dict(row) for row in found.columns.values()]
    column = adaptive_column(rows) if rule == ADAPTIVE else None
    selected = select_lambda(records, found.labels, column)
    sentences = [one.sentence for one in selected if one.candidates > 1]
    notes = sentences or ["nothing to select from: no net is stored with several lambdas"]
    return found.without(not_selected(selected, found.labels)), notes


def _points(over: str, found: Results, store: Store) -> tuple[list[Point], list[str]]:
    if over == "eps":
        return radii_points(found, store)
    if over == "epoch":
        points, notes = epoch_points(found, store)
    elif over == "sensitivity":
        points, notes = sensitivity_points(found)
    else:
        points, notes = swept_points(found, over)
    return points, [*notes, *_one_radius(found)]


def _one_radius(found: Results) -> list[str]:
    """Which radius is drawn where several are stored."""
    notes = []
    for name in dict.fromkeys(found.datasets.values()):
        others, threat = found.other_radii(name), found.threat(name)
        if not others or threat is None:
            continue
        text = ", ".join(map(eps_text, others[:_NAMED_RADII]))
        more = f" and {len(others) - _NAMED_RADII} more" if len(others) > _NAMED_RADII else ""
        notes.append(
            f"{name} is drawn at {threat_words(*threat)}; {text}{more} are stored, too "
            f"(--where eps={_exact(others[0])}; --over eps draws them all)"
        )
    return notes


def _exact(eps: float) -> str:
    """A radius as `--where` finds it: `8/255` only where that is the very number."""
    text = eps_text(eps)
    return text if parse_fraction(text) == eps else repr(eps)


def _named(notes: Sequence[str], series: Sequence[str]) -> list[str]:
    """Notes on models by name: which attacks each of them lacks is for tables.

    Results of attacks that are not drawn are not missed.
    """
    drawn = {name.split(":")[0].split()[0] for name in series}
    kept = []
    for note in notes:
        start, _, rest = note.partition(": ")
        if start.startswith("left out, since"):
            words = [one.split() for one in rest.split(", ")]
            names = dict.fromkeys(one[0] for one in words if one[1] in drawn)
            note = f"{start}: {', '.join(names)}" if names else ""
        kept.append(note)
    return [note for note in kept if note]
