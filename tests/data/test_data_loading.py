from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drelu_cli.core.errors import DataError, DreluError, UnknownName
from drelu_cli.data import DATASETS, loading
from drelu_cli.data.contract import Raw
from drelu_cli.data.loading import as_float, load, pixel_statistics, sample_order


@pytest.fixture(scope="module")
def digits():
    return load("digits", Path())


def test_digits_are_the_embedded_ones_split_by_a_fixed_permutation(digits):
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [
        1293, 144, 360,
    ]  # fmt: skip
    assert (digits.shape, digits.classes) == ((1, 8, 8), 10)
    assert [split.split for split in (digits.train, digits.validation, digits.test)] == [
        "train", "validation", "test",
    ]  # fmt: skip


def test_digits_use_the_whole_range_and_lose_no_level(digits):
    """17 intensities 0 .. 16 become 17 levels 0 .. 255."""
    levels = torch.unique(torch.cat([digits.train.images, digits.test.images]))
    assert levels.tolist() == [round(level * 255 / 16) for level in range(17)]


def test_every_digit_is_in_exactly_one_split(digits):
    from sklearn.datasets import load_digits

    def rows(images):
        return sorted(tuple(image.flatten().tolist()) for image in images)

    splits = torch.cat([digits.train.images, digits.validation.images, digits.test.images])
    values = torch.from_numpy(load_digits().images * (255 / 16)).round().to(torch.uint8)
    assert rows(splits) == rows(values)


def test_content_digests_are_what_they_were(digits):
    """A changed split would silently change what every stored result is about."""
    assert digits.digest.startswith("5a7dcbef")
    assert sample_order(digits.test)[:3] == (290, 318, 45)


def raw(count=20, test=6, *, classes=3, shape=(1, 2, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)

    def images(n):
        return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)

    return Raw(images(count), torch.arange(count) % classes, images(test),
               torch.arange(test) % classes, classes)  # fmt: skip


@pytest.fixture
def loaded(monkeypatch):
    """`load`, with a data set that returns the given raw arrays."""

    def load_raw(content, name="digits"):
        bound = type("Bound", (), {"__call__": lambda self, data_dir: content})
        monkeypatch.setattr(DATASETS, "bind", lambda *_, **__: bound())
        return load(name, Path())

    return load_raw


def test_a_tenth_is_kept_back_for_validation(loaded):
    splits = loaded(raw(20))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 6)
    tiny = loaded(raw(2))
    assert (len(tiny.train), len(tiny.validation)) == (1, 1)


def test_the_digest_follows_the_content(loaded):
    base = loaded(raw())
    assert loaded(raw()).digest == base.digest
    changed = raw()
    changed.test_images[0, 0, 0, 0] ^= 1
    relabelled = raw()
    relabelled.train_labels[0] = 2 - relabelled.train_labels[0]
    digests = {base.digest, loaded(changed).digest, loaded(relabelled).digest}
    assert len(digests) == 3


def replaced(**changes):
    content = raw()
    for name, change in changes.items():
        object.__setattr__(content, name, change(getattr(content, name)))
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (replaced(train_images=lambda x: x.float()), "float32"),
        (replaced(train_images=lambda x: x[:, 0]), "not uint8 (N, C, H, W)"),
        (replaced(test_labels=lambda y: y.int()), "not int64"),
        (replaced(test_labels=lambda y: y[:-1]), "6 images and 5 labels"),
        (replaced(train_labels=lambda y: y + 1), "labels from 1 to 3, with 3 classes"),
        (replaced(train_labels=lambda y: y - 1), "labels from -1 to 1"),
        (replaced(test_images=lambda x: x[..., :1]), "(1, 2, 2), test images of shape (1, 2, 1)"),
        (replaced(test_images=lambda x: x[:0], test_labels=lambda y: y[:0]), "no images"),
        (replaced(classes=lambda _: 1), "1 classes"),
        (raw(1), "1 training image"),
    ],
)
def test_what_a_loader_must_not_return_is_named(loaded, content, words):
    with pytest.raises(DataError) as caught:
        loaded(content, name="digits")
    assert words in caught.value.message
    assert "digits" in caught.value.message


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=30),
    other=st.integers(0, 255),
)
def test_statistics_are_those_of_the_pixels(values, other):
    images = torch.tensor(values, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 2, 1, 1)
    images[:, 1] = other
    mean, std = pixel_statistics(images)
    pixels = torch.tensor(values, dtype=torch.float64) / 255
    assert mean == pytest.approx([pixels.mean().item(), other / 255], abs=1e-12)
    spread = pixels.std(correction=0).item() if len(set(values)) > 1 else 1.0
    assert std == pytest.approx([spread, 1.0], abs=1e-12)


def test_as_float_is_x_over_255_exactly():
    levels = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    floats = as_float(levels)
    assert floats.dtype == torch.float32
    assert torch.equal(floats.flatten(), torch.arange(256, dtype=torch.float32) / 255)
    assert torch.equal((floats * 255).round().to(torch.uint8), levels)


def test_unknown_names_and_a_path_where_none_is_taken(tmp_path):
    with pytest.raises(UnknownName, match="digitz"):
        load("digitz", tmp_path)
    with pytest.raises(DreluError, match="path"):
        load("digits", tmp_path, path="x.npz")


def test_splits_do_not_depend_on_the_global_random_state(digits):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        assert load("digits", Path()).digest == digits.digest
        assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_of_the_splits_is_a_constant():
    assert loading._SPLIT_SEED == 0
