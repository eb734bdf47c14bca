import numpy as np
import pytest
from PIL import Image

from drelu_cli.data import DATASETS
from drelu_cli.data import conformance as shipped
from drelu_cli.data.loading import load
from drelu_cli.runtime.streams import permutation


@pytest.fixture
def npz_file(tmp_path):
    """Ten colour images of 4x5 pixels in 3 classes, and four test images."""
    values = permutation(0, "npz", 14 * 4 * 5 * 3).numpy() % 256
    images = values.astype(np.uint8).reshape(14, 4, 5, 3)
    labels = np.arange(14) % 3
    path = tmp_path / "small.npz"
    np.savez(path, x_train=images[:10], y_train=labels[:10], x_test=images[10:], y_test=labels[10:])
    return str(path)


def test_digits_keeps_the_contract(tmp_path):
    shipped.check_dataset(lambda: load("digits", tmp_path))


def test_npz_keeps_the_contract(tmp_path, npz_file):
    shipped.check_dataset(lambda: load("npz", tmp_path, path=npz_file))


def test_a_third_partys_loader_keeps_the_contract_or_is_told(tmp_path, npz_file):
    splits = load("npz", tmp_path, path=npz_file)
    object.__setattr__(splits, "mean", (0.0, 0.0, 0.0))
    with pytest.raises(AssertionError):
        shipped.check_dataset(lambda: splits)


def test_image_folder_keeps_the_contract(tmp_path):
    for number in range(8):
        split, name = ("train", "test")[number % 2], ("cat", "dog")[number // 4]
        file = tmp_path / "mine" / split / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), 30 * number, np.uint8)).save(file)
    folder = str(tmp_path / "mine")
    shipped.check_dataset(lambda: load("image_folder", tmp_path, path=folder))


def test_every_registered_data_set_can_be_imported():
    for name in DATASETS.builtin_names():
        assert callable(DATASETS.resolve(name))
