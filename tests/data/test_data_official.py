"""Tiny files in the official formats; downloads are replaced, nothing here uses a network."""

import hashlib
import os
import pickle
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from drelu_cli.core.errors import DataError
from drelu_cli.data import official
from drelu_cli.data.loading import load
from drelu_cli.data.official import read_batches, read_idx
from drelu_cli.data.releases import (
    CIFAR10,
    CIFAR100,
    FASHION_MNIST,
    MNIST,
    RELEASES,
    STL10,
    TINY_IMAGENET,
    Official,
    is_there,
)
from drelu_cli.runtime.vision import import_torchvision

# Read at import: tests run without the user's environment.
DATA_DIR = Path(os.environ.get("DRELU_DATA_DIR", "."))
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip


def idx(array):
    sizes = np.array(array.shape, dtype=">i4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def md5(body):
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def grey(count):
    return (np.arange(count * 6) % 256).astype(np.uint8).reshape(count, 2, 3)


def bodies():
    labels = np.arange(12, dtype=np.uint8) % 10
    return dict(
        zip(NAMES, [idx(grey(12)), idx(labels), idx(grey(4)), idx(labels[:4])], strict=True)
    )


def release(content=None):
    files = {name: (len(body), md5(body)) for name, body in (content or bodies()).items()}
    return Official("mnist", "MNIST", "MNIST/raw", files)


def put(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in content.items():
        (folder / name).write_bytes(body)


def test_idx_files_are_read(tmp_path):
    put(tmp_path / "MNIST/raw", bodies())
    raw = read_idx(release(), tmp_path)
    assert np.array_equal(raw.train_images[:, 0].numpy(), grey(12))
    assert np.array_equal(raw.test_images[:, 0].numpy(), grey(4))
    assert raw.train_labels.tolist() == [*range(10), 0, 1]
    assert raw.test_labels.tolist() == [0, 1, 2, 3]
    assert raw.classes == 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["truncated", "emptied", "longer", "flipped"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path, name, change):
    content = bodies()
    body = content[name]
    content[name] = {
        "truncated": body[:-1],
        "emptied": b"",
        "longer": body + b"\0",
        "flipped": body[:-1] + bytes([body[-1] ^ 1]),
    }[change]
    put(tmp_path / "MNIST/raw", content)
    with pytest.raises(DataError) as caught:
        read_idx(release(), tmp_path)
    assert name in caught.value.message
    assert ("bytes, not" in caught.value.message) == (change != "flipped")
    assert "delete it" in caught.value.hint
    assert (tmp_path / "MNIST/raw" / name).read_bytes() == content[name]


@pytest.mark.parametrize("fault", [b"\0\0\x08\x02", b"\0\0\x0d\x03", b"PK\x03\x04"])
def test_a_file_that_is_no_idx_is_named(tmp_path, fault):
    content = bodies()
    content[NAMES[0]] = fault + content[NAMES[0]][4:]
    put(tmp_path / "MNIST/raw", content)
    with pytest.raises(DataError, match="no IDX file"):
        read_idx(release(content), tmp_path)


class Fake:
    """Stands for torchvision's class: writes files, or fails half-way."""

    written = bodies()
    fails: Exception | None = None

    def __init__(self, root, download):
        assert download
        sys.stdout.write("Downloading")
        for number, (name, body) in enumerate(self.written.items()):
            if self.fails and number == 2:
                raise self.fails
            put(Path(root) / "MNIST/raw", {name: body})


@pytest.fixture
def download(monkeypatch):
    def replace(**attributes):
        fake = type("MNIST", (Fake,), attributes)
        monkeypatch.setattr(import_torchvision().datasets, "MNIST", fake)

    return replace


def test_what_is_absent_is_downloaded_once_and_stdout_stays_clean(tmp_path, download, capsys):
    download()
    data_dir = tmp_path / "new" / "data"
    assert len(read_idx(release(), data_dir).train_labels) == 12
    assert capsys.readouterr().out == ""
    assert [path.name for path in data_dir.iterdir()] == ["MNIST"]
    download(fails=URLError("no second download"))
    assert len(read_idx(release(), data_dir).train_labels) == 12


def test_only_what_is_missing_is_put_in_place(tmp_path, download):
    download()
    content = bodies()
    del content[NAMES[1]]
    put(tmp_path / "MNIST/raw", content)
    kept = (tmp_path / "MNIST/raw" / NAMES[0]).stat().st_ino
    assert len(read_idx(release(), tmp_path).train_labels) == 12
    assert (tmp_path / "MNIST/raw" / NAMES[0]).stat().st_ino == kept


@pytest.mark.parametrize(
    "problem",
    [
        URLError("Name or service not known"),
        RuntimeError("Error downloading train-images"),
        ConnectionResetError(104, "Connection reset by peer"),
        EOFError("Compressed file ended"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_without_a_network_the_error_says_what_to_do(tmp_path, download, problem):
    download(fails=problem)
    with pytest.raises(
        DataError, match=r"mnist is not in .*MNIST/raw and cannot be downloaded"
    ) as e:
        read_idx(release(), tmp_path)
    assert "digits" in e.value.hint
    assert NAMES[0] in e.value.hint


@pytest.mark.parametrize("problem", [URLError("gone"), KeyboardInterrupt()], ids=["lost", "ctrl-c"])
def test_an_interrupted_download_leaves_nothing_that_looks_whole(tmp_path, download, problem):
    download(fails=problem)
    with pytest.raises((DataError, KeyboardInterrupt)):
        read_idx(release(), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    download()
    assert len(read_idx(release(), tmp_path).train_labels) == 12


def test_a_damaged_download_is_refused(tmp_path, download):
    download(written={**bodies(), NAMES[0]: b"<html>not found</html>"})
    with pytest.raises(DataError, match=f"{NAMES[0]} is damaged"):
        read_idx(release(), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def batch(first, count):
    data = (np.arange(first, first + count * 3072) % 256).astype(np.uint8).reshape(count, 3072)
    return pickle.dumps({"data": data, "labels": [index % 3 for index in range(count)]})


@pytest.fixture
def cifar(monkeypatch):
    """A small release of CIFAR-10 with two batches; torchvision is told its md5s."""
    content = {
        "data_batch_1": batch(0, 4),
        "data_batch_2": batch(7, 3),
        "test_batch": batch(1, 2),
        "batches.meta": pickle.dumps({"label_names": ["a", "b", "c"]}),
    }
    listed = [[name, md5(body)] for name, body in content.items()]
    source = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(source, "train_list", listed[:2])
    monkeypatch.setattr(source, "test_list", listed[2:3])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": listed[3][1]})
    files = {name: (len(body), md5(body)) for name, body in content.items()}
    return content, Official("cifar10", "CIFAR10", "cifar-10-batches-py", files)


def test_batches_are_read_channels_first(tmp_path, cifar):
    content, small = cifar
    put(tmp_path / small.folder, content)
    raw = read_batches(small, tmp_path)
    assert raw.train_images.shape == (7, 3, 32, 32)
    assert raw.test_images.shape == (2, 3, 32, 32)
    data = pickle.loads(content["data_batch_2"])["data"]
    assert np.array_equal(raw.train_images[4:].numpy(), data.reshape(3, 3, 32, 32))
    assert raw.train_labels.tolist() == [0, 1, 2, 0, 0, 1, 2]
    assert raw.classes == 3


def test_a_batch_that_would_execute_code_is_refused_before_it_is_opened(tmp_path, cifar):
    content, small = cifar
    trace = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    hostile = pickle.dumps(Hostile())
    padded = hostile + b"\0" * (len(content["data_batch_1"]) - len(hostile))
    put(tmp_path / small.folder, {**content, "data_batch_1": padded})
    with pytest.raises(DataError, match="data_batch_1 is damaged: its md5"):
        read_batches(small, tmp_path)
    assert not trace.exists()
    pickle.loads(padded)
    assert trace.exists(), "the batch was not hostile: this test would prove nothing"


def test_the_releases_agree_with_torchvisions_lists():
    datasets = import_torchvision().datasets
    for ours, theirs in ((CIFAR10, datasets.CIFAR10), (CIFAR100, datasets.CIFAR100)):
        listed = dict([*theirs.train_list, *theirs.test_list])
        listed[theirs.meta["filename"]] = theirs.meta["md5"]
        assert {name: known for name, (_, known) in ours.files.items()} == listed
        assert ours.folder == theirs.base_folder
    listed = dict([*datasets.STL10.train_list, *datasets.STL10.test_list])
    del listed["unlabeled_X.bin"]
    assert {name: known for name, (_, known) in STL10.files.items()} == listed
    assert STL10.folder == datasets.STL10.base_folder
    for release_, source in ((MNIST, datasets.MNIST), (FASHION_MNIST, datasets.FashionMNIST)):
        assert [f"{name}.gz" for name in release_.files] == [name for name, _ in source.resources]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [
        ("mnist", (54_000, 6_000, 10_000), (1, 28, 28)),
        ("fashion_mnist", (54_000, 6_000, 10_000), (1, 28, 28)),
        ("cifar10", (45_000, 5_000, 10_000), (3, 32, 32)),
        ("cifar100", (45_000, 5_000, 10_000), (3, 32, 32)),
        ("stl10", (4_500, 500, 8_000), (3, 96, 96)),
    ],
)
def test_official_files_where_they_are_at_hand(name, sizes, shape):
    release_ = next(one for one in RELEASES if one.name == name)
    if not is_there(release_, DATA_DIR):
        pytest.skip(f"no {release_.folder} in DRELU_DATA_DIR")
    splits = load(name, DATA_DIR)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes
    assert (splits.shape, splits.classes) == (shape, 100 if name == "cifar100" else 10)


def test_loaders_read_their_own_release(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(official, "read_idx", lambda release, _: seen.append(release.name))
    monkeypatch.setattr(official, "read_batches", lambda release, _: seen.append(release.name))
    monkeypatch.setattr(official, "read_binary", lambda release, _: seen.append(release.name))
    names = ["mnist", "fashion_mnist", "cifar10", "cifar100", "stl10"]
    for name in names:
        getattr(official, name)(tmp_path)
    assert seen == names


def test_what_is_there_is_told_without_reading_it(tmp_path):
    assert not is_there(CIFAR100, tmp_path)
    put(tmp_path / CIFAR100.folder, {"train": b"", "test": b""})
    assert not is_there(CIFAR100, tmp_path)
    put(tmp_path / CIFAR100.folder, {"meta": b""})
    assert is_there(CIFAR100, tmp_path)
    assert not is_there(TINY_IMAGENET, tmp_path)
    put(tmp_path / TINY_IMAGENET.folder, {"wnids.txt": b""})
    assert is_there(TINY_IMAGENET, tmp_path)
