"""Checkpoints and images with known numbers, from outside the repository.

The folder is named by DRELU_ORACLES, else `../shared/oracles` beside the repository; the MNIST
files by DRELU_DATA_DIR, else `../shared/datasets`. Without them the tests are skipped.
"""

import gzip
import os
import struct
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

BESIDE = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="session")
def oracle_folder():
    folder = Path(os.environ.get("DRELU_ORACLES", BESIDE / "oracles"))
    if not folder.is_dir():
        pytest.skip(f"no oracle checkpoints at {folder}; set DRELU_ORACLES")
    return folder


def read_idx(path):
    """The array in a gzipped IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        _, kind, axes = struct.unpack(">HBB", file.read(4))
        assert kind == 8, "unsigned bytes expected"
        shape = struct.unpack(f">{axes}I", file.read(4 * axes))
        return numpy.frombuffer(file.read(), dtype=numpy.uint8).reshape(shape).copy()


@pytest.fixture(scope="session")
def mnist_test():
    """(10000, 1, 28, 28) float32 in [0, 1] and (10000,) int64 labels."""
    folder = Path(os.environ.get("DRELU_DATA_DIR", BESIDE / "datasets"))
    images = sorted(folder.rglob("t10k-images-idx3-ubyte.gz"))
    images = [path for path in images if "fashion" not in str(path).lower()]
    if not images:
        pytest.skip(f"no MNIST test files under {folder}; set DRELU_DATA_DIR")
    x = torch.from_numpy(read_idx(images[0]))[:, None].float() / 255.0
    y = read_idx(images[0].with_name("t10k-labels-idx1-ubyte.gz"))
    return x, torch.from_numpy(y).long()


def weights(path):
    """A state dict, however it is wrapped."""
    found = torch.load(path, weights_only=True, map_location="cpu")
    while not (isinstance(found, dict) and all(torch.is_tensor(v) for v in found.values())):
        found = found[0] if isinstance(found, list) else found["state_dict"]
    return found


def cnn_a(path):
    model = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    model.load_state_dict(weights(path))
    return model.eval()


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.linear1 = nn.Linear(3136, 200)
        self.linear2 = nn.Linear(200, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.linear2(torch.relu(self.linear1(x.flatten(1))))


@pytest.fixture(scope="session")
def wong_kolter(oracle_folder):
    return cnn_a(oracle_folder / "wong_kolter_mnist.pt")


@pytest.fixture(scope="session")
def lenet5(oracle_folder):
    model = LeNet5()
    model.load_state_dict(weights(oracle_folder / "lenet5_natural_mnist.pt"))
    return model.eval()


@pytest.fixture(scope="session")
def cnn_a_adversarial(oracle_folder):
    """The network with the 200 images its window was proven on."""
    x = numpy.load(oracle_folder / "mnist_sdp_x.npy")
    y = numpy.load(oracle_folder / "mnist_sdp_y.npy")
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
    return cnn_a(oracle_folder / "mnist_cnn_a_adv.pt"), images, torch.from_numpy(y).long()
