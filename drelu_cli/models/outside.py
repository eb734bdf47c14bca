"""Networks of the user's own: `package.module:factory`, and what tells two of them apart."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence

from torch import fx, nn

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import DreluError, ModelError
from drelu_cli.core.registry import Registry
from drelu_cli.models.contract import Normalize

_FACTORIES = Registry("model factory", {}, group="drelu.factories", open_names=True)
# Their classes are told apart by name: their releases are part of the provenance.
_KNOWN_SOURCES = ("torch", "torchvision", "drelu_cli")


def from_factory(reference: str) -> nn.Module:
    """The module that `package.module:factory` returns when called without arguments.

    Modules in the current folder are found, too.

    Raises:
        DreluError: it cannot be imported, or has no such name.
        ModelError: importing or calling it fails, or it returns no `nn.Module`.
    """
    if ":" not in reference:
        raise ModelError(f"'{reference}' is not package.module:factory", hint="e.g. my_nets:resnet")
    try:
        made = _FACTORIES.resolve(reference)()
    except DreluError:
        raise
    except (Exception, SystemExit) as problem:
        # Any error of the user's code is the user's to mend.
        raise ModelError(f"{reference} failed: {type(problem).__name__}: {problem}") from problem
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{reference} returned a {type(made).__name__}, not a torch.nn.Module",
            hint="name a function without arguments that returns the model, or a module class",
        )
    return made


def wrap_normalised(model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """`model` behind a per-channel normalisation, so that it takes images in [0, 1].

    Raises:
        ModelError: not one mean and one std > 0 per channel.
    """
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std), net=model))


def architecture_digest(model: nn.Module) -> str:
    """sha256 of the structure: classes, settings, shapes, and the source of the user's classes.

    Weights do not enter. What a module computes outside its own class does not either.
    """
    modules = [
        [name, *_described(module)] for name, module in model.named_modules(remove_duplicate=False)
    ]
    tensors = [
        [name, str(tensor.dtype), list(tensor.shape)] for name, tensor in model.state_dict().items()
    ]
    return digest_of({"modules": modules, "tensors": tensors})


def _described(module: nn.Module) -> list[str]:
    kind = type(module)
    if isinstance(module, fx.GraphModule):
        return ["GraphModule", module.code]
    known = kind.__module__.partition(".")[0] in _KNOWN_SOURCES
    return [
        f"{kind.__module__}.{kind.__qualname__}",
        module.extra_repr(),
        "" if known else _source(kind),
        "" if known else _settings(module),
    ]


def _settings(module: nn.Module) -> str:
    """Plain attributes: a factor in front of the logits shows in no weight and no source."""
    plain = (int, float, str, bool, tuple, list, type(None))
    return repr(
        sorted(
            (name, repr(value))
            for name, value in vars(module).items()
            if not name.startswith("_") and name != "training" and isinstance(value, plain)
        )
    )


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        # Defined in an interactive session: its name and settings must do.
        return ""
