"""Overhead over bare passes, cost per image from 100 to 10,000 images, and peak memory.

    python benchmarks/speed_scaling.py --peak 1000 --work DIR --data-dir DATA

The second form is what the memory row runs in a process of its own: it prints bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from speed_contenders import Task, ours
from speed_measure import clock
from speed_nets import NETS, network

from drelu_cli.attacks.gradient import forward, forward_backward
from drelu_cli.attacks.losses import cross_entropy
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import micro_batch_size

SIZES = (100, 1_000, 10_000)
SCALED = ("pgd", "apgd_ce")
OVERHEAD_NETS = ("CNN", "CNN AT")
MEMORY_SIZES = (1_000, 10_000)


def _task(name: str, attack: str, count: int, work: Path, data: Path | None, device: str) -> Task:
    model, samples = network(name, work, data, device, count)
    return Task(model, samples, attack, ThreatModel("linf", NETS[name].eps))


def overhead(work: Path, data_dir: Path | None, device: str) -> dict[str, Any]:
    """Time / (passes counted x bare pass time) of PGD-40 at n = 1,000.

    Bare passes are timed before and after the attack, at its micro-batch and on its images; the
    floor counts forward passes alone where no gradient is needed.
    """
    found = {}
    for name in OVERHEAD_NETS:
        task = _task(name, "pgd", 1_000, work, data_dir, device)
        before = _bare(task)
        began = clock(task.samples.x.device)
        result = ours(task)
        seconds = clock(task.samples.x.device) - began
        after = _bare(task)
        both, one = ((a + b) / 2 for a, b in zip(before, after, strict=True))
        backwards = float(result.backwards.sum())
        forwards = float(result.forwards.sum()) - backwards
        floor = backwards * both + forwards * one
        found[name] = {
            "seconds": seconds,
            "floor": floor,
            "ratio": seconds / floor,
            "backwards": backwards / 1_000,
            "pass_us": 1e6 * both,
            "forward_us": 1e6 * one,
        }
    return {"overhead": found}


def _bare(task: Task) -> tuple[float, float]:
    """Seconds per sample of a forward and backward pass, and of a forward pass."""
    rows = slice(micro_batch_size())
    x, y = task.samples.x[rows], task.samples.y[rows]
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(5):
        for kept, look in zip(times, (forward_backward, forward), strict=True):
            began = clock(x.device)
            look(task.model, x, y, cross_entropy)
            if number:
                kept.append((clock(x.device) - began) / len(y))
    return statistics.median(times[0]), statistics.median(times[1])


def throughput(work: Path, data_dir: Path | None, device: str) -> dict[str, Any]:
    """Microseconds per image of PGD and APGD-CE on the dense AT net, by number of images."""
    found: dict[str, dict[int, list[float]]] = {}
    for attack in SCALED:
        full = _task("dense AT", attack, SIZES[-1], work, data_dir, device)
        found[attack] = {count: [] for count in SIZES}
        for number in range(3):
            for count in SIZES:
                count = min(count, len(full.samples))
                rows = torch.arange(count, device=full.samples.y.device)
                task = Task(full.model, full.samples.rows(rows), attack, full.threat)
                began = clock(full.samples.x.device)
                ours(task)
                spent = 1e6 * (clock(full.samples.x.device) - began) / count
                if number:
                    found[attack].setdefault(count, []).append(spent)
    return {
        "us_per_image": {
            attack: {count: statistics.median(times) for count, times in sizes.items() if times}
            for attack, sizes in found.items()
        }
    }


def memory(work: Path, data_dir: Path | None, device: str) -> dict[str, Any]:
    """Peak memory of one attack by number of images, each in a process of its own."""
    script = [sys.executable, str(Path(__file__).resolve()), "--work", str(work)]
    script += ["--device", device, *(["--data-dir", str(data_dir)] if data_dir else [])]
    found = {}
    for net in ("dense AT", "CNN"):
        for count in MEMORY_SIZES:
            command = [*script, "--net", net, "--peak", str(count)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            found[f"{net}, {count}"] = json.loads(done.stdout.splitlines()[-1])
    return {"peak": found}


def peak(net: str, count: int, work: Path, data_dir: Path | None, device: str) -> dict[str, float]:
    """Bytes at the highest point of PGD with 3 steps, which later steps do not exceed.

    `data`: the images; the points returned take as much again. `attack`: beyond what was held
    before; `process`: everything, the interpreter and torch included.
    """
    full = _task(net, "pgd", count, work, data_dir, device)
    task = Task(full.model, full.samples, "pgd", full.threat, {"steps": 3})
    data = full.samples.x.numel() * full.samples.x.element_size()
    if device.startswith("cuda"):
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        ours(task)
        return {"attack": torch.cuda.max_memory_allocated() - held, "data": data}
    held = _resident()
    ours(task)
    return {"attack": _highest() - held, "data": data, "process": _highest()}


def _resident() -> int:
    """Bytes of memory this process holds now; starts the highest mark from here."""
    # 5 resets VmHWM (proc_pid_clear_refs): the mark then tells the attack, not the loading.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _highest() -> int:
    if not Path("/proc/self/status").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}")


EXTRAS: dict[str, Callable[[Path, Path | None, str], dict[str, Any]]] = {
    "overhead": overhead,
    "throughput": throughput,
    "memory": memory,
}


def main() -> None:
    """Prints the peak memory of one attack as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="dense AT")
    parser.add_argument("--peak", type=int, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/speed"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    found = peak(given.net, given.peak, given.work, given.data_dir, given.device)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
