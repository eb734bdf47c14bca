"""The jobs of a grid: trainings with their attacks, and what the store already has of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.store.connect import FILE_NAME, Store, open_store
from drelu_cli.workflows.attack import DEFAULT_SUITE
from drelu_cli.workflows.cascade import answers
from drelu_cli.workflows.checkpoints import is_complete, kept_along
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective, fitted_to, label_of, name_of
from drelu_cli.workflows.estimate import Planned
from drelu_cli.workflows.plan import Task, Wanted, tasks_for
from drelu_cli.workflows.recipes import Options, members, read_source
from drelu_cli.workflows.subjects import DataCache


@dataclass(frozen=True)
class Job:
    """One training of a grid with its attacks; several jobs may share a training.

    Attributes:
        recipe: as the grid gives it, not yet effective.
        key: the training's key.
        name: for people.
        label: the treatment in tables.
        wanted: what to attack it with.
        tasks: the attacks, one by one.
        trained: found finished in the store.
        missing: the tasks that are not finished in the store.
        effective: the recipe with everything filled in.
        moments: weights along the training that become models of their own, at most; they are
            attacked, too.
        missing_along: the tasks on those that are not finished in the store.
    """

    recipe: Recipe
    key: str
    name: str
    label: str
    wanted: Wanted
    tasks: tuple[Task, ...]
    trained: bool
    missing: tuple[Task, ...]
    effective: Recipe
    moments: int
    missing_along: tuple[Task, ...]

    @property
    def evaluations(self) -> int:
        """Of the training's result and of the weights along it."""
        return len(self.tasks) * (1 + self.moments)

    @property
    def found(self) -> int:
        """How many of the evaluations are finished in the store."""
        return self.evaluations - len(self.missing) - len(self.missing_along)

    @property
    def stored(self) -> int:
        """How many of the tasks are finished in the store."""
        return len(self.tasks) - len(self.missing)


def plan(
    name: str, *, preset: str, options: Options, data: DataCache, context: Context
) -> list[Job]:
    """The jobs of a recipe, with what the store already has.

    One job per training and way of attacking it: a grid over `attack.eps` trains once.
    """
    found = [member for member, _ in members(read_source(name), preset=preset, options=options)]
    common = _Common()
    if not (context.store / FILE_NAME).is_file():  # a plan makes no store
        return _unique(_job(member, {}, data, None, common) for member in found)
    with open_store(context.store, create=False) as store:
        trained = {record.key: record for record in store.models()}
        return _unique(_job(member, trained, data, store, common) for member in found)


class _Common:
    """What the jobs of a plan have in common is held once: there may be ten thousand of them."""

    def __init__(self) -> None:
        self._sections: dict[str, Any] = {}
        self._tasks: dict[tuple[str, Wanted], tuple[Task, ...]] = {}

    def recipe(self, recipe: Recipe) -> Recipe:
        """The same recipe with the sections of others where they are the same."""
        sections = {
            field: self._sections.setdefault(f"{field} {section!r}", section)
            for field, section in recipe
        }
        return recipe.model_copy(update=sections)

    def tasks(self, dataset: str, wanted: Wanted) -> tuple[Task, ...]:
        """The attacks on a data set's models, one by one."""
        found = self._tasks.get((dataset, wanted))
        if found is None:
            found = self._tasks[dataset, wanted] = tuple(tasks_for(dataset, wanted))
        return found


def _unique(jobs: Iterable[Job]) -> list[Job]:
    kept: dict[tuple[str, Wanted], Job] = {}
    for job in jobs:
        kept.setdefault((job.key, job.wanted), job)
    return list(kept.values())


def _job(
    member: Recipe,
    trained: dict[str, ModelRecord],
    data: DataCache,
    store: Store | None,
    common: _Common,
) -> Job:
    wanted_recipe = effective(member)
    splits = data.get(wanted_recipe.data.name, wanted_recipe.data.path)
    wanted_recipe = fitted_to(wanted_recipe, splits, data.folder)
    key = wanted_recipe.key(splits.digest)
    wanted = wanted_of(member)
    tasks = common.tasks(wanted_recipe.data.name, wanted)
    record = trained.get(key)
    samples = min(wanted.samples, len(splits.test.labels))
    found, missing, moments = False, tasks, _moments(wanted_recipe)
    missing_along = tasks * moments
    if store is not None and record is not None:
        found = is_complete(store, wanted_recipe, record)
        missing = _missing(store, record, tasks, wanted, samples)
        along = kept_along(store, wanted_recipe, key)
        moments = len(along) if found else moments
        if found:
            missing_along = tuple(
                task for one in along for task in _missing(store, one, tasks, wanted, samples)
            )
    name, label = name_of(wanted_recipe), label_of(wanted_recipe)
    recipe, filled_in = common.recipe(member), common.recipe(wanted_recipe)
    return Job(
        recipe, key, name, label, wanted, tasks, found, missing, filled_in, moments, missing_along
    )


def _moments(recipe: Recipe) -> int:
    """How many weights along a training are kept: every so many epochs, and minima of hopping."""
    section = recipe.train
    epochs = sum(phase.epochs or 0 for phase in recipe.phase)
    every = section.checkpoint_every
    return (epochs // every if every else 0) + (section.hops + 1 if section.hops else 0)


def wanted_of(recipe: Recipe) -> Wanted:
    """What a recipe's `[attack]` asks for; the suite `whitebox` where it says nothing."""
    section = recipe.attack
    suite = section.suite or (None if section.attacks else DEFAULT_SUITE)
    return Wanted(
        suite=suite,
        attacks=section.attacks,
        norm=section.norm,
        eps=section.eps,
        samples=section.samples,
        seed=section.seed,
        max_steps=section.max_steps,
        exhaustive=section.exhaustive,
        curve=section.curve,
        engine=section.engine,
        certify=section.certify,
        remedy=section.remedy,
    )


def _missing(
    store: Store, record: ModelRecord, tasks: tuple[Task, ...], wanted: Wanted, samples: int
) -> tuple[Task, ...]:
    """The tasks that lack outcomes of this model."""

    def covered(place: int, task: Task) -> bool:
        found = answers(record, task, tasks[:place], seed=wanted.seed)
        return any(len(store.stored_samples(one.key)) >= samples for one in found)

    return tuple(task for place, task in enumerate(tasks) if not covered(place, task))


def to_do(jobs: Sequence[Job], data: DataCache) -> Iterator[Planned]:
    """What is still to do; a training that several jobs share counts once."""
    seen: set[str] = set()
    for job in jobs:
        splits = data.get(job.effective.data.name, job.effective.data.path)
        train = not job.trained and job.key not in seen
        seen.add(job.key)
        yield Planned(
            job.effective,
            splits,
            train,
            (*job.missing, *job.missing_along),
            job.wanted,
            job.moments,
        )
