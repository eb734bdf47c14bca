"""Generated images: the file's form, its digest, and that only the rows asked for are read."""

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from drelu_cli.core.errors import DataError
from drelu_cli.data import generated_file
from drelu_cli.data.generated import find_generated, open_generated
from drelu_cli.runtime.streams import Stream

SHAPE = (3, 4, 5)
COUNT = 30


def images(count=COUNT):
    draws = Stream(0, torch.arange(count)).integers("pixels", (4, 5, 3), high=256)
    return draws.to(torch.uint8).numpy()


def labels(count=COUNT):
    return np.arange(count) % 10


def write(file, save=np.savez, **changes):
    arrays = {"image": images(), "label": labels(), **changes}
    save(file, **{key: array for key, array in arrays.items() if array is not None})
    return file


def opened(file, cache, **changes):
    return open_generated(file, cache, **{"shape": SHAPE, "classes": 10, **changes})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_read_channels_first(tmp_path, save):
    found = opened(write(tmp_path / "edm.npz", save), tmp_path / "cache")
    rows = torch.tensor([7, 0, 29, 7])
    assert len(found) == COUNT
    assert np.array_equal(found.images(rows).numpy(), images()[rows].transpose(0, 3, 1, 2))
    assert found.images(rows).dtype == torch.uint8
    assert found.labels.dtype == torch.int64
    assert found.labels.tolist() == labels().tolist()
    assert found.images(torch.tensor([], dtype=torch.int64)).shape == (0, *SHAPE)


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int64])
def test_labels_of_any_integer_type(tmp_path, kind):
    file = write(tmp_path / "edm.npz", label=labels().astype(kind))
    assert opened(file, tmp_path / "cache").labels.tolist() == labels().tolist()


def test_an_uncompressed_file_is_mapped_in_place_and_a_compressed_one_unpacked_once(tmp_path):
    cache = tmp_path / "cache"
    plain = generated_file.examined(write(tmp_path / "plain.npz"), cache)
    assert plain.pixels == tmp_path / "plain.npz"
    assert [path.suffix for path in cache.iterdir()] == [".sha256"]
    packed = write(tmp_path / "packed.npz", np.savez_compressed)
    first = generated_file.examined(packed, cache)
    assert first.pixels == cache / f"generated-{first.digest}.npy"
    written = first.pixels.stat().st_mtime_ns
    assert generated_file.examined(packed, cache).pixels.stat().st_mtime_ns == written
    first.pixels.write_bytes(first.pixels.read_bytes()[:-1])
    assert np.array_equal(np.load(generated_file.examined(packed, cache).pixels), images())


def test_the_digest_is_of_the_content(tmp_path):
    cache = tmp_path / "cache"
    digest = opened(write(tmp_path / "one.npz"), cache).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert opened(write(tmp_path / "two.npz"), cache).digest == digest
    assert opened(write(tmp_path / "z.npz", np.savez_compressed), cache).digest == digest
    more = write(tmp_path / "more.npz", note=np.array(1))
    assert opened(more, cache).digest == digest
    other = images()
    other[3, 2, 1, 0] ^= 1
    assert opened(write(tmp_path / "pixel.npz", image=other), cache).digest != digest
    swapped = labels()
    swapped[0] = 5
    assert opened(write(tmp_path / "label.npz", label=swapped), cache).digest != digest


def test_the_digest_is_taken_once_per_file_and_again_when_it_changed(tmp_path, monkeypatch):
    cache, file = tmp_path / "cache", write(tmp_path / "edm.npz")
    first = opened(file, cache).digest
    kept = next(cache.glob("*.sha256"))
    kept.write_text("0" * 64)
    assert opened(file, cache).digest == "0" * 64, "it was taken again"
    kept.write_text("no digest")
    assert opened(file, cache).digest == first
    changed = images()
    changed[0] = 0
    write(file, image=changed)
    os.utime(file, ns=(1, 1))
    assert opened(file, cache).digest != first


@pytest.mark.skipif(os.name == "nt", reason="st_ctime is the time of creation there")
def test_other_content_of_the_same_size_and_time_has_another_digest(tmp_path):
    file, cache = tmp_path / "edm.npz", tmp_path / "cache"
    digests = set()
    for pixels in (images(), 255 - images()):
        write(file, image=pixels)
        os.utime(file, ns=(1, 1))
        digests.add(opened(file, cache).digest)
    assert len(digests) == 2


def test_without_a_cache_folder_a_plain_file_does(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert len(opened(write(tmp_path / "edm.npz"), tmp_path / "cache")) == COUNT
    packed = write(tmp_path / "z.npz", np.savez_compressed)
    with pytest.raises(DataError, match="cannot be unpacked") as caught:
        opened(packed, tmp_path / "cache")
    assert "uncompressed" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "lacks image; it has label"),
        ({"label": None}, "lacks label; it has image"),
        ({"image": images().astype(np.float32)}, "image is float32 of shape (30, 4, 5, 3)"),
        ({"image": images()[..., 0]}, "image is uint8 of shape (30, 4, 5)"),
        ({"image": images()[:0], "label": labels()[:0]}, "image is uint8 of shape (0, 4, 5, 3)"),
        ({"image": np.asfortranarray(images())}, "Fortran order"),
        ({"image": images().transpose(0, 3, 1, 2).copy()}, "(3, 4, 5), the data set has (4, 5, 3)"),
        ({"label": labels().astype(np.float64)}, "label is float64 of shape (30,)"),
        ({"label": labels()[:-1]}, "label is int64 of shape (29,)"),
        ({"label": labels()[:, None]}, "label is int64 of shape (30, 1)"),
        ({"label": labels() + 1}, "labels from 1 to 10, the data set has 10 classes"),
        ({"label": labels() - 1}, "labels from -1 to 8"),
        ({"label": np.array([{}] * COUNT)}, "damaged or holds objects"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, words):
    file = write(tmp_path / "edm.npz", **changes)
    with pytest.raises(DataError) as caught:
        opened(file, tmp_path / "cache")
    assert words in caught.value.message
    assert str(file) in caught.value.message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("change", ["cut", "emptied", "flipped"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path, save, change):
    file = write(tmp_path / "edm.npz", save)
    body = file.read_bytes()
    middle = len(body) // 3
    damaged = {
        "cut": body[:-30],
        "emptied": b"",
        "flipped": body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :],
    }[change]
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=r"edm.npz is (damaged|no npz file)"):
        opened(file, tmp_path / "cache")
    assert file.read_bytes() == damaged
    assert not (tmp_path / "cache").exists()


def test_an_array_that_is_shorter_than_its_header_says(tmp_path):
    write(tmp_path / "whole.npz")
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as whole,
        zipfile.ZipFile(tmp_path / "edm.npz", "w") as cut,
    ):
        cut.writestr("image.npy", whole.read("image.npy")[:-1])
        cut.writestr("label.npy", whole.read("label.npy"))
    with pytest.raises(DataError, match="`image` is cut short"):
        opened(tmp_path / "edm.npz", tmp_path / "cache")


def test_a_file_is_looked_for_here_then_in_the_data_folder(tmp_path, monkeypatch):
    here, data_dir = tmp_path / "here", tmp_path / "data"
    (here / "g").mkdir(parents=True), (data_dir / "g").mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(DataError, match=f"g/a.npz, neither here nor in {data_dir}"):
        find_generated("g/a.npz", data_dir)
    (data_dir / "g" / "a.npz").touch()
    assert find_generated("g/a.npz", data_dir) == data_dir / "g" / "a.npz"
    (here / "g" / "a.npz").touch()
    assert find_generated("g/a.npz", data_dir) == here / "g" / "a.npz"
    assert find_generated(str(data_dir / "g" / "a.npz"), tmp_path) == data_dir / "g" / "a.npz"
    with pytest.raises(DataError, match="no file of generated images"):
        find_generated(str(tmp_path / "gone.npz"), data_dir)


_EPOCH = """
    import resource, sys
    from pathlib import Path
    import torch
    from drelu_cli.data.generated import open_generated
    from drelu_cli.runtime.streams import permutation

    def resident():
        text = Path("/proc/self/status").read_text()
        found = dict(line.split(":", 1) for line in text.splitlines())
        return int(found["VmRSS"].split()[0]), int(found["RssAnon"].split()[0])

    order = permutation(0, "rows", 100_000)
    file = Path(sys.argv[1])
    open_generated(file, file.parent / "cache", shape=(3, 32, 32), classes=10)
    found = open_generated(file, file.parent / "cache", shape=(3, 32, 32), classes=10)
    before, own = resident()
    total, largest, largest_own = 0, 0, 0
    for rows in order.split(128):
        total += int(found.images(rows).sum(dtype=torch.int64))
        after = resident()
        largest, largest_own = max(largest, after[0]), max(largest_own, after[1])
    print(total, largest - before, largest_own - own)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_an_epoch_over_a_file_of_300_mb_needs_no_memory_for_it(tmp_path):
    """Every row once, 307 MB in all; after no batch has the process grown by 40 MB.

    Neither in memory of its own nor with the pages of the file that it holds.
    """
    block = np.arange(1000 * 3072, dtype=np.int64).astype(np.uint8).reshape(1000, 32, 32, 3)
    many = np.lib.format.open_memmap(
        tmp_path / "image.npy", mode="w+", dtype=np.uint8, shape=(100_000, 32, 32, 3)
    )
    for start in range(0, len(many), len(block)):
        many[start : start + len(block)] = block
    many.flush()
    np.save(tmp_path / "label.npy", np.arange(100_000) % 10)
    with zipfile.ZipFile(tmp_path / "edm.npz", "w") as archive:
        for name in ("image.npy", "label.npy"):
            archive.write(tmp_path / name, name)
    (tmp_path / "image.npy").unlink()
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_EPOCH), str(tmp_path / "edm.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    total, grown, grown_own = (int(word) for word in run.stdout.split())
    assert total == 100 * int(block.sum(dtype=np.int64))
    assert grown < 40_000
    assert grown_own < 40_000
