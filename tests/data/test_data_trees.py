"""Trees of image files: Tiny ImageNet's official layout, folders of the user's own, the cache."""

import hashlib
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import data_trees as trees
import numpy as np
import pytest
import torch
from PIL import Image

from drelu_cli.core.errors import DataError
from drelu_cli.data import conformance, decoding
from drelu_cli.data.image_folder import image_folder
from drelu_cli.data.loading import load
from drelu_cli.data.releases import TINY_IMAGENET, Archive
from drelu_cli.data.tiny_imagenet import read_archive, tiny_imagenet

# Read at import: tests run without the user's environment.
DATA_DIR = Path(os.environ.get("DRELU_DATA_DIR", "."))


def decoded(file):
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def caches(data_dir):
    return sorted((data_dir / "cache").glob("*.npz"))


@pytest.fixture
def counted(monkeypatch):
    """How often a tree was decoded."""
    times = []
    inner = decoding._decoded
    monkeypatch.setattr(decoding, "_decoded", lambda tree: times.append(tree) or inner(tree))
    return times


class TestTinyImageNet:
    def test_keeps_the_contract(self, tmp_path):
        trees.tiny_imagenet(tmp_path)
        conformance.check_dataset(lambda: load("tiny_imagenet", tmp_path))

    def test_the_official_layout_is_read(self, tmp_path):
        folder = trees.tiny_imagenet(tmp_path)
        raw = tiny_imagenet(tmp_path)
        assert raw.classes == 3
        assert raw.train_labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
        # wnids.txt begins with n02: the annotations follow it, the labels their sorted order.
        assert raw.test_labels.tolist() == [1, 1, 0, 0, 2, 2]
        first = folder / "train" / "n01" / "images" / "n01_0.JPEG"
        assert np.array_equal(raw.train_images[0].numpy(), decoded(first))
        assert np.array_equal(
            raw.test_images[3].numpy(), decoded(folder / "val" / "images" / "val_3.JPEG")
        )

    def test_a_grey_file_becomes_colour(self, tmp_path):
        trees.tiny_imagenet(tmp_path)
        with Image.open(
            tmp_path / "tiny-imagenet-200" / "train" / "n01" / "images" / "n01_1.JPEG"
        ) as image:
            assert image.mode == "L"
        red, green, blue = tiny_imagenet(tmp_path).train_images[1]
        assert torch.equal(red, green)
        assert torch.equal(red, blue)

    def test_a_fifth_of_the_training_images_validates(self, tmp_path):
        trees.tiny_imagenet(tmp_path)
        splits = load("tiny_imagenet", tmp_path)
        assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 3, 6)
        assert splits.shape == (3, 64, 64)

    @pytest.mark.parametrize(
        ("missing", "words"),
        [
            ("wnids.txt", "wnids.txt cannot be read"),
            ("val/val_annotations.txt", "val_annotations.txt cannot be read"),
            ("val/images/val_2.JPEG", "val_2.JPEG is missing: val_annotations.txt lists it"),
            ("train/n03", "n03/images cannot be read"),
        ],
    )
    def test_what_is_missing_is_named(self, tmp_path, missing, words):
        gone = trees.tiny_imagenet(tmp_path) / missing
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        with pytest.raises(DataError, match=words):
            tiny_imagenet(tmp_path)

    def test_an_unknown_class_is_named_with_its_line(self, tmp_path):
        source = trees.tiny_imagenet(tmp_path) / "val" / "val_annotations.txt"
        source.write_text(source.read_text().replace("n03", "n99", 1))
        with pytest.raises(DataError, match=r"val_annotations.txt, line 5: 'n99'"):
            tiny_imagenet(tmp_path)

    def test_without_images_there_is_no_split(self, tmp_path):
        folder = trees.tiny_imagenet(tmp_path)
        for file in folder.glob("train/*/images/*"):
            file.unlink()
        with pytest.raises(DataError, match="train has no images"):
            tiny_imagenet(tmp_path)

    @pytest.mark.data
    @pytest.mark.slow
    def test_the_archive_where_it_is_at_hand(self):
        if not (DATA_DIR / TINY_IMAGENET.folder).is_dir():
            pytest.skip("no Tiny ImageNet in DRELU_DATA_DIR")
        splits = load("tiny_imagenet", DATA_DIR)
        assert (splits.shape, splits.classes) == ((3, 64, 64), 200)
        assert len(splits.validation) == round(0.2 * (len(splits.train) + len(splits.validation)))


class TestDownload:
    @pytest.fixture
    def release(self, tmp_path):
        """A small archive behind a file address."""
        made = trees.tiny_imagenet(tmp_path / "made")
        packed = Path(shutil.make_archive(str(tmp_path / "server"), "zip", made.parent, made.name))
        return self.described(packed)

    def described(self, packed):
        body = packed.read_bytes()
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return Archive("tiny_imagenet", "tiny-imagenet-200", packed.as_uri(), len(body), md5)

    def test_what_is_absent_is_downloaded_once_and_stdout_stays_clean(
        self, tmp_path, release, capsys
    ):
        data_dir = tmp_path / "new" / "data"
        assert len(read_archive(release, data_dir).train_labels) == 15
        said = capsys.readouterr()
        assert said.out == ""
        assert release.url in said.err
        left = sorted(path.name for path in data_dir.iterdir())
        assert left == ["cache", "tiny-imagenet-200"]
        Path(release.url.removeprefix("file://")).unlink()
        assert len(read_archive(release, data_dir).train_labels) == 15

    def test_an_archive_that_was_put_there_is_used_and_left(self, tmp_path, release):
        data_dir = tmp_path / "data"
        data_dir.mkdir()
        put = shutil.move(release.url.removeprefix("file://"), data_dir / "server.zip")
        assert len(read_archive(release, data_dir).train_labels) == 15
        assert put.is_file()

    @pytest.mark.parametrize("change", ["cut", "other"])
    def test_a_damaged_archive_is_named_and_left_as_it_is(self, tmp_path, release, change):
        data_dir = tmp_path / "data"
        data_dir.mkdir()
        body = Path(release.url.removeprefix("file://")).read_bytes()
        damaged = body[:-1] if change == "cut" else body[:-1] + bytes([body[-1] ^ 1])
        (data_dir / "server.zip").write_bytes(damaged)
        words = "bytes, not" if change == "cut" else "md5"
        with pytest.raises(DataError, match=f"server.zip is damaged.*{words}"):
            read_archive(release, data_dir)
        assert (data_dir / "server.zip").read_bytes() == damaged
        assert [path.name for path in data_dir.iterdir()] == ["server.zip"]

    def test_without_a_network_the_error_says_what_to_do(self, tmp_path, release):
        Path(release.url.removeprefix("file://")).unlink()
        with pytest.raises(DataError, match="cannot be downloaded") as caught:
            read_archive(release, tmp_path / "data")
        assert release.url in caught.value.hint
        assert str(tmp_path / "data") in caught.value.hint
        assert list((tmp_path / "data").iterdir()) == []

    def test_an_archive_of_something_else_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "server.zip", "w") as packed:
            packed.writestr("readme.txt", "nothing here")
        with pytest.raises(DataError, match="tiny_imagenet is not in"):
            read_archive(self.described(tmp_path / "server.zip"), tmp_path / "data")


class TestImageFolder:
    def test_keeps_the_contract(self, tmp_path):
        root = trees.image_folder(tmp_path / "mine")
        conformance.check_dataset(lambda: load("image_folder", tmp_path, path=str(root)))

    @pytest.mark.parametrize("held_out", ["test", "val"])
    def test_the_tree_is_read(self, tmp_path, held_out):
        root = trees.image_folder(tmp_path / "mine", held_out=held_out)
        raw = image_folder(tmp_path, path=str(root))
        assert raw.classes == 2
        assert raw.train_labels.tolist() == [0] * 5 + [1] * 5
        assert raw.test_labels.tolist() == [0, 0, 1, 1]
        assert np.array_equal(raw.train_images[7].numpy(), trees.colour(12).transpose(2, 0, 1))
        assert np.array_equal(raw.test_images[1].numpy(), trees.colour(51).transpose(2, 0, 1))

    def test_grey_images_keep_one_channel_unless_one_has_colour(self, tmp_path):
        root = trees.image_folder(tmp_path / "mine", pixels=trees.grey)
        raw = image_folder(tmp_path, path=str(root))
        assert raw.train_images.shape == (10, 1, 8, 8)
        assert np.array_equal(raw.train_images[3, 0].numpy(), trees.grey(3))
        trees.save(root / "test" / "dog" / "2.png", trees.colour(1))
        assert image_folder(tmp_path, path=str(root)).train_images.shape == (10, 3, 8, 8)

    def test_other_files_and_hidden_folders_are_left_out(self, tmp_path):
        root = trees.image_folder(tmp_path / "mine")
        (root / "train" / "cat" / "notes.txt").write_text("no image")
        (root / "train" / ".thumbs").mkdir()
        assert len(image_folder(tmp_path, path=str(root)).train_labels) == 10

    def test_palettes_and_transparency_become_plain_colour(self, tmp_path):
        root = trees.image_folder(tmp_path / "mine")
        opened = Image.fromarray(trees.colour(3))
        opened.convert("RGBA").save(root / "train" / "cat" / "a.png")
        flat = np.full((8, 8, 3), 200, np.uint8)
        palette = Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE)
        palette.save(root / "train" / "cat" / "p.png", transparency=b"\x00" * 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            raw = image_folder(tmp_path, path=str(root))
        assert np.array_equal(raw.train_images[5].numpy(), trees.colour(3).transpose(2, 0, 1))
        assert raw.train_images[6].unique().tolist() == [200]

    def test_another_size_is_named_with_its_file(self, tmp_path):
        root = trees.image_folder(tmp_path / "mine")
        trees.save(root / "train" / "dog" / "3.png", trees.colour(1, size=9))
        trees.save(root / "test" / "dog" / "0.png", trees.colour(1, size=7))
        with pytest.raises(DataError, match=r"train/dog/3.png has 9x9 pixels, 0.png has 8x8") as e:
            image_folder(tmp_path, path=str(root))
        assert "resize" in e.value.hint

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"no image at all", "2.png is no image"),
            (b"", "2.png is no image"),
            ("cut", "2.png is damaged"),
        ],
    )
    def test_a_file_that_cannot_be_decoded_is_named(self, tmp_path, body, words):
        root = trees.image_folder(tmp_path / "mine")
        file = root / "train" / "dog" / "2.png"
        file.write_bytes(file.read_bytes()[:80] if body == "cut" else body)
        with pytest.raises(DataError, match=words):
            image_folder(tmp_path, path=str(root))

    def test_more_than_8_bits_are_refused(self, tmp_path):
        root = trees.image_folder(tmp_path / "mine", pixels=trees.grey)
        trees.save(root / "train" / "cat" / "deep.png", np.full((8, 8), 40_000, np.uint16))
        with pytest.raises(DataError, match=r"deep.png has more than 8 bits per channel"):
            image_folder(tmp_path, path=str(root))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda root: shutil.rmtree(root), "is not a folder"),
            (lambda root: shutil.rmtree(root / "train"), "train cannot be read"),
            (lambda root: shutil.rmtree(root / "test"), "has neither test nor val"),
            (lambda root: (root / "test" / "cow").mkdir(), "test/cow is no class of"),
            (lambda root: (root / "train" / "cow").mkdir(), "train/cow has no images"),
            (lambda root: [f.unlink() for f in root.glob("test/*/*")], "test has no images"),
        ],
    )
    def test_another_layout_is_told(self, tmp_path, change, words):
        root = trees.image_folder(tmp_path / "mine")
        change(root)
        with pytest.raises(DataError, match=words) as caught:
            image_folder(tmp_path, path=str(root))
        assert caught.value.hint

    def test_it_needs_a_path(self, tmp_path):
        with pytest.raises(DataError, match="needs a folder"):
            load("image_folder", tmp_path)


class TestCache:
    def test_a_tree_is_decoded_once(self, tmp_path, counted):
        trees.tiny_imagenet(tmp_path)
        first, second = tiny_imagenet(tmp_path), tiny_imagenet(tmp_path)
        assert len(counted) == 1
        assert torch.equal(first.train_images, second.train_images)
        assert torch.equal(first.test_labels, second.test_labels)
        assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]

    def test_a_tree_that_changed_is_decoded_anew_and_the_old_cache_goes(self, tmp_path, counted):
        folder = trees.tiny_imagenet(tmp_path)
        tiny_imagenet(tmp_path)
        before = caches(tmp_path)
        trees.save(folder / "train" / "n01" / "images" / "n01_0.JPEG", trees.colour(77, 64))
        raw = tiny_imagenet(tmp_path)
        assert len(counted) == 2
        assert len(caches(tmp_path)) == 1
        assert caches(tmp_path) != before
        changed = decoded(folder / "train" / "n01" / "images" / "n01_0.JPEG")
        assert np.array_equal(raw.train_images[0].numpy(), changed)

    def test_two_trees_do_not_share_a_cache(self, tmp_path, counted):
        for name in ("one", "two"):
            root = trees.image_folder(tmp_path / name)
            image_folder(tmp_path, path=str(root))
        assert len(caches(tmp_path)) == 2

    @pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other"])
    def test_a_damaged_cache_is_rebuilt(self, tmp_path, counted, damage):
        trees.tiny_imagenet(tmp_path)
        expected = tiny_imagenet(tmp_path)
        (file,) = caches(tmp_path)
        body = file.read_bytes()
        middle = len(body) // 2
        file.write_bytes(
            {
                "cut": body[:-100],
                "flipped": body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :],
                "emptied": b"",
                "other": b"PK no cache",
            }[damage]
        )
        found = tiny_imagenet(tmp_path)
        assert len(counted) == 2
        assert torch.equal(found.train_images, expected.train_images)
        assert file.read_bytes() == body
        tiny_imagenet(tmp_path)
        assert len(counted) == 2

    def test_where_nothing_can_be_kept_the_data_are_read_all_the_same(self, tmp_path, counted):
        trees.tiny_imagenet(tmp_path)
        (tmp_path / "cache").write_text("a file where the folder would be")
        for _ in range(2):
            assert len(tiny_imagenet(tmp_path).train_labels) == 15
        assert len(counted) == 2
