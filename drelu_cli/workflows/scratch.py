"""The folder `STORE/work`: a store of its own for every job that a worker runs.

The driver alone writes the store itself. A worker writes a small store, `work/KEY`, which the
driver seeds, takes into the store when the job has ended, and removes. Whoever is killed leaves
finished epochs and outcomes there; the next sweep takes them over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from drelu_cli.core.errors import BadValue, StoreError
from drelu_cli.runtime.locks import take
from drelu_cli.runtime.parcels import RUBBISH
from drelu_cli.store.absorb import Absorbed, absorb
from drelu_cli.store.connect import FILE_NAME, Store, open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.files import write_atomically

WORK = "work"
LOGS = "logs"
_DRIVER = "driver.lock"
_IN_USE = ".lock"
_DIGITS = 16
# A worker whose driver was killed notices within a quarter of a second.
_DYING_SECONDS = 10.0


def scratch_folder(root: Path, key: str) -> Path:
    """Where the worker of the training `key` writes, in the store at `root`."""
    return root / WORK / key[:_DIGITS]


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """A worker's hold on its folder; waits for one whose driver was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / _IN_USE):
        yield


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = take(path, wait=None)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


@contextmanager
def driving(root: Path) -> Iterator[None]:
    """The driver's hold on the work folder of the store at `root`.

    Raises:
        BadValue: another sweep with workers runs on this store.
    """
    (root / WORK).mkdir(parents=True, exist_ok=True)
    # Whoever asks for the status or gathers leftovers holds it for a moment, too.
    lock = take(root / WORK / _DRIVER, wait=_DYING_SECONDS)
    if lock is None:
        raise BadValue(
            f"another sweep with workers runs on the store {root}",
            hint="drelu sweep --status shows it; --store names another store",
        )
    try:
        yield
    finally:
        lock.close()


def is_driven(root: Path) -> bool:
    """Whether a sweep with workers runs on the store at `root`."""
    if not (root / WORK / _DRIVER).is_file():
        return False
    lock = take(root / WORK / _DRIVER)
    if lock is None:
        return True
    lock.close()
    return False


def seed(store: Store, key: str, keys: Collection[str], *, twins: Collection[str] = ()) -> Path:
    """Makes the folder for a job, with what it may build on; gives the folder.

    Args:
        store: the archive.
        key: of the training that the job is about.
        keys: models whose files and results are taken along, or that are to be resumed.
        twins: models of which only weights are needed.
    """
    folder = scratch_folder(store.root, key)
    if not (folder / FILE_NAME).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / FILE_NAME, _empty_store())
    with open_store(folder) as scratch:
        scratch.hurry()
        absorb(scratch, store, keys)
        absorb(scratch, store, twins, results=False)
    with (folder / FILE_NAME).open("rb") as written:  # once, for all of it
        os.fsync(written.fileno())
    return folder


@cache
def _empty_store() -> bytes:
    """The file of an empty store: making one for every job would take longer than all the rest."""
    with tempfile.TemporaryDirectory() as folder:
        open_store(Path(folder)).close()
        return (Path(folder) / FILE_NAME).read_bytes()


def gather(store: Store, folder: Path, *, trained: bool = False) -> Absorbed:
    """Takes what a job made into the store, then removes its folder.

    Args:
        store: the archive.
        folder: of a job that has ended.
        trained: its models were trained there, whatever the archive had.

    Raises:
        StoreError: one of the two cannot be read or written; the folder stays.
    """
    found = Absorbed()
    if (folder / FILE_NAME).is_file():
        with open_store(folder, create=False) as scratch:
            keys = [record.key for record in scratch.models()] if trained else []
            found = absorb(store, scratch, trained=keys)
            scratch.hurry()  # it is removed now
    _remove(folder)
    return found


def gather_leftovers(context: Context) -> None:
    """Takes over what killed drivers and workers left; nothing while another driver runs."""
    work = context.store / WORK
    if not work.is_dir() or (lock := take(work / _DRIVER)) is None:
        return
    try:
        gather_all(context)
    finally:
        lock.close()


def gather_all(context: Context) -> None:
    """The same for the driver that holds the work folder."""
    deadline = time.monotonic() + _DYING_SECONDS  # one for all: a cluster has many workers
    with open_store(context.store) as store:
        for folder in sorted((context.store / WORK).iterdir()):
            if folder.is_dir() and folder.name != LOGS:
                _gather_leftover(store, folder, context, deadline)


def _gather_leftover(store: Store, folder: Path, context: Context, deadline: float) -> None:
    if folder.suffix == RUBBISH:
        shutil.rmtree(folder, ignore_errors=True)
        return
    lock = take(folder / _IN_USE, wait=max(0.0, deadline - time.monotonic()))
    if lock is None:
        context.note(f"a process still works in {folder}")
        return
    try:
        found = gather(store, folder)
    except StoreError as problem:
        context.note(f"{folder} cannot be taken into the store: {problem.message}")
        return
    finally:
        lock.close()
    if found != Absorbed():
        context.note(
            f"taken over from a sweep that was stopped: {found.models} models, "
            f"{found.samples} outcomes, {found.unfinished} unfinished trainings"
        )


def _remove(folder: Path) -> None:
    """Renamed first: half a folder must not look like one that is still to be gathered."""
    gone = folder.with_name(f"{folder.name}.{os.getpid()}{RUBBISH}")
    if folder.is_dir():
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
