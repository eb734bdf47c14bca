"""One store's models and results taken into another one: what workers made, into the archive.

Only through the public interface of `Store` and by renamed files, so that it can be interrupted
anywhere and done again: what is there already is left as it is.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from drelu_cli.core.errors import StoreError
from drelu_cli.core.records import ModelRecord
from drelu_cli.store.archive import Store
from drelu_cli.store.cleanup import RESUME_FILE
from drelu_cli.store.evaluations import StoredEvaluation


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What was new.

    Attributes:
        models: registered, checkpoints of trainings included.
        evaluations: extended or added.
        samples: outcomes added.
        unfinished: trainings to be resumed whose last finished epoch was taken over.
    """

    models: int = 0
    evaluations: int = 0
    samples: int = 0
    unfinished: int = 0


def absorb(
    target: Store,
    source: Store,
    keys: Collection[str] | None = None,
    *,
    results: bool = True,
    trained: Collection[str] = (),
) -> Absorbed:
    """Takes models, their files and what is known about them from `source` into `target`.

    Files are whole or not there; outcomes, certificates and findings that are there already
    stay. A model that `target` knows with other weights stays, too, and nothing of this other
    model is taken.

    Args:
        target: written.
        source: read.
        keys: of the models; None takes all, and the trainings that are to be resumed.
        results: False takes only models and their files.
        trained: keys that `source` has just trained: its weights stand above those in `target`,
            whose file was missing or damaged.

    Raises:
        StoreError: one of the two is damaged, full or locked.
    """
    records = source.models(keys=keys)
    known = {one.key: one for one in target.models(keys=[record.key for record in records])}
    models = evaluations = samples = 0
    for record in records:
        other = known.get(record.key)
        differs = other is not None and other.weights_digest != record.weights_digest
        if differs and record.key not in trained:
            continue
        _take_files(source.model_dir(record.key), target.model_dir(record.key), finished=True)
        models += other is None
        with target.together():
            target.add_model(record)
            _take_order(target, source, record.dataset_digest)
            if results:
                found = _evaluations(source, record)
                counts = [_take_outcomes(target, source, one) for one in found]
                evaluations += sum(count > 0 for count in counts)
                samples += sum(counts)
                _take_court(target, source, record)
    folders = _resumable(source, keys)
    there = {one.key for one in target.models(keys=[folder.name for folder in folders])}
    taken = [folder.name not in there and _take_resumable(folder, target) for folder in folders]
    return Absorbed(models, evaluations, samples, sum(taken))


def _evaluations(source: Store, record: ModelRecord) -> Iterator[StoredEvaluation]:
    for stored in source.evaluations(model_key=record.key):
        if stored.evaluation.weights_digest == record.weights_digest:
            yield stored


def _take_order(target: Store, source: Store, digest: str) -> None:
    order = source.sample_order(digest)
    if order is not None and target.sample_order(digest) is None:
        target.set_sample_order(digest, order)


def _take_outcomes(target: Store, source: Store, stored: StoredEvaluation) -> int:
    """How many outcomes of an evaluation were new."""
    there = target.stored_samples(stored.key)
    missing = sorted(source.stored_samples(stored.key) - there)
    known = target.evaluation(stored.key)
    if known is None or missing:
        spent = 0.0 if known is None else known.seconds
        share = stored.seconds * len(missing) / max(1, stored.samples)
        whole = len(missing) + len(there) == stored.samples
        target.add_outcomes(
            stored.evaluation,
            source.outcomes(stored.key, missing),
            seconds=max(0.0, stored.seconds - spent) if whole else share,
        )
    elif set(stored.evaluation.provenance) < set(known.evaluation.provenance):
        # A run of the court's own that a user has asked for meanwhile.
        target.set_provenance(stored.key, stored.evaluation.provenance)
    return len(missing)


def _take_court(target: Store, source: Store, record: ModelRecord) -> None:
    """Examinations, certificates and findings of a model."""
    for examination in source.examinations(model_key=record.key):
        if target.examination(examination.key) != examination:
            target.add_examination(examination)
    for stored in source.certificates(model_key=record.key):
        of = stored.certificate
        place = (of.model_key, of.weights_digest, of.dataset_digest, of.eps, of.method)
        more = {"norm": of.norm, "version": of.version}
        there = target.certified_samples(*place, **more)  # type: ignore[arg-type]
        new = {sample: proven for sample, proven in stored.samples.items() if sample not in there}
        if new:
            seconds = stored.seconds * len(new) / len(stored.samples)
            samples, proven = list(new), list(new.values())
            target.add_certificate(*place, samples, proven, seconds, **more)  # type: ignore[arg-type]
    for finding in source.findings(record.key):
        target.add_finding(record.key, finding.code, finding.detail)


# Files


def _resumable(source: Store, keys: Collection[str] | None) -> list[Path]:
    """Folders of trainings that were interrupted and can be resumed."""
    root = source.root / "models"
    folders = sorted(root.iterdir() if keys is None else (root / key for key in keys))
    found = [folder for folder in folders if (folder / RESUME_FILE).is_file()]
    finished = {record.key for record in source.models(keys=[folder.name for folder in found])}
    return [folder for folder in found if folder.name not in finished]


def _take_resumable(folder: Path, target: Store) -> bool:
    """Takes an interrupted training over, unless `target` has a later epoch of it."""
    place = target.model_dir(folder.name)
    there = place / RESUME_FILE
    if there.is_file() and there.stat().st_mtime >= (folder / RESUME_FILE).stat().st_mtime:
        return False
    _take_files(folder, place, finished=False)
    return True


def _take_files(folder: Path, place: Path, *, finished: bool) -> None:
    """Copies a model's files: the folder at once where it is new, else file by file.

    Args:
        folder: may be missing, as that of a model from outside.
        place: where to.
        finished: the training has ended: nothing is to be resumed any more.
    """
    if not folder.is_dir():
        return
    files = [file for file in sorted(folder.iterdir()) if _is_whole(file, finished=finished)]
    try:
        if place.is_dir():
            for file in files:
                _copy(file, place)
        else:
            _copy_folder(files, place)
        if finished:
            (place / RESUME_FILE).unlink(missing_ok=True)
    except OSError as problem:
        raise StoreError(
            f"{place} cannot be written: {problem.strerror or problem}",
            hint="is the disk full? what was finished is kept in the folder work of the store",
        ) from problem


def _is_whole(file: Path, *, finished: bool) -> bool:
    """Not a lock, not half-written, not of an epoch that is past."""
    past = finished and file.name == RESUME_FILE
    return file.is_file() and not file.name.startswith(".") and ".tmp" not in file.name and not past


def _copy_folder(files: list[Path], place: Path) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for file in files:
            _copy(file, temporary)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(file: Path, folder: Path) -> None:
    """Copies one file with its time of change; what is the same already is left alone."""
    place = folder / file.name
    if place.is_file() and (place.samefile(file) or filecmp.cmp(file, place, shallow=False)):
        return
    temporary = folder / f".{file.name}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    try:
        _duplicate(file, temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _duplicate(file: Path, copy: Path) -> None:
    """A link where the file system allows it, else a copy.

    Stores write files by rename and never into them, so two of them can share one; its writer has
    flushed it to the disk.
    """
    try:
        copy.hardlink_to(file)
    except OSError:
        shutil.copy2(file, copy)
        with copy.open("rb") as written:
            os.fsync(written.fileno())
