"""Networks that start from pretrained weights: which are taken, which stay new, which are held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.core.errors import CheckpointError, ModelError
from drelu_cli.models.build import Classifier
from drelu_cli.models.checkpoints import State, load_into
from drelu_cli.models.contract import Normalize
from drelu_cli.models.fitting import Backbone
from drelu_cli.models.weights_files import declared_backbone, read_pretrained

# The backbone's place in a network of `build`, whatever the placement.
_BODY = "net.0."
# Buffers that older files lack. They count batches and enter no number of the network.
_COUNTER = "num_batches_tracked"
_DATA_PARALLEL = "module."


@dataclass(frozen=True)
class Taken:
    """What a network took from pretrained weights.

    Attributes:
        tensors: how many tensors of the backbone have the pretrained values.
        summed: those whose colour channels were added up for grey images.
        new: tensors of the backbone that stay at their initialisation, by name.
        left_out: what the file holds beside the backbone, by the first part of the names.
        frozen: whether what was taken is held.
    """

    tensors: int
    summed: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]
    frozen: bool

    @property
    def document(self) -> dict[str, Any]:
        """As plain data, for a model's summary."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        parts = [f"{self.tensors} tensors {'frozen' if self.frozen else 'to be fine-tuned'}"]
        if self.summed:
            parts.append(f"{', '.join(self.summed)} summed over colours")
        parts.append(f"new: {', '.join((*self.new, 'extra and output layer'))}")
        if self.left_out:
            parts.append(f"not used: {', '.join(self.left_out)}")
        return "; ".join(parts)


def start_from(model: nn.Module, architecture: str, source: str, *, frozen: bool) -> Taken:
    """Gives the backbone of `model` pretrained weights, in place.

    The first convolution stays at its initialisation where its shape differs; for grey images
    its pretrained colour channels are summed, which is what it computes on grey pixels given as
    red, green and blue. Its normalisation becomes the one the weights expect: the file's own
    where drelu wrote it, else torchvision's (their mean over colours for grey images).

    Args:
        model: of `build`, with the architecture `architecture`.
        architecture: a registered name that declares a backbone.
        source: `imagenet` or the path of a state dict with torchvision's names or of drelu's own.
        frozen: what was taken is not trained: its parameters need no gradient and its batch
            norms stay in evaluation mode.

    Raises:
        ModelError: the architecture takes no pretrained weights.
        CheckpointError: weights that cannot be had, or of another architecture; names what is
            missing, unexpected or misshapen. The model is unchanged.
    """
    backbone = declared_backbone(architecture)
    if not isinstance(model, Classifier):
        raise ModelError(f"{type(model).__name__} is no network of drelu's own making")
    state = _plain(read_pretrained(architecture, source))
    own = _own(model)
    given, left_out = _parted(state, backbone)
    summed = _summed(given, own, backbone)
    new = _stay_new(given, own, backbone)
    _load(model, {**given, **{name: own[name] for name in new}}, f"{architecture} from {source}")
    _normalise(model, _statistics(state, backbone))
    if frozen:
        _freeze(model, without=new)
    counted = tuple(name for name in new if not name.endswith(_COUNTER))
    return Taken(len(own) - len(new), summed, counted, left_out, frozen)


def _plain(state: State) -> State:
    """Without the prefix that `nn.DataParallel` puts before every name."""
    if state and all(name.startswith(_DATA_PARALLEL) for name in state):
        return {name.removeprefix(_DATA_PARALLEL): tensor for name, tensor in state.items()}
    return state


def _own(model: nn.Module) -> State:
    """The tensors of the network's backbone, by torchvision's names."""
    return {
        name.removeprefix(_BODY): tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(_BODY)
    }


def _parted(state: State, backbone: Backbone) -> tuple[State, tuple[str, ...]]:
    """The backbone's tensors of a file, and what else it holds, by the first part of the name."""
    if _is_ours(state):
        body = {k.removeprefix(_BODY): v for k, v in state.items() if k.startswith(_BODY)}
        other = [name for name in state if not name.startswith((_BODY, "normalize."))]
    else:
        body = {k: v for k, v in state.items() if not k.startswith(backbone.replaced)}
        other = [name for name in state if name.startswith(backbone.replaced)]
    return body, tuple(dict.fromkeys(_first_part(name) for name in other))


def _is_ours(state: State) -> bool:
    """Whether drelu wrote it: normalisation is its own first child."""
    return "normalize.mean" in state


def _first_part(name: str) -> str:
    return ".".join(name.split(".")[: 2 if name.startswith("net.") else 1])


def _summed(given: State, own: State, backbone: Backbone) -> tuple[str, ...]:
    """Adds up the colour channels of the first convolution in `given` where images are grey."""
    first = backbone.first
    if first not in given or first not in own or given[first].dim() != 4:
        return ()
    colours, grey = given[first], own[first]
    fits = colours.shape[:1] + colours.shape[2:] == grey.shape[:1] + grey.shape[2:]
    if not fits or colours.shape[1] != len(backbone.mean) or grey.shape[1] != 1:
        return ()
    given[first] = colours.sum(dim=1, keepdim=True)
    return (first,)


def _stay_new(given: State, own: State, backbone: Backbone) -> tuple[str, ...]:
    """The first convolution where its shape differs, and counters that the file lacks."""
    first = backbone.first
    misfit = first in given and first in own and given[first].shape != own[first].shape
    counters = [name for name in own if name.endswith(_COUNTER) and name not in given]
    return (*([first] if misfit else []), *counters)


def _load(model: nn.Module, body: Mapping[str, Tensor], where: str) -> None:
    outside = {k: v for k, v in model.state_dict().items() if not k.startswith(_BODY)}
    try:
        load_into(model, {**outside, **{_BODY + k: v for k, v in body.items()}}, where=where)
    except CheckpointError as problem:
        raise CheckpointError(
            problem.message.replace(_BODY, ""), hint="are they weights of this architecture?"
        ) from problem


def _statistics(state: State, backbone: Backbone) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel that the weights expect."""
    if _is_ours(state):
        mean, std = state["normalize.mean"].flatten(), state["normalize.std"].flatten()
        return mean.tolist(), std.tolist()
    return backbone.mean, backbone.std


def _normalise(model: Classifier, statistics: tuple[Sequence[float], Sequence[float]]) -> None:
    """Images of other channels than the weights' keep the data set's statistics; grey ones fit."""
    normalize = model.get_submodule("normalize")
    if not isinstance(normalize, Normalize):
        raise ModelError("the network does not begin with its normalisation")
    for buffer, values in zip((normalize.mean, normalize.std), statistics, strict=True):
        fitting = torch.tensor(values, dtype=buffer.dtype)
        if len(buffer) == 1:
            fitting = fitting.mean().reshape(1)
        if len(fitting) == len(buffer):
            buffer.copy_(fitting.reshape(buffer.shape))


def _freeze(model: Classifier, *, without: Sequence[str]) -> None:
    body = model.get_submodule(_BODY.removesuffix("."))
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name in without)
    model.hold(body)
