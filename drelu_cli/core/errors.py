"""Errors a user can act on: what is wrong, the nearest right name, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DreluError(Exception):
    """Something the user can mend. Printed as one or two lines, never as a traceback.

    Args:
        message: what is wrong, and where.
        hint: what to do about it; may be empty.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownName(DreluError):
    """A name that no registry, recipe or store knows."""

    @classmethod
    def among(cls, kind: str, given: str, known: Iterable[str]) -> UnknownName:
        """The error for `given`, with the nearest of the `known` names first."""
        names = sorted(known)
        near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
        listed = ", ".join(names) if names else "none"
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return cls(f"unknown {kind} '{given}'", hint=f"{hint}known: {listed}")


class BadValue(DreluError):
    """A value of the wrong type or out of range."""


class RecipeError(DreluError):
    """A recipe that cannot be read: file, key, what was expected, what was given."""


class DataError(DreluError):
    """A data set that is missing, truncated or of the wrong shape."""


class ModelError(DreluError):
    """A model that cannot be built, does not fit the data, or gives unusable outputs."""


class CheckpointError(DreluError):
    """A checkpoint that is damaged, does not fit, or would execute code on loading."""


class StoreError(DreluError):
    """A store that cannot be opened, is damaged, or was written by a newer version."""


class DeviceError(DreluError):
    """A device that this machine does not have."""


class MissingExtra(DreluError):
    """A library that an optional extra brings and that is not installed."""

    @classmethod
    def of(cls, what: str, *, extra: str) -> MissingExtra:
        """The error for `what`, which the extra `extra` installs."""
        return cls(f"{what} is not installed", hint=f'pip install "drelu-cli[{extra}]"')


class NotThereYet(DreluError):
    """Something the documents name that this version does not do."""


class CheckFailed(DreluError):
    """The work ran and a check that was asked for failed."""

    exit_code = 1


class Interrupted(DreluError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 3


class InternalError(DreluError):
    """A fault of ours: an attack left its ball, a contract was broken."""

    exit_code = 70
