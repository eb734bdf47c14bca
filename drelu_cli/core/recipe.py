"""Recipes: what to train and attack, as validated data.

A recipe file is TOML. Sections whose parts have options of their own (`[model]`,
`[activation]`, `[[phase]]`) take those options beside the fixed fields; the part's signature
checks them when it is bound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import DreluError, RecipeError, UnknownName
from drelu_cli.core.grid import spelled_out
from drelu_cli.core.quantities import parse_eps_list
from drelu_cli.core.records import OWN, Norm

Placement = Literal["head", "stem", "all"]
Preset = Literal["fast", "paper", "tiny"]

# Fields of [train] that only fill in phases: the phases carry them into the key.
_PHASE_DEFAULTS = ("epochs", "lr", "cap_lr")
# Fields of [train] that only keep more of the same training.
_KEEPING = ("checkpoint_every",)
# Adam's step must still be a float32.
_LARGEST_RATE = 1e37


class Section(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class OpenSection(BaseModel):
    """A section that carries its part's own options beside its fields."""

    model_config = ConfigDict(
        extra="allow", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    @property
    def options(self) -> dict[str, Any]:
        """The part's own options, unchecked until the part is bound."""
        return dict(self.__pydantic_extra__ or {})


class Data(Section):
    """`[data]`: a data set by name, `npz` or `image_folder` with a path; generated images.

    The digest of the generated file's content enters the key, its path does not. drelu fills the
    digest in; a recipe that states it refuses any other content.
    """

    name: str = "digits"
    path: str | None = None
    train_samples: int | None = Field(default=None, ge=1)
    validation_samples: int | None = Field(default=None, ge=1)
    generated: str | None = None
    generated_share: float | None = Field(default=None, ge=0, le=1)
    generated_digest: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What enters a training's key beside the digest of the data set."""
        plain: dict[str, Any] = {"train_samples": self.train_samples}
        if self.validation_samples is not None:
            plain["validation_samples"] = self.validation_samples
        if self.generated is None:
            return plain
        mixed = {"digest": self.generated_digest, "share": self.generated_share}
        return {**plain, "generated": mixed}


class Model(OpenSection):
    """`[model]`: an architecture by name, where the activation goes, what it starts from.

    `normalize = true` brings each channel to mean 0 and standard deviation 1 over the training
    split, `false` leaves pixels in [0, 1]; the default belongs to the data set.

    The digest of the pretrained weights' content enters the key, their path does not. drelu fills
    the digest in; a recipe that states it refuses any other content.
    """

    name: str = "dense"
    placement: Placement = "head"
    pretrained: str | None = None
    pretrained_digest: str | None = None
    frozen: bool | None = None
    normalize: bool | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What enters a training's key."""
        left_out = {"pretrained", "pretrained_digest", "frozen"}
        if self.normalize is not False:
            left_out.add("normalize")  # every net before this field did
        plain = self.model_dump(exclude=left_out)
        if self.pretrained is None:
            return plain
        return {
            **plain,
            "pretrained": {"digest": self.pretrained_digest, "frozen": bool(self.frozen)},
        }


class Activation(OpenSection):
    """`[activation]`: an activation by name, with its options."""

    name: str = "drelu"


class Phase(OpenSection):
    """`[[phase]]`: a scheme with its options, its length and learning rates.

    Fields that are None take the value of `[train]`.
    """

    scheme: str = "natural"
    epochs: int | None = Field(default=None, ge=0)
    lr: float | None = Field(default=None, gt=0, le=_LARGEST_RATE)
    cap_lr: float | None = Field(default=None, gt=0, le=_LARGEST_RATE)


class Penalty(Section):
    """`[penalty]`: lambda of `loss + lambda * sum m_i^2`."""

    lambda_: float | None = Field(default=None, ge=0, alias="lambda")


class Train(Section):
    """`[train]`: what all phases share. Defaults of the source paper where it states them."""

    batch: int = Field(default=64, ge=1)
    epochs: int = Field(default=30, ge=0)
    lr: float = Field(default=1e-3, gt=0, le=_LARGEST_RATE)
    cap_lr: float = Field(default=1e-3, gt=0, le=_LARGEST_RATE)
    seed: int = Field(default=0, ge=0, lt=2**63)
    validation: bool = True
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=5, ge=0)
    stop_patience: int = Field(default=10, ge=1)
    weight_decay: float = Field(default=0.0, ge=0, json_schema_extra={"since": 2})
    checkpoint_every: int = Field(default=0, ge=0)
    hops: int = Field(default=0, ge=0, json_schema_extra={"since": 2})
    hop_step: float = Field(default=0.3, gt=0, json_schema_extra={"since": 2})
    hop_epochs: int = Field(default=3, ge=1, json_schema_extra={"since": 2})
    hop_temperature: float = Field(default=0.0, ge=0, json_schema_extra={"since": 2})


class Attack(Section):
    """`[attack]`: a suite, or a list of attacks; None takes the data set's own value."""

    suite: str | None = None
    attacks: tuple[str, ...] = ()
    norm: Norm = "linf"
    eps: tuple[float, ...] | None = None
    samples: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    max_steps: int | None = Field(default=None, ge=1)
    exhaustive: bool = False
    curve: tuple[float, ...] | None = None
    engine: str = OWN
    certify: bool = False
    remedy: bool = True

    @field_validator("eps", "curve", mode="before")
    @classmethod
    def _eps(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parse_eps_list(value)
        if isinstance(value, int | float):
            return parse_eps_list(str(value))
        if isinstance(value, list):
            if not value:
                raise ValueError("expected at least one radius, got []")
            return tuple(eps for item in value for eps in parse_eps_list(str(item)))
        return value

    @field_validator("attacks", mode="before")
    @classmethod
    def _attacks(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Report(Section):
    """`[report]`: how results are named and what they stand beside; never in a key."""

    label: str | None = None
    title: str | None = None
    against: str | None = None
    plot: str | None = None


class Recipe(Section):
    """One experiment: a training, its attacks, and the grid over both."""

    data: Data = Data()
    model: Model = Model()
    activation: Activation = Activation()
    phase: tuple[Phase, ...] = (Phase(),)
    penalty: Penalty = Penalty()
    train: Train = Train()
    attack: Attack = Attack()
    report: Report = Report()

    def key(self, data_digest: str) -> str:
        """sha256 of all that determines the trained weights.

        Device, label, attacks and paths stay out; the digest of the data's content stands for
        its path.
        """
        return digest_of(self.identity(data_digest))

    def identity(self, data_digest: str) -> dict[str, Any]:
        """The part of the recipe that enters the key."""
        return {
            "record": "training",
            "data": {"digest": data_digest, **self.data.identity},
            "model": self.model.identity,
            "activation": self.activation.model_dump(),
            "phase": [phase.model_dump() for phase in self.phase],
            "penalty": {"lambda": self.penalty.lambda_},
            "train": _without_late_defaults(self.train, leave_out=(*_PHASE_DEFAULTS, *_KEEPING)),
        }

    def as_mapping(self) -> dict[str, Any]:
        """Plain data that `Recipe.from_mapping` reads back; None is left out, as TOML has none."""
        dumped: dict[str, Any] = _without_none(self.model_dump(by_alias=True, mode="json"))
        return dumped

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
        """The recipe in `mapping`.

        Raises:
            RecipeError: unknown key or wrong type; names file, key, expected and got.
        """
        try:
            return cls.model_validate(spelled_out(mapping))
        except ValidationError as problem:
            raise _recipe_error(problem, where) from None
        except DreluError as problem:
            raise RecipeError(f"{where}: {problem.message}", hint=problem.hint) from None


def _without_late_defaults(section: Section, *, leave_out: Collection[str]) -> dict[str, Any]:
    """Fields tagged `since` (added after release 1) are left out at their default."""
    kept = {}
    for name, info in type(section).model_fields.items():
        tags = info.json_schema_extra
        late = isinstance(tags, dict) and "since" in tags
        value = getattr(section, name)
        if name not in leave_out and not (late and value == info.default):
            kept[name] = value
    return kept


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _recipe_error(problem: ValidationError, where: str) -> RecipeError:
    first = problem.errors()[0]
    place = [str(piece) for piece in first["loc"]]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        near = UnknownName.among("key", place[-1], known)
        return RecipeError(f"{where}: unknown key '{key}'", hint=near.hint)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, DreluError):
        return RecipeError(f"{where}: {key}: {cause.message}", hint=cause.hint)
    got = first.get("input")
    return RecipeError(
        f"{where}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}, "
        f"got {got!r} ({type(got).__name__})"
    )


def _known_keys(path: Sequence[str]) -> list[str]:
    model: Any = Recipe
    for piece in path:
        if piece.isdigit():
            continue
        field = model.model_fields.get(piece)
        model = {"phase": Phase}.get(piece, field.annotation if field else Recipe)
    return [info.alias or name for name, info in model.model_fields.items()]
