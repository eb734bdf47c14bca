"""`image_folder`: a data set of the user's own as a tree of image files.

train/CLASS/* and test/CLASS/* (or val/CLASS/*); all images have one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Raw
from drelu_cli.data.decoding import SUFFIXES, Tree, images_in, read_tree

_LAYOUT = "needed: train/CLASS/* and test/CLASS/* (or val/CLASS/*)"


def image_folder(data_dir: Path, /, *, path: str | None = None) -> Raw:
    """The data set in the folder `path`; classes are its folders below train, sorted by name.

    One channel where every image is grey, three else; files without an image's suffix are left
    out. A tenth of the training images validates.

    Raises:
        DataError: no such folder, another layout, a file that is no image, is damaged, or has
            another size than the first one.
    """
    if path is None:
        raise DataError(
            "the data set image_folder needs a folder", hint="give its path: [data] path = ..."
        )
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", hint=_LAYOUT)
    names = _classes(root / "train")
    held_out = next((root / part for part in ("test", "val") if (root / part).is_dir()), None)
    if held_out is None:
        raise DataError(f"{root} has neither test nor val", hint=_LAYOUT)
    unknown = [name for name in _classes(held_out) if name not in names]
    if unknown:
        raise DataError(
            f"{held_out / unknown[0]} is no class of {root / 'train'}",
            hint=f"its classes: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}",
        )
    train = _labelled(root / "train", names)
    taken = {label for _, label in train}
    empty = [name for label, name in enumerate(names) if label not in taken]
    if empty:
        raise _without_images(root / "train" / empty[0])
    test = _labelled(held_out, names)
    if not test:
        raise _without_images(held_out)
    return read_tree(Tree(root, train, test, len(names)), "image_folder", data_dir)


def _classes(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted; hidden ones are left out."""
    try:
        found = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError as problem:
        raise DataError(f"{folder} cannot be read: {problem.strerror}", hint=_LAYOUT) from problem
    if not found:
        raise DataError(f"{folder} has no classes", hint=_LAYOUT)
    return sorted(found)


def _labelled(folder: Path, names: Sequence[str]) -> list[tuple[Path, int]]:
    return [
        (file, label)
        for label, name in enumerate(names)
        if (folder / name).is_dir()
        for file in images_in(folder / name)
    ]


def _without_images(folder: Path) -> DataError:
    return DataError(f"{folder} has no images", hint=f"suffixes: {', '.join(SUFFIXES)}")
