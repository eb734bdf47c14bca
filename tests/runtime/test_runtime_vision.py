import subprocess
import sys

import pytest

from drelu_cli.core.errors import ModelError
from drelu_cli.runtime import vision

PROGRAM = """
import torch
try:
    import torchvision
    sound = True
except RuntimeError:
    sound = False
from drelu_cli.runtime.vision import import_torchvision, _KEPT_ALIVE
package = import_torchvision()
assert package is import_torchvision()
assert len(_KEPT_ALIVE) == (0 if sound else 1), "a sound installation was touched, or no guard"
net = package.models.resnet18(weights=None).eval()
assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
assert package.datasets.MNIST and package.datasets.CIFAR10
"""


def test_torchvision_can_be_used_and_a_sound_one_is_not_touched():
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], check=True)


def test_another_failure_is_not_hidden(monkeypatch):
    def broken():
        raise RuntimeError("something else")

    monkeypatch.setattr(vision, "_imported", broken)
    vision.import_torchvision.cache_clear()
    try:
        with pytest.raises(ModelError, match="something else"):
            vision.import_torchvision()
    finally:
        vision.import_torchvision.cache_clear()
