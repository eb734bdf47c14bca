"""What `--set slurm.NAME=VALUE` may say: how to ask SLURM for an array task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from drelu_cli.core.errors import BadValue, UnknownName

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d\d)(?::\d\d)?")
PREFIX = "slurm."


class SlurmOptions(BaseModel):
    """What each array task gets; none of it is part of a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: Literal["slurm", "local"] = Field(
        "slurm", description="local runs the tasks as processes of this machine, for a trial"
    )
    partition: str | None = None
    time: int = Field(240, ge=1, description="minutes, or [D-]HH:MM[:SS]")
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    nodelist: str | None = None
    cpus: int = Field(1, ge=1, description="cores and threads of a task")
    gpus: int = Field(0, ge=0, le=1, description="GPUs of a task")
    mem_gb: float | None = Field(None, gt=0)
    setup: tuple[str, ...] = Field((), description="shell lines before the task starts")
    poll: float = Field(5.0, gt=0, description="seconds between two looks at the queue")

    @field_validator("time", mode="before")
    @classmethod
    def _minutes(cls, given: Any) -> Any:
        """Minutes from SLURM's own way of writing a time."""
        if not isinstance(given, str):
            return given
        found = _TIME.fullmatch(given)
        if found is None:
            raise ValueError("minutes, or [D-]HH:MM[:SS]")
        days, hours, minutes = (int(found[name] or 0) for name in ("days", "hours", "minutes"))
        return 60 * (24 * days + hours) + minutes

    @field_validator("setup", mode="before")
    @classmethod
    def _lines(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


def slurm_options(given: Iterable[tuple[str, Any]]) -> SlurmOptions:
    """The options from dotted fields, `slurm.partition` and so on.

    Raises:
        UnknownName: no such option.
        BadValue: a value that it cannot have.
    """
    fields = {name.removeprefix(PREFIX): value for name, value in given}
    for name in fields:
        if name not in SlurmOptions.model_fields:
            raise UnknownName.among("SLURM option", name, SlurmOptions.model_fields)
    try:
        return SlurmOptions.model_validate(fields)
    except ValidationError as problem:
        first = problem.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise BadValue(
            f"slurm.{name} = {first['input']!r}: {told}",
            hint="--set slurm.partition=gpu --set slurm.time=4:00:00",
        ) from None
