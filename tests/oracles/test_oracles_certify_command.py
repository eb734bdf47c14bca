"""The network of published certified error through `drelu attack --certify`."""

import numpy
import pytest
import torch

from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.subjects import Outside

pytestmark = pytest.mark.data

FACTORY = """
import torch
from torch import nn
from drelu_cli.models.checkpoints import load_into, read_weights
from pathlib import Path

def net():
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
    path = Path({path!r})
    load_into(model, read_weights(path)[0], where=path.name)
    return model.eval()
"""


@pytest.mark.slow
def test_at_most_seven_in_a_hundred_are_not_certified(
    oracle_folder, mnist_test, tmp_path, monkeypatch
):
    """Published: certified error at most 5.8 % on all 10,000 images at Linf 0.1."""
    path = str(oracle_folder / "wong_kolter_mnist.pt")
    (tmp_path / "certified_factory.py").write_text(FACTORY.format(path=path))
    monkeypatch.syspath_prepend(str(tmp_path))
    x, y = (part[:200] for part in mnist_test)
    images = (x[:, 0, :, :, None] * 255).round().to(torch.uint8).numpy()
    numpy.savez(tmp_path / "first.npz", x_train=images, y_train=y, x_test=images, y_test=y)
    context = Context(store=tmp_path / "runs", device="cpu")
    wanted = Wanted(None, ("pgd",), "linf", (0.1,), samples=200, certify=True)
    report = attack(
        ["certified_factory:net"],
        wanted=wanted,
        outside=Outside(dataset="npz", data_path=str(tmp_path / "first.npz")),
        context=context,
    )
    (entry,) = report.entries
    assert report.violations == ()
    assert 0.93 <= entry["columns"]["certified"] <= entry["worst_case"]["robust_accuracy"]
    with open_store(context.store) as store:
        (one,) = store.certificates()
    assert len(one.samples) == 200
