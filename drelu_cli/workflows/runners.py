"""Where the jobs of a sweep run: `--runner local`, `ray` or `slurm`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.data.needed import needed_files
from drelu_cli.runtime.executor import Executor, OnEvent
from drelu_cli.runtime.parcels import Manifest
from drelu_cli.runtime.ray_cluster import RayExecutor, RayPlace, check_ray
from drelu_cli.runtime.slurm_array import DEFAULT_JOBS, SlurmArrays, check_slurm
from drelu_cli.runtime.slurm_options import PREFIX, SlurmOptions, slurm_options
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.jobs import Job
from drelu_cli.workflows.recipes import Options

LOCAL, RAY, SLURM = "local", "ray", "slurm"
RUNNERS = (LOCAL, RAY, SLURM)
Count = int | Literal["auto"] | None
# Makes the executor, from whom it tells, its folder for logs, and the plan.
Start = Callable[[OnEvent, Path, Sequence[Job]], Executor]


@dataclass(frozen=True)
class Cluster:
    """A runner whose workers are not processes of the driver.

    Attributes:
        start: makes the executor.
        device: as a worker calls it.
        context: the driver's, with folders that mean the same everywhere.
    """

    start: Start
    device: str
    context: Context


def split_options(options: Options, runner: str) -> tuple[Options, SlurmOptions]:
    """The options of the recipe, and those of SLURM, which enter no key.

    Raises:
        UnknownName: no such runner, or no such option of SLURM.
        BadValue: a wrong value, or an option of SLURM for another runner.
    """
    if runner not in RUNNERS:
        raise UnknownName.among("runner", runner, RUNNERS)
    theirs = [(field, value) for field, value in options if field.startswith(PREFIX)]
    if theirs and runner != SLURM:
        raise BadValue(f"{theirs[0][0]} is an option of --runner slurm", hint="--runner slurm")
    return [one for one in options if one not in theirs], slurm_options(theirs)


def cluster(
    runner: str,
    *,
    jobs: Count,
    per_gpu: int,
    ray_address: str | None,
    slurm: SlurmOptions,
    context: Context,
) -> Cluster | None:
    """The cluster that was asked for; None for processes of this machine.

    Raises:
        MissingExtra: its library is not installed.
        BadValue: options that do not go together.
    """
    if ray_address is not None and runner != RAY:
        raise BadValue("--ray-address goes with --runner ray", hint="--runner ray")
    if runner == LOCAL:
        return None
    device, count = context.device, None if jobs == "auto" else jobs
    if device == "mps" or device.startswith("cuda:"):
        raise BadValue(
            f"--device {device} with --runner {runner}: the cluster chooses the GPU",
            hint="--device auto, cuda or cpu",
        )
    if per_gpu < 1 or (count is not None and count < 1):
        raise BadValue("--jobs and --per-gpu are 1 or more", hint="--jobs 2, or --jobs auto")
    everywhere = replace(
        context, store=context.store.resolve(), data_dir=context.data_folder.resolve()
    )
    if runner == RAY:
        check_ray(ray_address)
        place = RayPlace(ray_address, count, None if device == "cpu" else per_gpu)
        return Cluster(_on_ray(place, everywhere), device, everywhere)
    return Cluster(_on_slurm(slurm, count, per_gpu, device), device, everywhere)


def _on_ray(place: RayPlace, context: Context) -> Start:
    def start(on_event: OnEvent, logs: Path, jobs: Sequence[Job]) -> Executor:  # noqa: ARG001
        return RayExecutor(place, data=data_of(jobs, context.data_folder), on_event=on_event)

    return start


def _on_slurm(options: SlurmOptions, count: int | None, per_gpu: int, device: str) -> Start:
    if per_gpu > 1:
        raise BadValue("SLURM gives whole GPUs: no --per-gpu", hint="--runner ray shares them")
    if device == "cuda" and options.gpus == 0:
        options = options.model_copy(update={"gpus": 1})
    check_slurm(options)

    def start(on_event: OnEvent, logs: Path, jobs: Sequence[Job]) -> Executor:  # noqa: ARG001
        return SlurmArrays(options, logs, jobs=count or DEFAULT_JOBS, on_event=on_event)

    return start


def data_of(jobs: Sequence[Job], folder: Path) -> Manifest:
    """The files that the data sets of a plan are read from."""
    wanted = {(job.effective.data.name, job.effective.data.generated) for job in jobs}
    names = [
        file
        for name, generated in sorted(wanted, key=str)
        for file in needed_files(name, folder, generated=generated)
    ]
    return Manifest.of(folder, names)
