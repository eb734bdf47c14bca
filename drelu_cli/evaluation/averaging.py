"""A random model as a fixed function: its mean over draws (expectation over transformation)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drelu_cli.runtime.streams import foreign_randomness

DRAWS = 16


class Averaged(nn.Module):
    """The mean logits of a random model over fixed draws (Athalye et al. 2018, 1707.07397).

    Draw k is seeded with k and is the same for every image, whatever its place in a batch: an
    image's logits depend on the image alone. Gradients flow through every draw. A pass through
    it costs `draws` passes.

    Attributes:
        model: the random model; logits from (N, C, H, W).
        draws: how many draws are averaged.
    """

    def __init__(self, model: nn.Module, draws: int = DRAWS) -> None:
        super().__init__()
        self.model = model
        self.draws = draws
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        """(N, classes) mean logits of (N, C, H, W) images in [0, 1]."""
        total = self._draw(x, 0)
        for number in range(1, self.draws):
            total = total + self._draw(x, number)
        return total / self.draws

    def _draw(self, x: Tensor, number: int) -> Tensor:
        """(N, classes) logits under one draw, each image as if it were alone."""
        try:
            with foreign_randomness(number):
                vectorised: Tensor = torch.func.vmap(self._alone, randomness="same")(x)
                return vectorised
        except RuntimeError:  # a model that vmap cannot follow: numpy, `.item()`, branches
            return torch.stack([self._seeded(image, number) for image in x])

    def _seeded(self, image: Tensor, number: int) -> Tensor:
        with foreign_randomness(number):
            return self._alone(image)

    def _alone(self, image: Tensor) -> Tensor:
        """(classes,) logits of one (C, H, W) image."""
        logits: Tensor = self.model(image[None])[0]
        return logits
