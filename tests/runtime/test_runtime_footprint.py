"""How much autograd keeps of an image, and how many images that lets through at once."""

import pytest
import torch
from torch import nn

from drelu_cli.runtime import footprint
from drelu_cli.runtime.footprint import fitting_batch, kept_bytes

SIDE, CHANNELS = 16, 64
MAP = CHANNELS * SIDE * SIDE * 4  # bytes of one map of the net below


class Wide(nn.Module):
    """Two convolutions with a sigmoid each: of every image four maps or so are kept."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.last = nn.Linear(CHANNELS, 10)
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        x = torch.sigmoid(self.second(torch.sigmoid(self.first(x))))
        return self.last(x.mean(dim=(2, 3)))


@pytest.fixture
def wide():
    return Wide()


def test_what_the_gradient_needs_is_counted_and_weights_are_not(wide):
    x = torch.rand(1, 1, SIDE, SIDE)
    assert 2 * MAP <= kept_bytes(wide, x) < 4 * MAP
    assert kept_bytes(wide, x.repeat(3, 1, 1, 1)) > 2 * kept_bytes(wide, x)
    assert kept_bytes(wide, torch.rand(500, 1, SIDE, SIDE)[:1]) == kept_bytes(wide, x)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 5000), nn.Linear(5000, 10))
    assert kept_bytes(flat, x) < 2 * 4 * (5000 + SIDE * SIDE)


def test_a_batch_fits_into_what_is_allowed(wide, monkeypatch):
    x = torch.rand(300, 1, SIDE, SIDE)
    monkeypatch.setattr(footprint, "_CPU_BYTES", 100 * kept_bytes(wide, x[:1]))
    assert fitting_batch(wide, x[:1], 300, 1000) == 100
    assert fitting_batch(wide, x[:1], 300, 90) == 90
    monkeypatch.setattr(footprint, "_CPU_BYTES", 1)
    assert fitting_batch(wide, x[:1], 300, 1000) == 1


def test_few_images_are_not_measured(wide):
    assert fitting_batch(wide, torch.rand(1, 1, SIDE, SIDE), 64, 1000) == 1000
    assert fitting_batch(wide, torch.rand(0, 1, SIDE, SIDE), 0, 1000) == 1000
    assert wide.sizes == []


def test_measuring_changes_neither_modes_nor_random_numbers(wide):
    noisy = nn.Sequential(wide, nn.Dropout(0.5)).train()
    x = torch.rand(100, 1, SIDE, SIDE)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    noisy.forward = lambda images: wide(images) + torch.rand(())
    fitting_batch(noisy, x[:1], 100, 1000)
    assert torch.equal(torch.rand(4), expected)
    assert noisy.training


def test_a_black_box_that_takes_no_gradients_keeps_its_batch():
    class Outside(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.numpy()).flatten(1)[:, :10]

    assert fitting_batch(Outside(), torch.rand(1, 1, SIDE, SIDE), 100, 500) == 500
