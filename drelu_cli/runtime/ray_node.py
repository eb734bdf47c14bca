"""A job on a node of a Ray cluster: what the driver's order becomes there.

It runs in a thread, so that what it tells on its way can be handed to Ray as it happens.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drelu_cli
from drelu_cli.core.errors import BadValue, DreluError
from drelu_cli.runtime.calling import called, extend_import_path, plain
from drelu_cli.runtime.channel import open_channel
from drelu_cli.runtime.parcels import (
    Manifest,
    data_here,
    has_mark,
    keep_data,
    node_folder,
    packed,
    unpacked,
)

Message = dict[str, Any]
FOLDER, DATA = "folder", "data"


@dataclass(frozen=True)
class Order:
    """What the driver sends.

    Attributes:
        name: of the job.
        function: `package.module:function`.
        config: its argument, with the driver's folders.
        version: of the driver's drelu.
        cwd: the driver's folder, which relative paths of a recipe mean.
        import_path: the driver's.
        mark: left in the job's folder; None for a job without one.
        data: the files that the job reads, where the driver has them.
        shared: False where the driver's folders are not to be looked for.
        folder_bytes: the job's folder, as a reference in a list; empty where it has not been
            asked for.
        data_bytes: the data, likewise.
    """

    name: str
    function: str
    config: dict[str, Any]
    version: str
    cwd: str
    import_path: tuple[str, ...]
    mark: str | None
    data: Manifest | None
    shared: bool
    folder_bytes: tuple[Any, ...] = ()
    data_bytes: tuple[Any, ...] = ()


def work(order: Order) -> Iterator[Message]:
    """Tells where the job began, its progress, and how it ended.

    The last one is `result`, `error`, or `unseen`, before anything has begun, where this node
    lacks what is to be sent along.
    """
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_carry_out, args=(order, messages.put), daemon=True).start()
    while True:
        message = messages.get()
        yield message
        if message["event"] not in ("started", "progress"):
            return


def _carry_out(order: Order, tell: Callable[[Message], None]) -> None:
    try:
        tell(_ending(order, tell))
    except DreluError as problem:
        tell({"event": "error", "error": problem.message, "final": True})
    except BaseException as problem:  # noqa: BLE001 - silence would let the driver wait for ever
        error = f"{type(problem).__name__}: {problem}"
        tell({"event": "error", "error": error, "final": False})


def _place() -> str:
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"{socket.gethostname()}-{os.getpid()}" + (f"-gpu{gpu}" if gpu else "")


def _ending(order: Order, tell: Callable[[Message], None]) -> Message:
    if order.version != drelu_cli.__version__:
        raise BadValue(
            f"{socket.gethostname()} has drelu {drelu_cli.__version__}, the driver {order.version}"
        )
    shared = _sees_folder(order)
    data_dir = _data_dir(order)
    if not (shared or order.folder_bytes):
        return {"event": "unseen", "what": FOLDER}
    if order.data is not None and data_dir is None:
        return {"event": "unseen", "what": DATA}
    tell({"event": "started", "place": _place()})
    extend_import_path(order.import_path)
    with contextlib.suppress(OSError):  # a folder of the driver's machine
        os.chdir(order.cwd)
    open_channel(lambda kind, fields: tell(_progress(kind, fields)))
    config = order.config if data_dir is None else {**order.config, "data_dir": str(data_dir)}
    if shared:
        return plain(called(order.function, config))
    return _carried(order, config)


def _progress(kind: str, fields: Any) -> Message:
    return plain({"event": "progress", "kind": kind, "fields": fields})


def _sees_folder(order: Order) -> bool:
    if order.mark is None:
        return True
    return order.shared and has_mark(Path(order.config["store"]), order.mark)


def _data_dir(order: Order) -> Path | None:
    """Where the data lies here; None where it does not, or where none is needed."""
    manifest = order.data
    if manifest is None:
        return None
    if manifest.files and order.shared and manifest.is_visible():
        return Path(manifest.folder)
    here = data_here(manifest)
    if here.is_dir():
        return here
    if not order.data_bytes:
        return None
    keep_data(manifest, _fetched(order.data_bytes))
    return here


def _carried(order: Order, config: dict[str, Any]) -> Message:
    """Runs the job in a folder of this node; its content goes back with the ending."""
    root = Path(tempfile.mkdtemp(prefix="job-", dir=node_folder()))
    try:
        folder = root / "store"
        unpacked(_fetched(order.folder_bytes), folder)
        message = plain(called(order.function, {**config, "store": str(folder)}))
        return {**message, FOLDER: packed(folder)}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _fetched(reference: tuple[Any, ...]) -> bytes:
    import ray

    content: bytes = ray.get(reference[0])
    return content
