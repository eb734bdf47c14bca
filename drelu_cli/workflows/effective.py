"""Effective recipes: every option of every part filled in, and the names that follow from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.caps import learnable_caps
from drelu_cli.core.errors import BadValue, DataError, DreluError, ModelError, UnknownName
from drelu_cli.core.recipe import Activation, Data, Model, Phase, Recipe
from drelu_cli.core.registry import Bound, Registry
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.facts import facts
from drelu_cli.data.generated import find_generated, open_generated
from drelu_cli.data.releases import CACHE
from drelu_cli.models import MODELS
from drelu_cli.training import SCHEMES
from drelu_cli.workflows.pretraining import spelled_start, with_digest

_ACTIVATION_LABELS = {
    "relu6": "ReLU6",
    "tanh": "tanh",
    "hardtanh": "hardtanh",
    "silu": "SiLU",
    "softplus": "softplus",
}


def effective(recipe: Recipe) -> Recipe:
    """`recipe` with every part bound: options checked, converted and filled in.

    Raises:
        UnknownName: an unknown part or option.
        BadValue: an option of the wrong type, or a cap penalty where there are no caps.
    """
    activation = _bound(ACTIVATIONS, recipe.activation)
    model = _bound(MODELS, recipe.model)
    capped = bool(learnable_caps(_made(activation)))
    lambda_ = _lambda(recipe, capped)
    phases = [_phase(phase, recipe, capped) for phase in _spelled_phases(recipe)]
    mapping = recipe.as_mapping()
    mapping["activation"] = _part(activation)
    mapping["model"] = {
        **_part(model),
        "placement": recipe.model.placement,
        **spelled_start(recipe.model),
        "normalize": _normalizes(recipe),
    }
    mapping["phase"] = phases
    mapping["penalty"] = {"lambda": lambda_}
    mapping["data"] = _data(recipe)
    return Recipe.from_mapping(mapping)


def _bound(parts: Registry, section: Activation | Model) -> Bound:
    """The part of a section; the section's own fields are among what may have been meant."""
    known = {*parts.options_of(section.name), *type(section).model_fields} - {"name"}
    for option in section.options:
        if option not in known:
            raise UnknownName.among(f"option of {parts.kind} {section.name}", option, known)
    return parts.bind(section.name, **section.options)


def _data(recipe: Recipe) -> dict[str, Any]:
    """`[data]` with the share of generated images filled in; none are no generated images."""
    section = recipe.data
    mapping = dict(recipe.as_mapping()["data"])
    if section.path is not None:
        # The store may be used from another folder; the path is not in the key.
        mapping["path"] = str(Path(section.path).expanduser().resolve())
    if section.generated is not None and section.generated_share is None:
        mapping["generated_share"] = facts(section.name).generated_share
    if section.generated is None and section.generated_share:
        raise BadValue(
            f"generated_share {section.generated_share:g} has nothing to draw from",
            hint="name the file: --generated images.npz, or [data] generated = ...",
        )
    if section.generated is None or section.generated_share == 0:
        for field in ("generated", "generated_share", "generated_digest"):
            mapping.pop(field, None)
    return mapping


def _normalizes(recipe: Recipe) -> bool:
    """Whether pixels are normalised: as stated, else as usual for these images."""
    stated = recipe.model.normalize
    return _usually_normalizes(recipe) if stated is None else stated


def _usually_normalizes(recipe: Recipe) -> bool:
    """The data set's default; pretrained weights bring the normalisation that they expect."""
    return recipe.model.pretrained is not None or facts(recipe.data.name).normalize


def _made(activation: Bound) -> nn.Module:
    """One module of the activation; errors of a third party's code are named as such."""
    try:
        made = activation(1)
    except DreluError:
        raise
    except Exception as problem:
        raise ModelError(
            f"activation {activation.name} failed: {type(problem).__name__}: {problem}",
            hint="an activation is called with its number of channels and returns a module",
        ) from problem
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"activation {activation.name} gave a {type(made).__name__}, not a torch.nn.Module",
            hint="an activation is called with its number of channels and returns a module",
        )
    return made


def fitted_to(recipe: Recipe, data: DataSplits, data_folder: Path) -> Recipe:
    """An effective recipe with what only files can tell, so that one training has one key.

    A limit on images that exceeds its split is dropped; generated images are found and
    get the digest of their content, as do the weights that the network starts from.

    Raises:
        DataError: the generated images are missing, damaged, or do not fit the data.
        CheckpointError: the pretrained weights are missing, damaged or unsafe.
    """
    changes: dict[str, Any] = {}
    for field, split in (("train_samples", data.train), ("validation_samples", data.validation)):
        limit = getattr(recipe.data, field)
        if limit is not None and limit >= len(split.labels):
            changes[field] = None
    if recipe.data.generated is not None:
        changes.update(_generated(recipe.data, data, data_folder))
    sections: dict[str, Any] = {"model": with_digest(recipe.model)}
    if changes:
        sections["data"] = recipe.data.model_copy(update=changes)
    return recipe.model_copy(update=sections)


def _generated(section: Data, data: DataSplits, folder: Path) -> dict[str, Any]:
    """Where the generated images are, absolute, and the digest of their content."""
    file = find_generated(section.generated or "", folder)
    found = open_generated(file, folder / CACHE, shape=data.shape, classes=data.classes)
    if section.generated_digest not in (None, found.digest):
        raise DataError(
            f"{file} has other images than the recipe was trained with: digest "
            f"{found.digest[:12]}, not {section.generated_digest[:12]}",
            hint="leave generated_digest away to train with these",
        )
    return {"generated": str(file), "generated_digest": found.digest}


def activation_of(recipe: Recipe) -> Bound:
    """The activation factory of an effective recipe."""
    return ACTIVATIONS.bind(recipe.activation.name, **recipe.activation.options)


def _part(bound: Bound) -> dict[str, Any]:
    return {"name": bound.name, **bound.identity["options"]}


def _lambda(recipe: Recipe, capped: bool) -> float:
    given = recipe.penalty.lambda_
    if not capped:
        if given:
            raise BadValue(
                f"lambda {given:g} has nothing to act on: activation {recipe.activation.name} "
                "has no learnable caps",
                hint="use --activation drelu, or leave --lambda away",
            )
        return 0.0
    return facts(recipe.data.name).lambda_ if given is None else given


def _spelled_phases(recipe: Recipe) -> list[Phase]:
    """`at` as the two phases it stands for."""
    out: list[Phase] = []
    for phase in recipe.phase:
        if phase.scheme != "at":
            out.append(phase)
            continue
        options = dict(_bound_scheme(phase, recipe).effective)
        length = options.pop("adversarial_epochs")
        rates = {"lr": phase.lr, "cap_lr": phase.cap_lr}
        out.append(Phase(scheme="natural", epochs=phase.epochs, **rates))
        out.append(Phase.model_validate({"scheme": "madry", "epochs": length, **rates, **options}))
    return out


def _bound_scheme(phase: Phase, recipe: Recipe) -> Bound:
    """The scheme with its options; its radius is the data set's where none is given."""
    options = phase.options
    if "eps" in SCHEMES.options_of(phase.scheme):
        options.setdefault("eps", facts(recipe.data.name).eps)
    return SCHEMES.bind(phase.scheme, **options)


def _phase(phase: Phase, recipe: Recipe, capped: bool) -> dict[str, Any]:
    train = recipe.train
    bound = _bound_scheme(phase, recipe)
    filled: dict[str, Any] = {
        "scheme": bound.name,
        "epochs": train.epochs if phase.epochs is None else phase.epochs,
        "lr": train.lr if phase.lr is None else phase.lr,
        **bound.identity["options"],
    }
    if capped:
        # Without learnable caps their rate changes nothing, so it stays out of the key.
        filled["cap_lr"] = train.cap_lr if phase.cap_lr is None else phase.cap_lr
    return filled


def label_of(recipe: Recipe) -> str:
    """The treatment's name in tables: AT, TRADES-6, D-ReLU-0.1, S-ReLU-0.5, AT + D-ReLU-0.1.

    Pixels that are treated in another way than is usual for the data set are named,
    `D-ReLU-0.1 (raw pixels)` or `(normalised)`. Where generated images are mixed in, that is the
    end: `TRADES-6 + generated`.
    """
    if recipe.report.label:
        return recipe.report.label
    parts = [part for part in (_scheme_label(recipe), _activation_label(recipe)) if part]
    label = " + ".join(parts) or "ReLU"
    placement = recipe.model.placement
    placed = label if placement == "head" else f"{label} ({placement})"
    if _normalizes(recipe) != _usually_normalizes(recipe):
        placed = f"{placed} ({'normalised' if _normalizes(recipe) else 'raw pixels'})"
    return placed if recipe.data.generated is None else f"{placed} + generated"


def _scheme_label(recipe: Recipe) -> str:
    names = [phase.scheme for phase in recipe.phase]
    if names == ["natural"]:
        return ""
    if names == ["natural", "madry"]:
        return "AT"
    return " then ".join(_phase_label(phase) for phase in recipe.phase)


def _phase_label(phase: Phase) -> str:
    if phase.scheme == "trades":
        return f"TRADES-{phase.options['beta']:g}"
    if phase.scheme == "sensitivity":
        return f"sens-{phase.options['weight']:g}"
    return {"madry": "Madry", "natural": "natural"}.get(phase.scheme, phase.scheme)


def _activation_label(recipe: Recipe) -> str:
    name, options = recipe.activation.name, recipe.activation.options
    if name == "relu":
        return ""
    if name == "drelu":
        return f"D-ReLU-{recipe.penalty.lambda_:g}"
    if name == "srelu":
        return f"S-ReLU-{options['cap']:g}"
    return _ACTIVATION_LABELS.get(name) or f"{name}{_given(name, options)}"


def _given(name: str, options: Mapping[str, Any]) -> str:
    """Options of a third party's activation that differ from its defaults, `:slope=2`."""
    defaults = ACTIVATIONS.options_of(name)
    told = [f"{key}={value}" for key, value in options.items() if defaults.get(key) != value]
    return f":{','.join(told)}" if told else ""


def name_of(recipe: Recipe) -> str:
    """A readable name: data set, architecture, label and seed, e.g. digits-dense-d-relu-1-s0."""
    label = re.sub(r"[^a-z0-9.]+", "-", label_of(recipe).lower()).strip("-")
    return f"{recipe.data.name}-{recipe.model.name}-{label}-s{recipe.train.seed}"


def scheme_of(recipe: Recipe) -> str:
    """The schemes of the phases, e.g. `natural+madry`."""
    return "+".join(phase.scheme for phase in recipe.phase)


def cap_of(recipe: Recipe) -> float | None:
    """The cap an activation starts from or is held at; None where it has none."""
    value: Mapping[str, Any] = recipe.activation.options
    return float(value["cap"]) if "cap" in value else None
