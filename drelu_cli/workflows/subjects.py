"""Models to be evaluated: from the registry, from a file, or from a user's own factory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import BadValue, ModelError, UnknownName
from drelu_cli.core.quantities import parse_part
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import load
from drelu_cli.models.build import check_input
from drelu_cli.models.checkpoints import load_into, read_weights, weights_digest
from drelu_cli.models.outside import architecture_digest, from_factory, wrap_normalised
from drelu_cli.runtime.provenance import provenance
from drelu_cli.store.connect import Store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective
from drelu_cli.workflows.files import WEIGHTS
from drelu_cli.workflows.fitting import build_model

_FILES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Outside:
    """How to read a model that is not in the registry.

    Attributes:
        architecture: a registered architecture (`dense:width=512`) or `package.module:factory`.
        activation: the activation of a registered architecture.
        placement: where it goes.
        dataset: the data set to attack on; None takes the checkpoint's own, else digits.
        mean: per channel, where normalisation is not inside the model; with `std`.
        std: per channel.
        label: the treatment's name in tables.
    """

    architecture: str | None = None
    activation: str = "relu"
    placement: str = "head"
    dataset: str | None = None
    data_path: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    label: str | None = None


class DataCache:
    """Data sets, each loaded once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loaded: dict[tuple[str, str | None], DataSplits] = {}

    @property
    def folder(self) -> Path:
        """Where data sets and their caches lie."""
        return self._context.data_folder

    def get(self, name: str, path: str | None) -> DataSplits:
        """The splits of a data set."""
        if (name, path) not in self._loaded:
            self._loaded[name, path] = load(name, self._context.data_folder, path=path)
        return self._loaded[name, path]


def find_records(
    references: Sequence[str], store: Store, outside: Outside, data: DataCache
) -> list[ModelRecord]:
    """The models meant by `references`; all of the registry where none is given.

    Raises:
        UnknownName: no models at all, or none with this name.
    """
    if references:
        return [_find(reference, store, outside, data) for reference in references]
    # Checkpoints of a training are attacked where they are named, or by a sweep.
    records = [record for record in store.models() if not record.is_checkpoint]
    if not records:
        raise UnknownName(
            f"no models in the registry {store.root}",
            hint="drelu train makes one; --store names another registry",
        )
    return records


def _find(reference: str, store: Store, outside: Outside, data: DataCache) -> ModelRecord:
    if _is_file(reference):
        return _registered(_file_record(reference, outside, data), store, outside)
    if from_outside(reference):
        return _registered(_factory_record(reference, outside, data), store, outside)
    told = [name for name, value in vars(outside).items() if value != getattr(Outside(), name)]
    if told:
        raise BadValue(
            f"{', '.join(told)}: only for models from outside, and '{reference}' is looked up in "
            "the registry",
            hint="give a .safetensors or .pt file, or package.module:factory",
        )
    return store.find_model(reference)


def from_outside(reference: str) -> bool:
    """Whether `reference` is a weights file or a factory, not a name of the registry."""
    return _is_file(reference) or ":" in reference


def _is_file(reference: str) -> bool:
    return Path(reference).suffix in _FILES


def _registered(record: ModelRecord, store: Store, outside: Outside) -> ModelRecord:
    """The record in the registry; a trained model's own weights file means that model."""
    for known in store.models():
        same = (known.weights_digest, known.dataset_digest) == (
            record.weights_digest,
            record.dataset_digest,
        )
        if known.source == "trained" and same and record.recipe.get("embedded"):
            return known
    stored = store.add_model(record)
    if outside.label and outside.label != stored.label:
        stored = store.relabel(stored.key, outside.label)
    return stored


def load_model(record: ModelRecord, data: DataCache, store: Store) -> nn.Module:
    """The model of a record, with its weights, on CPU.

    A trained model comes in evaluation mode; one from outside as its factory left it.

    Raises:
        CheckpointError: the file is missing, damaged or not the one that was registered.
    """
    if record.source == "trained":
        recipe = Recipe.from_mapping(record.recipe, where=f"recipe of {record.name}")
        path = store.model_dir(record.key) / WEIGHTS
        model = _with_weights(build_model(recipe, splits_of(record, data)), path).eval()
    else:
        outside = Outside(**{k: _tuples(v) for k, v in record.recipe["outside"].items()})
        model, _, _ = outside_model(record.recipe["reference"], outside, data)
    structure = record.recipe.get("structure")
    if structure is not None and structure != architecture_digest(model):
        raise ModelError(
            f"the code of {record.name} has changed since it was registered",
            hint="name it again (its file, or package.module:factory) to register it as it is now",
        )
    if weights_digest(model) != record.weights_digest:
        raise ModelError(
            f"the weights of {record.name} are not the ones that were registered",
            hint="they changed since; register the model again under this store, or remove it: "
            f"drelu gc --remove {record.name}",
        )
    return model


def splits_of(record: ModelRecord, data: DataCache) -> DataSplits:
    """The data set a model belongs to; refuses one whose content has changed.

    Raises:
        ModelError: the data on disk are not the data the model was registered with.
    """
    if record.source == "trained":
        section = record.recipe.get("data", {})
        path = section.get("path")
    else:
        path = record.recipe["outside"].get("data_path")
    splits = data.get(record.dataset, path)
    if splits.digest != record.dataset_digest:
        raise ModelError(
            f"data set {record.dataset} has changed since {record.name} was registered",
            hint="give the folder with the original data (--data-dir)",
        )
    return splits


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _with_weights(model: nn.Module, path: Path) -> nn.Module:
    state, _ = read_weights(path)
    load_into(model, state, where=str(path))
    return model


def _file_record(reference: str, outside: Outside, data: DataCache) -> ModelRecord:
    path = Path(reference)
    if not path.is_file():
        raise UnknownName(
            f"there is no file '{reference}'", hint="is the path right? see `drelu list`"
        )
    return _outside_record(str(path.resolve()), "file", path.stem, outside, data)


def _factory_record(reference: str, outside: Outside, data: DataCache) -> ModelRecord:
    first, second = (weights_digest(from_factory(reference)) for _ in range(2))
    if first != second:
        raise ModelError(
            f"{reference} gives other weights at every call",
            hint="let it load a checkpoint, or seed its own generator: results are stored by "
            "weights",
        )
    return _outside_record(reference, "factory", reference.partition(":")[2], outside, data)


def outside_model(
    reference: str, outside: Outside, data: DataCache
) -> tuple[nn.Module, DataSplits, Outside]:
    """The model, its data, and `outside` with the data set that was found."""
    if _is_file(reference):
        model, found = _from_file(Path(reference), outside, data)
    else:
        model, found = from_factory(reference), _with_data(outside, "digits", None)
    if outside.mean is not None and outside.std is not None:
        model = wrap_normalised(model, outside.mean, outside.std)
    return model, data.get(found.dataset or "digits", found.data_path), found


def _with_data(outside: Outside, dataset: str, path: str | None) -> Outside:
    """`outside` with this data set where it names none."""
    if outside.dataset is not None:
        return outside
    return replace(outside, dataset=dataset, data_path=path)


def _from_file(path: Path, outside: Outside, data: DataCache) -> tuple[nn.Module, Outside]:
    state, metadata = read_weights(path)
    if outside.architecture is None and "recipe" in metadata:
        recipe = Recipe.model_validate_json(metadata["recipe"])
        found = _with_data(outside, recipe.data.name, recipe.data.path)
        model = build_model(recipe, data.get(found.dataset or "digits", found.data_path))
    else:
        found = _with_data(outside, "digits", None)
        splits = data.get(found.dataset or "digits", found.data_path)
        model = _architecture(path, outside, splits)
    load_into(model, state, where=str(path))
    return model.eval(), found


def _architecture(path: Path, outside: Outside, splits: DataSplits) -> nn.Module:
    if outside.architecture is None:
        raise BadValue(
            f"{path} does not say which architecture its weights belong to",
            hint="--model dense, --model shallow_cnn, or --model package.module:factory",
        )
    name, options = parse_part(outside.architecture)
    if ":" in name:
        return from_factory(name)
    mapping = {
        "model": {"name": name, "placement": outside.placement, **options},
        "activation": outside.activation,
    }
    return build_model(effective(Recipe.from_mapping(mapping, where="--model")), splits)


def _outside_record(
    reference: str, source: Any, name: str, outside: Outside, data: DataCache
) -> ModelRecord:
    model, splits, found = outside_model(reference, outside, data)
    weights = weights_digest(model)  # before a forward pass, which some models let change them
    classes = check_input(model, splits.shape)
    if classes != splits.classes:
        raise ModelError(
            f"{reference} gives {classes} logits, data set {splits.test.name} has "
            f"{splits.classes} classes",
            hint="is this the data set that the model was trained on? (--dataset)",
        )
    structure = architecture_digest(model)
    identity = {
        "record": "outside",
        "architecture": structure,
        "weights": weights,
        "data": splits.digest,
    }
    path = found.data_path and str(Path(found.data_path).expanduser().resolve())
    described = {k: v for k, v in vars(replace(found, data_path=path)).items() if v is not None}
    return ModelRecord(
        key=digest_of(identity),
        name=name,
        label=outside.label or name,
        source=source,
        dataset=splits.test.name,
        dataset_digest=splits.digest,
        architecture=outside.architecture or name,
        activation=outside.activation if outside.architecture else "own",
        placement=outside.placement if outside.architecture else "own",
        scheme="outside",
        lambda_=None,
        cap=None,
        seed=None,
        weights_digest=weights,
        recipe={
            "reference": reference,
            "structure": structure,
            "embedded": source == "file" and outside.architecture is None,
            "outside": described,
        },
        summary={},
        provenance=provenance("cpu"),
    )
