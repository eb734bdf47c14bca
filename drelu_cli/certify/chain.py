"""A model's modules in the order in which they are called, where that order is a plain chain."""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx, nn

from drelu_cli.core.errors import ModelError
from drelu_cli.runtime.containers import is_chain, is_watched


def leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules that nested `nn.Sequential`s and straight traced graphs call, with their names.

    Placement `all` gives a traced graph. What is no chain is given as it is: a graph with
    branches, a subclass of `nn.Sequential` with a `forward` of its own.

    Raises:
        ModelError: a hook, or a `forward` replaced on one module.
    """
    if is_watched(module):
        raise ModelError(
            f"{name} has a hook or a replaced forward: what it computes is not certain",
            hint="remove the hook before bounds are asked for",
        )
    chain = _calls(module)
    if chain is None:
        yield name, module
        return
    for child_name, child in chain:
        yield from leaves(child, f"{name}.{child_name}")


def _calls(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """What a container calls one after another; None for what is no such container."""
    if is_chain(module):
        # Not `named_children`, which hides repeats.
        held = module._modules.items()  # noqa: SLF001
        return [(name, child) for name, child in held if child is not None]
    return _straight(module) if isinstance(module, fx.GraphModule) else None


def _straight(traced: fx.GraphModule) -> list[tuple[str, nn.Module]] | None:
    """The calls of a graph in which each module takes the last one's result and nothing else."""
    first, *middle, last = traced.graph.nodes
    found, before = [], first
    for node in middle:
        if node.op != "call_module" or node.args != (before,) or node.kwargs:
            return None
        found.append((str(node.target), traced.get_submodule(str(node.target))))
        before = node
    whole = first.op == "placeholder" and last.op == "output" and last.args == (before,)
    return found if whole else None
