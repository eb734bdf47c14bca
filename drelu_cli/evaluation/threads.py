"""One attack on several CPU cores: its samples in as many parts, one thread and one core each.

A sample's outcome does not depend on the batch it shares, so its samples can be shared out. With
convolutions that is faster than torch's own threads within an operation; without, the operations
are so short that threads only take turns (both measured: benchmarks/floors.py).
Each thread has a copy of the model: what measures a model puts hooks on it for a while.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context

import torch
from torch import Tensor, nn

from drelu_cli.attacks.augment import TRANSFER
from drelu_cli.attacks.chain import layers_of
from drelu_cli.attacks.contract import AttackResult
from drelu_cli.core.registry import Bound
from drelu_cli.runtime.driver import micro_batch, micro_batch_size, stoppable

# Fewer samples than this fill no batch of their own: what a thread would save, its overhead costs.
_FEWEST = 48

Part = Callable[[nn.Module, Tensor], AttackResult]


def threads_for(model: nn.Module, x: Tensor, bound: Bound) -> int:
    """In how many parts the samples may be attacked at once; 1 where that is not certain.

    A module that is neither torch's nor ours may share a state with its copy, an attack of a
    third party promises nothing about threads, and `transfer` holds another network.

    Args:
        model: in evaluation mode.
        x: (N, ...) what is attacked.
        bound: the attack.
    """
    allowed = min(torch.get_num_threads(), len(x) // _FEWEST)
    if allowed < 2 or x.device.type != "cpu":
        return 1
    target = getattr(bound.target, "attack", bound.target)
    ours = str(getattr(target, "__module__", "")).startswith("drelu_cli.")
    if not ours or bound.name == TRANSFER:
        return 1
    return allowed if layers_of(model, x) is not None else 1


def threads_pay(model: nn.Module) -> bool:
    """Whether an operation of the model is long enough for threads that take turns in Python."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def in_threads(runs: Sequence[Part], model: nn.Module, count: int) -> AttackResult:
    """A run for each part of `count` samples, at the same time, put together in their order.

    The micro-batch is shared out, so that memory stays bounded by it. An error or an interrupt
    ends the other parts at their next step.

    Args:
        runs: two or more threads' work: a copy of the model, (n,) int64 rows -> their result;
            each of them keeps torch to one core.
        model: what `threads_for` has looked at.
        count: samples in all.
    """
    before, stop, parts = torch.get_num_threads(), threading.Event(), len(runs)
    copies = [copy.deepcopy(model) for _ in range(parts)]
    rows = [torch.arange(part, count, parts) for part in range(parts)]

    def work(run: Part, own: nn.Module, part: Tensor) -> AttackResult:
        torch.set_num_threads(1)
        with stoppable(stop), micro_batch(max(micro_batch_size() // parts, 1)):
            return run(own, part)

    pool = ThreadPoolExecutor(parts, thread_name_prefix="attack")
    try:
        # A context of its own for each: limits that the caller set hold in the threads, too.
        work_on = zip(runs, copies, rows, strict=True)
        futures = [
            pool.submit(copy_context().run, work, run, own, part) for run, own, part in work_on
        ]
        ended = wait(futures, return_when=FIRST_EXCEPTION).done
        # The first to fail speaks: the others end because of it.
        found = [one.result() for one in (futures if len(ended) == parts else ended)]
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
    order = torch.cat(rows).argsort()
    return AttackResult(
        torch.cat([one.x_adv for one in found])[order],
        torch.cat([one.forwards for one in found])[order],
        torch.cat([one.backwards for one in found])[order],
    )
