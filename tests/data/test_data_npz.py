import numpy as np
import pytest
import torch

from drelu_cli.core.errors import DataError
from drelu_cli.data.loading import load
from drelu_cli.data.npz import npz


def arrays(**changes):
    """Six training and four test images of 4x5 pixels in colour, NHWC, 2 classes."""
    values = np.arange(10 * 4 * 5 * 3) % 251
    images = values.astype(np.uint8).reshape(10, 4, 5, 3)
    labels = np.arange(10) % 2
    content = {
        "x_train": images[:6], "y_train": labels[:6], "x_test": images[6:], "y_test": labels[6:],
    }  # fmt: skip
    for key, change in changes.items():
        content[key] = change(content[key])
    return {key: array for key, array in content.items() if array is not None}


@pytest.fixture
def written(tmp_path):
    def write(content, **options):
        path = tmp_path / "small.npz"
        np.savez(path, **content, **options)
        return str(path)

    return write


def test_nhwc_and_nchw_are_the_same_images(written, tmp_path):
    channels_last = npz(tmp_path, path=written(arrays()))
    swapped = arrays(
        x_train=lambda x: x.transpose(0, 3, 1, 2), x_test=lambda x: x.transpose(0, 3, 1, 2)
    )
    channels_first = npz(tmp_path, path=written(swapped))
    assert channels_last.train_images.shape == (6, 3, 4, 5)
    assert torch.equal(channels_last.train_images, channels_first.train_images)
    assert channels_last.train_images[0, 2, 1, 3] == arrays()["x_train"][0, 1, 3, 2]
    assert channels_last.classes == 2


def test_grey_images_may_leave_out_their_channel(written, tmp_path):
    content = arrays(x_train=lambda x: x[..., 0], x_test=lambda x: x[..., 0])
    assert load("npz", tmp_path, path=written(content)).shape == (1, 4, 5)


def test_the_path_does_not_enter_the_digest(written, tmp_path):
    first = written(arrays())
    digest = load("npz", tmp_path, path=first).digest
    (tmp_path / "small.npz").rename(tmp_path / "moved.npz")
    assert load("npz", tmp_path, path=str(tmp_path / "moved.npz")).digest == digest


def small(x):
    """(N, 3, 3, 3): no axis tells channels from pixels."""
    return x[:, :3, :3, :]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (arrays(y_test=lambda _: None), ["lacks y_test", "x_train"]),
        (arrays(x_train=lambda x: x / 255), ["x_train is float64, not uint8"]),
        (arrays(x_train=lambda x: x[:, 0, 0]), ["x_train has shape (6, 3)"]),
        (arrays(x_train=lambda x: x[..., :2]), ["neither NCHW nor NHWC"]),
        (arrays(x_train=small), ["both NCHW and NHWC"]),
        (arrays(y_train=lambda y: y * 1.0), ["y_train is float64"]),
        (arrays(y_train=lambda y: y[:, None]), ["y_train is int64 of shape (6, 1)"]),
        (arrays(y_train=lambda y: y[:-1]), ["x_train has 6 images, y_train has 5 labels"]),
        (arrays(y_train=lambda y: y[:0], x_train=lambda x: x[:0]), ["0 images"]),
        (arrays(y_train=lambda y: y - 1), ["y_train has label -1"]),
        (arrays(y_test=lambda y: y + 6), ["y_test has label 7, y_train only 0 .. 1"]),
        (arrays(y_train=lambda y: y * 0, y_test=lambda y: y * 0), ["1 classes"]),
        (arrays(x_test=lambda x: x[:, :2]), ["test images of shape (3, 2, 5)"]),
        (arrays(y_train=lambda y: y.astype(object)), ["damaged or holds objects"]),
    ],
)
def test_every_malformed_file_is_named(written, tmp_path, content, words):
    with pytest.raises(DataError) as caught:
        load("npz", tmp_path, path=written(content))
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_path_is_needed_and_must_be_a_file(tmp_path):
    with pytest.raises(DataError, match="needs a file"):
        load("npz", tmp_path)
    with pytest.raises(DataError, match=r"none\.npz is not a file"):
        load("npz", tmp_path, path=str(tmp_path / "none.npz"))
    with pytest.raises(DataError, match="is not a file"):
        load("npz", tmp_path, path=str(tmp_path))


def test_text_is_no_npz(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("x_train, y_train")
    with pytest.raises(DataError, match=r"text\.npz is no npz file"):
        load("npz", tmp_path, path=str(path))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(written, tmp_path, share):
    path = written(arrays())
    body = (tmp_path / "small.npz").read_bytes()
    (tmp_path / "small.npz").write_bytes(body[: int(len(body) * share)])
    with pytest.raises(DataError, match=r"small\.npz"):
        load("npz", tmp_path, path=path)


def test_a_flipped_pixel_is_caught_by_the_checksum(written, tmp_path):
    path = written(arrays())
    body = bytearray((tmp_path / "small.npz").read_bytes())
    body[300] ^= 1
    (tmp_path / "small.npz").write_bytes(body)
    with pytest.raises(DataError, match="damaged"):
        load("npz", tmp_path, path=path)
