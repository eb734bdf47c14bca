"""Tiny ImageNet in its official layout (Stanford CS231n): 200 classes of 64x64 colour images.

tiny-imagenet-200/wnids.txt                        one WordNet identifier per class
                 /train/IDENTIFIER/images/*.JPEG
                 /val/images/*.JPEG
                 /val/val_annotations.txt          image, identifier, box; separated by tabs
"""

from __future__ import annotations

from pathlib import Path

from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Raw
from drelu_cli.data.decoding import Tree, images_in, read_tree
from drelu_cli.data.download import unpacked
from drelu_cli.data.releases import TINY_IMAGENET, WORDNET_IDS, Archive

# The source paper's split of the training images.
_VALIDATION_SHARE = 0.2


def tiny_imagenet(data_dir: Path, /) -> Raw:
    """64x64x3, 200 classes, 100,000 and 10,000 images; grey files become RGB.

    The test split is the official validation split: labels of the official test images are not
    public. Classes are numbered in the order of their sorted identifiers, as
    `torchvision.datasets.ImageFolder` does.

    Raises:
        DataError: files that cannot be had, are missing or damaged.
    """
    return read_archive(TINY_IMAGENET, data_dir)


def read_archive(archive: Archive, data_dir: Path) -> Raw:
    """The images of a release in Tiny ImageNet's layout.

    Raises:
        DataError: files that cannot be had, are missing or damaged.
    """
    root = unpacked(archive, data_dir)
    classes = sorted(_lines(root / WORDNET_IDS))
    if not classes:
        raise DataError(f"{root / WORDNET_IDS} is empty")
    labels = {identifier: label for label, identifier in enumerate(classes)}
    train = [
        (file, label)
        for identifier, label in labels.items()
        for file in images_in(root / "train" / identifier / "images")
    ]
    test = _annotated(root / "val", labels)
    for what, listed in (("train", train), ("val", test)):
        if not listed:
            raise DataError(f"{root / what} has no images", hint="unpack the archive again")
    tree = Tree(root, train, test, len(classes), "RGB")
    return read_tree(tree, archive.name, data_dir, validation_share=_VALIDATION_SHARE)


def _annotated(folder: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    """Files and labels as the annotations list them."""
    source = folder / "val_annotations.txt"
    there = {file.name for file in images_in(folder / "images")}
    listed = []
    for number, line in enumerate(_lines(source), start=1):
        name, _, rest = line.partition("\t")
        identifier = rest.partition("\t")[0]
        if identifier not in labels:
            raise DataError(
                f"{source}, line {number}: '{identifier}' is not in {WORDNET_IDS}",
                hint="each line is: image, identifier, box; separated by tabs",
            )
        if name not in there:
            raise DataError(f"{folder / 'images' / name} is missing: {source.name} lists it")
        listed.append((folder / "images" / name, labels[identifier]))
    return listed


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(
            f"{file} cannot be read: {reason}",
            hint="is the folder the official one, wholly unpacked?",
        ) from problem
