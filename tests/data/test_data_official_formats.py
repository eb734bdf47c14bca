"""Small files of CIFAR-100 and STL-10 in the official formats; nothing here uses a network."""

import pickle

import numpy as np
import pytest
from test_data_official import md5, put

from drelu_cli.core.errors import DataError
from drelu_cli.data import official
from drelu_cli.data.loading import load
from drelu_cli.data.official import read_batches, read_binary
from drelu_cli.data.releases import Official
from drelu_cli.runtime.vision import import_torchvision


def fine_and_coarse(count):
    """A file of CIFAR-100: two kinds of labels, of which the fine ones count."""
    data = (np.arange(count * 3072) % 251).astype(np.uint8).reshape(count, 3072)
    labels = {"fine_labels": [3, 0, 2, 1][:count], "coarse_labels": [9] * count}
    return pickle.dumps({"data": data, **labels, "filenames": ["x.png"] * count})


@pytest.fixture
def cifar_100(monkeypatch):
    """A small release of CIFAR-100; torchvision is told its md5s. One size is not published."""
    names = {"fine_label_names": ["a", "b", "c", "d"], "coarse_label_names": ["e"]}
    content = {
        "train": fine_and_coarse(4),
        "test": fine_and_coarse(2),
        "meta": pickle.dumps(names),
    }
    source = import_torchvision().datasets.CIFAR100
    monkeypatch.setattr(source, "train_list", [["train", md5(content["train"])]])
    monkeypatch.setattr(source, "test_list", [["test", md5(content["test"])]])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5(content["meta"])})
    files = {name: (len(body), md5(body)) for name, body in content.items()}
    files["meta"] = (None, files["meta"][1])
    return content, Official("cifar100", "CIFAR100", "cifar-100-python", files)


def test_cifar100_has_its_fine_labels(tmp_path, cifar_100):
    content, small = cifar_100
    put(tmp_path / small.folder, content)
    raw = read_batches(small, tmp_path)
    assert raw.train_labels.tolist() == [3, 0, 2, 1]
    assert raw.test_labels.tolist() == [3, 0]
    assert raw.classes == 4
    data = pickle.loads(content["train"])["data"]
    assert np.array_equal(raw.train_images.numpy(), data.reshape(4, 3, 32, 32))


def test_a_file_without_a_published_size_is_still_checked(tmp_path, cifar_100):
    content, small = cifar_100
    put(tmp_path / small.folder, {**content, "meta": content["meta"][:-1]})
    with pytest.raises(DataError, match="meta is damaged: its md5 is not the official one"):
        read_batches(small, tmp_path)


def picture(number):
    """A picture of STL-10 as (3, 96, 96), rows first: every pixel tells where it is."""
    channel, row, column = np.meshgrid(np.arange(3), np.arange(96), np.arange(96), indexing="ij")
    return ((50 * number + 80 * channel + 2 * row + column) % 256).astype(np.uint8)


def binary(train=3, test=2, first_label=1):
    """The files of STL-10: columns first, labels from 1."""
    content = {}
    for split, count in (("train", train), ("test", test)):
        stored = [picture(number).transpose(0, 2, 1).tobytes() for number in range(count)]
        content[f"{split}_X.bin"] = b"".join(stored)
        content[f"{split}_y.bin"] = bytes([first_label, 10, 5, 5][:count])
    return content


def small_stl10(content):
    files = {name: (len(body), md5(body)) for name, body in content.items()}
    return Official("stl10", "STL10", "stl10_binary", files)


def test_stl10_is_read_rows_first_with_labels_from_0(tmp_path):
    content = binary()
    put(tmp_path / "stl10_binary", content)
    raw = read_binary(small_stl10(content), tmp_path)
    expected = np.stack([picture(number) for number in range(3)])
    assert np.array_equal(raw.train_images.numpy(), expected)
    assert np.array_equal(raw.test_images.numpy(), expected[:2])
    assert raw.train_labels.tolist() == [0, 9, 4]
    assert raw.test_labels.tolist() == [0, 9]
    assert raw.classes == 10


def test_stl10_agrees_with_torchvisions_reader(tmp_path, monkeypatch):
    content = binary()
    put(tmp_path / "stl10_binary", content)
    source = import_torchvision().datasets.STL10
    monkeypatch.setattr(source, "_check_integrity", lambda _: True)
    theirs = source(str(tmp_path), split="train")
    ours = read_binary(small_stl10(content), tmp_path)
    assert np.array_equal(ours.train_images.numpy(), theirs.data)
    assert ours.train_labels.tolist() == theirs.labels.tolist()


def test_stl10_files_that_are_cut_short_are_named(tmp_path):
    content = binary()
    whole = small_stl10(content)
    content["test_X.bin"] = content["test_X.bin"][:-5]
    put(tmp_path / "stl10_binary", content)
    with pytest.raises(DataError, match="test_X.bin is damaged: 55,291 bytes, not 55,296"):
        read_binary(whole, tmp_path)
    with pytest.raises(DataError, match=r"test_X.bin is damaged.*no whole number of 96x96x3"):
        read_binary(small_stl10(content), tmp_path)


def test_a_label_0_in_stl10_is_no_class(tmp_path, monkeypatch):
    content = binary(first_label=0)
    put(tmp_path / "stl10_binary", content)
    monkeypatch.setattr(official, "STL10", small_stl10(content))
    with pytest.raises(DataError, match="labels from -1 to 9"):
        load("stl10", tmp_path)
