"""`drelu doctor`: whether this machine can do the work, and whether the attacks do theirs."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from drelu_cli.core.errors import DreluError, StoreError
from drelu_cli.store.connect import FILE_NAME, open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.files import WEIGHTS
from drelu_cli.workflows.recipes import recipe_names

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scipy", "scikit-learn", "pydantic")
# By the extra that brings them.
_EXTRAS = {"parquet": "pyarrow", "reference": "torchattacks", "ray": "ray", "slurm": "submitit"}


@dataclass(frozen=True)
class Check:
    """One check: what, whether it passed, what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class DoctorReport:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu doctor`."""
        return {"checks": [vars(check).copy() for check in self.checks]}


def doctor(*, selftest: bool = False, context: Context | None = None) -> DoctorReport:
    """Runs every check; a failed check does not stop the others.

    Args:
        selftest: also let the court judge nets made on the spot: some minutes.
        context: folders, device and progress.
    """
    context = context or Context()
    checks: list[tuple[str, Callable[[Context], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("extras", _extras),
        ("torchvision", _torchvision),
        ("device", _device),
        ("recipes", _recipes),
        ("store", _store),
        ("data", _data),
        ("attacks on a linear model", _linear_optimum),
    ]
    found = [_checked(name, check, context) for name, check in checks]
    if selftest:
        found += _court(context)
    return DoctorReport(tuple(found))


def _court(context: Context) -> list[Check]:
    from drelu_cli.workflows.selftest import court_selftest

    found = []
    try:
        for case in court_selftest(context):
            detail = case.detail if case.ok else f"{case.detail}; expected: {case.expected}"
            found.append(Check(f"court: {case.name}", case.ok, detail))
    except DreluError as problem:
        found.append(Check("court", False, problem.message))
    return found


def _checked(name: str, check: Callable[[Context], str], context: Context) -> Check:
    try:
        return Check(name, True, check(context))
    except DreluError as problem:
        hint = f" ({problem.hint})" if problem.hint else ""
        return Check(name, False, f"{problem.message}{hint}")
    except (ImportError, OSError) as problem:
        return Check(name, False, f"{type(problem).__name__}: {problem}")


def _python(context: Context) -> str:  # noqa: ARG001
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages(context: Context) -> str:  # noqa: ARG001
    return ", ".join(f"{package} {version(package)}" for package in _PACKAGES)


def _extras(context: Context) -> str:  # noqa: ARG001
    return ", ".join(f"{extra}: {_found(package)}" for extra, package in _EXTRAS.items())


def _found(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return "not installed"


def _torchvision(context: Context) -> str:  # noqa: ARG001
    from drelu_cli.runtime.vision import import_torchvision

    return f"{import_torchvision().__version__} imports"


def _device(context: Context) -> str:
    import torch

    from drelu_cli.runtime.devices import pick_device

    return f"{pick_device(context.device)}, {torch.get_num_threads()} CPU threads"


def _recipes(context: Context) -> str:  # noqa: ARG001
    return ", ".join(recipe_names())


def _store(context: Context) -> str:
    if not (context.store / FILE_NAME).is_file():
        return f"{context.store}: not there yet; drelu train makes it"
    with open_store(context.store, create=False) as store:
        models, evaluations = len(store.models()), len(store.evaluations())
        outcomes = store.check()
        trained = [record for record in store.models() if record.source == "trained"]
        gone = [r.name for r in trained if not (store.model_dir(r.key) / WEIGHTS).is_file()]
    if gone:
        raise StoreError(
            f"the weights of {', '.join(gone)} are gone",
            hint="drelu train --force makes them again",
        )
    return f"{context.store}: {models} models, {evaluations} evaluations, {outcomes} outcomes read"


def _data(context: Context) -> str:
    from drelu_cli.data.loading import load
    from drelu_cli.data.releases import RELEASES, is_there

    count = len(load("digits", context.data_folder).test.labels)
    folder = context.data_folder
    there = [release.name for release in RELEASES if is_there(release, folder)]
    absent = [release.name for release in RELEASES if release.name not in there]
    parts = [f"digits embedded ({count} test images)", f"in {folder}: {', '.join(there) or 'none'}"]
    if absent:
        parts.append(f"downloaded on first use: {', '.join(absent)}")
    return "; ".join(parts)


def _linear_optimum(context: Context) -> str:
    from drelu_cli.evaluation.selftest import linear_model_agrees
    from drelu_cli.runtime.devices import pick_device

    return linear_model_agrees(pick_device(context.device))
