"""Models that hide what they are, around a trained net: factories for `court_study.py`.

The nets are found by the environment variables that the study sets: COURT_WORK (its folder) and
COURT_ORACLE (a checkpoint).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from drelu_cli.core.recipe import Recipe
from drelu_cli.data.loading import load
from drelu_cli.models.checkpoints import load_into, read_weights
from drelu_cli.workflows.fitting import build_model

TEMPERATURE = 1e-3
LEVELS = 8  # of the rounded input: steps of 1/7, more than eps
NOISE = 0.1


class Temperature(nn.Module):
    """Logits divided by a small temperature."""

    def forward(self, logits: Tensor) -> Tensor:
        """(n, K) to (n, K)."""
        return logits / TEMPERATURE


class Rounding(nn.Module):
    """Pixels rounded to a few levels."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to the same shape."""
        return torch.round(x * (LEVELS - 1)) / (LEVELS - 1)


class Noise(nn.Module):
    """Pixels with fresh Gaussian noise."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to the same shape."""
        return x + NOISE * torch.randn_like(x)


def _dense() -> nn.Module:
    known = json.loads((Path(os.environ["COURT_WORK"]) / "checkpoints.json").read_text())
    state, metadata = read_weights(Path(known["dense ReLU"]))
    recipe = Recipe.model_validate_json(metadata["recipe"])
    model = build_model(recipe, load(recipe.data.name, Path(os.environ["COURT_DATA"])))
    load_into(model, state, where="dense ReLU")
    return model.eval()


def temperature() -> nn.Module:
    """Logits times 1,000: the cross entropy has no gradient left."""
    return nn.Sequential(_dense(), Temperature()).eval()


def rounded_input() -> nn.Module:
    """A derivative of zero before the first layer."""
    return nn.Sequential(Rounding(), _dense()).eval()


def random_noise() -> nn.Module:
    """Another forward pass at every call."""
    return nn.Sequential(Noise(), _dense()).eval()


def softmax_outputs() -> nn.Module:
    """Probabilities instead of logits."""
    return nn.Sequential(_dense(), nn.Softmax(dim=1)).eval()


def _convolutional() -> nn.Module:
    """The architecture of the published checkpoints: two strided convolutions, 100 units."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    found = torch.load(os.environ["COURT_ORACLE"], weights_only=True, map_location="cpu")
    while isinstance(found, list) or "state_dict" in found:
        found = found[0] if isinstance(found, list) else found["state_dict"]
    net.load_state_dict(found)
    return net.eval()


def wong_kolter() -> nn.Module:
    """A net with a proof (1711.00851): no attack may find what is proven away."""
    return _convolutional()


def cnn_a() -> nn.Module:
    """An adversarially trained net at Linf 0.3."""
    return _convolutional()
