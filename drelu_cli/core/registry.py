"""One registry per kind of part: names to objects that are imported only when used.

One rule makes all parts alike: positional arguments come from the machine, keyword-only
arguments come from the recipe. A part's signature is therefore its schema.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from drelu_cli.core.errors import BadValue, DreluError, UnknownName


class Since:
    """Marks an option added after a part's first release: `steps: Annotated[int, Since(2)] = 1`.

    At its default such an option stays out of keys, so results stored earlier stay valid.
    """

    def __init__(self, release: int) -> None:
        self.release = release


@dataclass(frozen=True)
class Bound:
    """A part with its options checked and filled in.

    Attributes:
        name: the registered name.
        target: the part itself.
        given: what the user wrote, after type conversion.
        effective: every keyword-only option with the value in force.
    """

    name: str
    target: Callable[..., Any]
    given: Mapping[str, Any]
    effective: Mapping[str, Any]
    late: frozenset[str] = field(default=frozenset())

    def __call__(self, *machine: Any) -> Any:
        """Calls the part: `machine` are its positional arguments."""
        return self.target(*machine, **self.effective)

    @property
    def changed(self) -> dict[str, Any]:
        """Options whose value is not the part's default: what a table must show."""
        defaults = _defaults(self.target)
        return {
            key: value
            for key, value in self.effective.items()
            if key not in defaults or value != defaults[key]
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Name and effective options as they enter a key."""
        defaults = _defaults(self.target)
        options = {
            key: value
            for key, value in self.effective.items()
            if not (key in self.late and value == defaults.get(key))
        }
        return {"name": self.name, "options": options}


class Registry:
    """Parts of one kind by name.

    Args:
        kind: the word for error messages, e.g. `attack`.
        builtins: a literal map `name -> "module:attribute"`; nothing is imported for it.
        group: the entry point group in which third parties register, e.g. `drelu.attacks`.
        open_names: accept `package.module:attribute` as a name.
    """

    def __init__(
        self, kind: str, builtins: Mapping[str, str], *, group: str, open_names: bool = False
    ) -> None:
        self.kind = kind
        self.group = group
        self._builtins = dict(builtins)
        self._open_names = open_names

    def builtin_names(self) -> list[str]:
        """The names that come with drelu, in the order they are documented."""
        return list(self._builtins)

    def names(self) -> list[str]:
        """Every registered name: drelu's own, then third parties'. Imports no part."""
        return [*self._builtins, *self._third_party()]

    def __contains__(self, name: str) -> bool:
        return name in self._builtins or name in self._third_party()

    def resolve(self, name: str) -> Callable[..., Any]:
        """The part called `name`.

        Raises:
            UnknownName: no part has this name.
            DreluError: the part's module cannot be imported; the error names it.
        """
        if name in self._builtins:
            return _attribute(self._builtins[name], self.kind)
        entry = self._third_party().get(name)
        if entry is not None:
            return _attribute(entry, self.kind, plugin=name)
        if self._open_names and ":" in name:
            return _attribute(name, self.kind)
        raise UnknownName.among(self.kind, name, self.names())

    def bind(self, name: str, /, **given: Any) -> Bound:
        """`name` with the options `given`, checked against its signature.

        Text values are converted as a command line needs it, others as TOML needs it.

        Raises:
            UnknownName: unknown part or unknown option.
            BadValue: a missing option, one of the wrong type, or one that the part refuses.
        """
        return bound_to(self.resolve(name), given, kind=self.kind, name=name)

    def options_of(self, name: str) -> dict[str, Any]:
        """The keyword-only options of `name` with their defaults; `...` where there is none."""
        target = self.resolve(name)
        return {option: _defaults(target).get(option, ...) for option in _options_of(target)}

    def _third_party(self) -> dict[str, str]:
        return _entry_points(self.group, self.kind, tuple(self._builtins))


def bound_to(
    target: Callable[..., Any], given: Mapping[str, Any], *, kind: str, name: str
) -> Bound:
    """`target` with the options `given`, checked against its signature.

    Args:
        target: a part; hashable.
        given: options as a command line or TOML spells them.
        kind: the word for error messages, e.g. `attack`.
        name: the registered name.

    Raises:
        UnknownName: unknown option.
        BadValue: a missing option, one of the wrong type, or one that the part refuses.
    """
    schema = _schema(target)
    known = {info.alias: key for key, info in schema.model_fields.items() if info.alias}
    for option in given:
        if option not in known:
            raise UnknownName.among(f"option of {kind} {name}", option, known)
    try:
        checked = schema.model_validate(given)
    except ValidationError as problem:
        raise BadValue(_first_problem(problem, f"{kind} {name}")) from None
    effective = {option: getattr(checked, key) for option, key in known.items()}
    late = frozenset(
        option
        for option, key in known.items()
        if any(isinstance(mark, Since) for mark in schema.model_fields[key].metadata)
    )
    return Bound(name, target, {key: effective[key] for key in given}, effective, late)


@cache
def _entry_points(group: str, kind: str, taken: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in importlib.metadata.entry_points(group=group):
        if entry.name in taken or found.get(entry.name, entry.value) != entry.value:
            raise DreluError(
                f"two {kind}s are called '{entry.name}'",
                hint=f"the entry point {entry.value} in {group} must take another name",
            )
        found[entry.name] = entry.value
    return found


def _attribute(path: str, kind: str, *, plugin: str = "") -> Callable[..., Any]:
    """The object at `package.module:attribute`; modules beside the user are found too."""
    module_name, _, attribute = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    what = f"plug-in '{plugin}' ({path})" if plugin else f"'{path}'"
    try:
        found: Any = importlib.import_module(module_name)
        for piece in attribute.split("."):
            found = getattr(found, piece)
    except ImportError as problem:
        raise DreluError(
            f"{kind} {what} cannot be imported: {problem}",
            hint="is its package installed, or is its file in this folder?",
        ) from problem
    except AttributeError:
        raise UnknownName.among(
            f"name in module {module_name}", attribute, vars(sys.modules[module_name])
        ) from None
    return found  # type: ignore[no-any-return]


@cache
def _options_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    signature = inspect.signature(target, eval_str=True)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _defaults(target: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in _options_of(target).items()
        if parameter.default is not inspect.Parameter.empty
    }


@cache
def _schema(target: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the keyword-only options of `target`."""
    fields: dict[str, Any] = {}
    for name, parameter in _options_of(target).items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        # The field is prefixed: `schema`, `copy` and others would shadow BaseModel's attributes.
        info: Any = Field(default=default, alias=name)
        fields[f"o_{name}"] = (parameter.annotation, info)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model("Options", __config__=config, **fields)


def _first_problem(problem: ValidationError, where: str) -> str:
    first = problem.errors()[0]
    key = ".".join(str(piece) for piece in first["loc"])
    return f"{where}: {key}: {first['msg']}, got {first.get('input')!r}"
