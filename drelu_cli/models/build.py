"""A network from names: architecture, activation, placement, normalisation inside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.activations.plain import relu
from drelu_cli.core.errors import ModelError, UnknownName
from drelu_cli.core.recipe import Placement
from drelu_cli.core.registry import Bound
from drelu_cli.models import MODELS
from drelu_cli.models.contract import Normalize, Shape, require, shape_text, stem_of
from drelu_cli.models.placement import fill_everywhere
from drelu_cli.runtime.containers import calls_children_in_order
from drelu_cli.runtime.modes import evaluation_mode


class Classifier(nn.Sequential):
    """Images in [0, 1] to logits: `normalize`, then `stem` where there is one, then `net`.

    Attributes:
        shape: (C, H, W) of the images it takes.
        classes: number of logits.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], shape: Shape, classes: int) -> None:
        super().__init__(layers)
        self.shape = shape
        self.classes = classes
        # A tuple: torch registers lists of modules as little, but nobody appends to a tuple.
        self._held: tuple[nn.Module, ...] = ()

    def hold(self, part: nn.Module) -> None:
        """Keeps the batch norms of `part` in evaluation mode, also in training mode."""
        self._held = tuple(m for m in part.modules() if isinstance(m, _NormBase))
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Training or evaluation mode; what is held stays in evaluation mode."""
        super().train(mode)
        for module in self._held:
            module.train(False)
        return self

    @calls_children_in_order
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Sequential's own name
        """(N, C, H, W) in [0, 1] to (N, classes) logits.

        Raises:
            ModelError: the images have another shape.
        """
        if tuple(input.shape[1:]) != self.shape:
            raise ModelError(
                f"model expects {shape_text(self.shape)} images, "
                f"got {shape_text(tuple(input.shape[1:]))}",
                hint="use the data set that the model was trained on",
            )
        logits: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return logits


def build(
    name: str,
    *,
    shape: Shape,
    classes: int,
    activation: ActivationFactory,
    placement: Placement,
    mean: Sequence[float],
    std: Sequence[float],
    options: Mapping[str, Any],
) -> nn.Module:
    """The network, in training mode, with new weights.

    The weights come from torch's global generator: call it under
    `runtime.streams.seeded_initialisation`.

    Args:
        name: a registered architecture.
        shape: (C, H, W) of the images.
        classes: number of logits, >= 2.
        activation: channels -> activation.
        placement: `head`, `stem` or `all`.
        mean: per channel, of pixels in [0, 1]; normalisation is the first child.
        std: per channel, > 0.
        options: the architecture's own options.

    Raises:
        UnknownName: no such architecture, option or placement.
        BadValue: an option of the wrong type.
        ModelError: an architecture that does not fit the images.
    """
    bound = MODELS.bind(name, **options)
    require(len(shape) == 3 and min(shape) >= 1, f"image shape {shape} is not (C, H, W)")
    require(classes >= 2, f"{classes} classes: a classifier needs 2 or more")
    require(
        len(mean) == shape[0],
        f"{len(mean)} means for images of {shape[0]} channels: {shape_text(shape)}",
    )
    if placement not in _PLACEMENTS:
        raise UnknownName.among("placement", placement, _PLACEMENTS)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    layers.update(_PLACEMENTS[placement](bound, shape, classes, activation))
    return Classifier(layers, shape, classes)


Layers = dict[str, nn.Module]


def _head(bound: Bound, shape: Shape, classes: int, activation: ActivationFactory) -> Layers:
    return {"net": bound(shape, classes, activation)}


def _stem(bound: Bound, shape: Shape, classes: int, activation: ActivationFactory) -> Layers:
    stem, inner_shape = stem_of(bound.target)(shape, activation)
    return {"stem": stem, "net": bound(inner_shape, classes, relu)}


def _all(bound: Bound, shape: Shape, classes: int, activation: ActivationFactory) -> Layers:
    return {"net": fill_everywhere(bound(shape, classes, relu), activation, shape)}


_PLACEMENTS: dict[str, Callable[[Bound, Shape, int, ActivationFactory], Layers]] = {
    "head": _head,
    "stem": _stem,
    "all": _all,
}


def check_input(model: nn.Module, shape: Shape) -> int:
    """The number of logits that `model` gives for images of `shape`, from one blank image.

    Train/eval mode is left as it was.

    Args:
        model: any module.
        shape: (C, H, W).

    Raises:
        ModelError: it does not take such images, or gives something else than (N, K) logits.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    blank = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    try:
        with evaluation_mode(model), torch.no_grad():
            logits = model(blank)
    except Exception as problem:
        raise ModelError(
            f"the model cannot take {shape_text(shape)} images: {problem}",
            hint="a model gets (N, C, H, W) images in [0, 1]",
        ) from problem
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 1:
        got = (
            f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        )
        raise ModelError(
            f"the model gives {got} for one image", hint="a classifier gives (N, classes) logits"
        )
    return int(logits.shape[1])
