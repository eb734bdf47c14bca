"""Validation of networks that keep much of an image stays within memory, with the same result."""

import pytest
import torch
from torch import nn

from drelu_cli.runtime import footprint
from drelu_cli.runtime.footprint import kept_bytes
from drelu_cli.runtime.streams import Stream
from drelu_cli.training import SCHEMES
from drelu_cli.training.batches import Images
from drelu_cli.training.validation import validated

COUNT = 300


@pytest.mark.parametrize("name", ["natural", "madry", "trades"])
def test_a_network_that_does_not_fit_is_validated_in_parts(name, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(16 * 36, 3))
    split = Images(
        torch.randint(0, 256, (COUNT, 1, 8, 8), dtype=torch.uint8),
        torch.randint(0, 3, (COUNT,)),
        torch.arange(COUNT),
    )
    options = {} if name == "natural" else {"eps": 0.05, "steps": 2}
    scheme = SCHEMES.bind(name, **options)
    sizes = []
    model.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))

    def score():
        sizes.clear()
        return validated(model, split, scheme, 0.0, lambda index: Stream(0, index, ("v",)))

    whole = score()
    assert max(sizes) == COUNT
    one = kept_bytes(model, split.batch(slice(0, 1))[0])
    monkeypatch.setattr(footprint, "_CPU_BYTES", 70 * one)
    parts = score()
    assert max(sizes) == 70
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == whole.accuracy
