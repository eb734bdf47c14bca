"""All data sets of the recipes as a few images each, in the official formats."""

import hashlib
import pickle
from dataclasses import replace

import numpy as np
from PIL import Image

from drelu_cli.data import official
from drelu_cli.runtime.vision import import_torchvision

CLASSES = 10
TRAIN, TEST = 120, 40


def md5(body):
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def pictures(count, *shape):
    """(count, *shape) uint8, a brightness per class under noise, and (count,) labels."""
    draws = np.random.default_rng(count + sum(shape))
    labels = np.arange(count) % CLASSES
    levels = 20 * labels.reshape(-1, *(1 for _ in shape))
    return (levels + draws.integers(0, 60, (count, *shape))).astype(np.uint8), labels


def put(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in content.items():
        (folder / name).write_bytes(body)


def known(release, content):
    """The release with the sizes and md5s of these files."""
    files = {name: (len(body), md5(body)) for name, body in content.items()}
    return replace(release, files=files)


def write_all(folder, monkeypatch):
    """Puts every data set and the generated images below `folder`; loaders are told their md5s."""
    write_mnist(folder, monkeypatch)
    write_cifar(folder, monkeypatch, "CIFAR10", "cifar10")
    write_cifar(folder, monkeypatch, "CIFAR100", "cifar100")
    write_stl10(folder, monkeypatch)
    write_tiny_imagenet(folder)
    for name, side in (("cifar10", 32), ("cifar100", 32), ("tiny_imagenet", 64)):
        images, labels = pictures(50, side, side, 3)
        (folder / "generated").mkdir(exist_ok=True)
        np.savez(folder / "generated" / f"{name}.npz", image=images, label=labels)


def write_mnist(folder, monkeypatch):
    def idx(array):
        sizes = np.array(array.shape, dtype=">i4").tobytes()
        return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()

    content = {}
    for split, count in (("train", TRAIN), ("t10k", TEST)):
        images, labels = pictures(count, 28, 28)
        content[f"{split}-images-idx3-ubyte"] = idx(images)
        content[f"{split}-labels-idx1-ubyte"] = idx(labels)
    put(folder / "MNIST" / "raw", content)
    monkeypatch.setattr(official, "MNIST", known(official.MNIST, content))


def write_cifar(folder, monkeypatch, source, name):
    kind = "fine_labels" if name == "cifar100" else "labels"
    key = "fine_label_names" if name == "cifar100" else "label_names"
    splits = {"train": TRAIN, "test": TEST}
    content = {}
    for split, count in splits.items():
        images, labels = pictures(count, 3072)
        content[split] = pickle.dumps({"data": images, kind: labels.tolist()})
    meta = "meta" if name == "cifar100" else "batches.meta"
    content[meta] = pickle.dumps({key: [str(number) for number in range(CLASSES)]})
    release = getattr(official, source)
    put(folder / release.folder, content)
    monkeypatch.setattr(official, source, known(release, content))
    theirs = getattr(import_torchvision().datasets, release.source)
    monkeypatch.setattr(theirs, "train_list", [["train", md5(content["train"])]])
    monkeypatch.setattr(theirs, "test_list", [["test", md5(content["test"])]])
    monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": md5(content[meta])})


def write_stl10(folder, monkeypatch):
    content = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        images, labels = pictures(count, 3, 96, 96)
        content[f"{split}_X.bin"] = images.tobytes()
        content[f"{split}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    release = official.STL10
    put(folder / release.folder, content)
    monkeypatch.setattr(official, "STL10", known(release, content))


def write_tiny_imagenet(folder):
    root = folder / "tiny-imagenet-200"
    names = [f"n{number:08d}" for number in range(CLASSES)]
    for split, count in (("train", TRAIN), ("val", TEST)):
        images, labels = pictures(count, 64, 64, 3)
        lines = []
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            name = names[label]
            place = root / "train" / name if split == "train" else root / "val"
            file = place / "images" / f"{split}_{number}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
            lines.append(f"{file.name}\t{name}\t0\t0\t63\t63\n")
        if split == "val":
            (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "words.txt").write_text("".join(f"{name}\tthing\n" for name in names))
