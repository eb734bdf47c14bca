"""Trainings of a sweep that differ in seed, lambda or cap start alone, as one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import IO, Any

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import DreluError, Interrupted
from drelu_cli.core.recipe import Recipe
from drelu_cli.data.loading import load
from drelu_cli.runtime.devices import pick_device
from drelu_cli.runtime.locks import take
from drelu_cli.store.connect import Store, open_store
from drelu_cli.training.contract import FitResult
from drelu_cli.training.stack import Member, can_stack, run_stacked
from drelu_cli.workflows.checkpoints import Keeper
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.files import RESUME
from drelu_cli.workflows.fitting import Training, begin, splits_of
from drelu_cli.workflows.jobs import Job
from drelu_cli.workflows.remote import described
from drelu_cli.workflows.train import finished

# Nets at once, by device. On a CPU more than these gain little: benchmarks/stacking.py. The
# number for GPUs is a guess: enough that launches are no longer what a step waits for.
AT_ONCE = {"cpu": 6, "cuda": 64}
# Trainings that are held in memory together, in stacks: as one ends the next begins.
_STACKS_HELD = 4
_SCHEMES = ("natural", "madry", "trades")
_ACTIVATIONS = ("relu", "relu6", "tanh", "hardtanh", "silu", "softplus", "srelu", "drelu")


def stackable(jobs: Sequence[Job]) -> list[list[Job]]:
    """The missing trainings of a plan that can run as one program, in groups of two or more.

    One job stands for each training: the one that keeps the most along it.
    """
    missing: dict[str, Job] = {}
    for job in jobs:
        if not job.trained and job.moments >= missing.get(job.key, job).moments:
            missing[job.key] = job
    groups: dict[str, list[Job]] = {}
    for job in missing.values():
        mark = _shared(job.effective)
        if mark is not None:
            groups.setdefault(mark, []).append(job)
    return [group for group in groups.values() if len(group) > 1]


def _shared(recipe: Recipe) -> str | None:
    """A digest of what trainings of one stack share; None for what trains alone.

    Args:
        recipe: effective.
    """
    alone = (
        recipe.model.name != "dense"
        or recipe.model.pretrained is not None
        or recipe.data.generated is not None
        or recipe.train.hops
        or recipe.train.checkpoint_every
        or recipe.activation.name not in _ACTIVATIONS
    )
    if alone or any(phase.scheme not in _SCHEMES for phase in recipe.phase):
        return None
    identity = recipe.identity(f"{recipe.data.name}:{recipe.data.path}")
    identity["train"] = _without(identity["train"], "seed")
    identity["penalty"] = None
    if recipe.activation.name == "drelu":
        identity["activation"] = _without(identity["activation"], "cap")
    return digest_of(identity)


def _without(section: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != name}


class Stacks:
    """The stacks of a sweep; each is trained when the first of its trainings is asked for.

    Attributes:
        made: keys of the trainings that a stack has finished.

    Args:
        jobs: the plan.
        context: folders, device and progress.
    """

    def __init__(self, jobs: Sequence[Job], context: Context) -> None:
        self.made: set[str] = set()
        self._context = context
        most = AT_ONCE.get(pick_device(context.device).type, 0)
        held = most * _STACKS_HELD
        self._of: dict[str, list[Job]] = {}
        for group in stackable(jobs) if most else ():
            parts = [group[first : first + held] for first in range(0, len(group), held)]
            self._of.update((job.key, part) for part in parts if len(part) > 1 for job in part)

    @property
    def planned(self) -> int:
        """How many trainings are still to be stacked."""
        return len(self._of)

    def train(self, key: str) -> bool:
        """Trains the stack of `key`, where there is one; whether that finished this training.

        What it does not finish trains alone: a stack that fails costs the epoch at hand.
        """
        jobs = self._of.get(key, ())
        for job in jobs:
            self._of.pop(job.key)
        if jobs:
            try:
                _train(jobs, self.made, self._context)
            except Interrupted:
                raise
            except Exception as problem:  # noqa: BLE001 - each training tells of its own error
                self._context.note(f"one by one from here on: {described(problem)}")
        return key in self.made


def _train(jobs: Sequence[Job], made: set[str], context: Context) -> None:
    """Trains jobs of one stack; adds the key of each to `made` once it is in the registry."""
    device = pick_device(context.device)
    with open_store(context.store) as store, ExitStack() as held:
        locks: dict[str, IO[str]] = {}
        trainings = _begun(store, jobs, held, locks, context)
        members = {
            key: Member(training.fit, training.after_epoch, Keeper(store, *_about(training)))
            for key, training in trainings.items()
        }
        if len(members) < 2 or not can_stack([one.fit for one in members.values()]):
            return
        most = AT_ONCE[device.type]
        context.note(f"{len(members)} trainings as one program, up to {most} at once")
        epochs = 0

        def on_stack(nets: int, seconds: float) -> None:
            nonlocal epochs
            epochs += 1
            told = {"nets": nets, "seconds": seconds, "ended": len(ended), "of": len(members)}
            context.progress("stack", {**told, "done": epochs})

        ended: set[str] = set()
        keys = {id(one): key for key, one in members.items()}
        names = {job.key: job.name for job in jobs}
        for member, result in run_stacked(list(members.values()), most, on_stack):
            key = keys[id(member)]
            if isinstance(result, DreluError):
                context.note(f"{names[key]} leaves the stack: {result.message}")
                continue
            _stored(store, trainings[key], result)
            locks[key].close()
            ended.add(key)
            made.add(key)
            context.note(
                f"{names[key]}: {len(result.history)} epochs, ended by {result.stopped_by}"
            )


def _about(training: Training) -> tuple[Any, ...]:
    return training.recipe, training.data, training.device


def _begun(
    store: Store,
    jobs: Sequence[Job],
    held: ExitStack,
    locks: dict[str, IO[str]],
    context: Context,
) -> dict[str, Training]:
    """The trainings that are this process's to do, each at its last finished epoch.

    Each is locked against other processes; `held` ends that at the latest.
    """
    device = pick_device(context.device)
    found: dict[str, Training] = {}
    first = jobs[0].effective
    data = load(first.data.name, context.data_folder, path=first.data.path)
    splits = splits_of(first, data, device, context.data_folder)
    for job in jobs:
        folder = store.model_dir(job.key)
        folder.mkdir(parents=True, exist_ok=True)
        lock = take(folder / ".lock")
        if lock is None:  # another process trains it: its turn comes alone, and waits
            continue
        held.callback(lock.close)
        locks[job.key] = lock
        if finished(store, job.key, job.effective.report.label) is not None:
            continue
        found[job.key] = begin(
            job.effective,
            data,
            folder,
            device,
            force=False,
            context=_quiet(context, job.name),
            can_resume=lambda epochs: True,  # noqa: ARG005 - nothing is kept along the way
            splits=splits,
        )
    return found


def _quiet(context: Context, name: str) -> Context:
    """Tells notes under the training's name; the stack tells of the epochs."""

    def progress(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "note":
            context.note(f"{name}: {fields['text']}")

    return replace(context, progress=progress)


def _stored(store: Store, training: Training, result: FitResult) -> None:
    store.add_model(training.finish(result))
    (training.folder / RESUME).unlink(missing_ok=True)
