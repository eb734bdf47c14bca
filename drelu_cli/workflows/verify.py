"""`drelu verify`: whether a file of adversarial points proves what it says, for this model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from drelu_cli.core.errors import BadValue
from drelu_cli.data import DATASETS
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import as_float, sample_order
from drelu_cli.evaluation.preflight import OVERRIDES, attackable, preflight
from drelu_cli.evaluation.proof import Checked, Proof, check
from drelu_cli.evaluation.proof_file import read_proof
from drelu_cli.models.checkpoints import weights_digest
from drelu_cli.models.contract import shape_text
from drelu_cli.runtime.devices import pick_device
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.subjects import (
    DataCache,
    Outside,
    find_records,
    from_outside,
    load_model,
    outside_model,
    splits_of,
)

_PREFLIGHT_SAMPLES = 16


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        file: the path.
        model: as the user named it.
        proof: what the file says.
        checked: what it proves.
        warnings: sentences about what differs without making a point invalid.
    """

    file: Path
    model: str
    proof: Proof
    checked: Checked
    warnings: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, int]:
        """How many samples fail, by reason."""
        return dict(Counter(failure.why for failure in self.checked.failures))

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu verify`; the accuracy is a fraction."""
        return {
            "file": str(self.file),
            "model": self.model,
            "norm": self.proof.norm,
            "eps": self.proof.eps,
            "points": len(self.proof.index),
            "valid": self.checked.valid,
            "clean_wrong": len(self.proof.clean_wrong),
            "valid_clean_wrong": self.checked.valid_clean_wrong,
            "failures": [vars(failure).copy() for failure in self.checked.failures],
            "samples": self.checked.samples,
            "robust_accuracy_at_most": self.checked.robust_accuracy_at_most,
            "warnings": list(self.warnings),
        }


def verify(
    file: Path,
    model: str,
    *,
    outside: Outside | None = None,
    context: Context | None = None,
) -> VerifyReport:
    """Checks every sample of a file by the model and the data set alone; reads no outcomes.

    Args:
        file: written by `drelu attack --save-adversarial`.
        model: a name or key prefix of the registry, a weights file, or
            `package.module:factory`. Only the first needs a store.
        outside: how to read a model that is not in the registry; its data set is the file's
            where none is given.
        context: folders and device.

    Raises:
        BadValue: not such a file, or images of another size than the data set's.
        DreluError: whatever is wrong with model, data, device or store.
    """
    context = context or Context()
    device = pick_device(context.device)
    proof = read_proof(file)
    network, splits = _subject(model, proof, outside or Outside(), context)
    if proof.clean.shape[1:] != splits.shape:
        raise BadValue(
            f"{file} holds images of {shape_text(proof.clean.shape[1:])}, "
            f"{splits.test.name} has {shape_text(splits.shape)}",
            hint=f"the points were made on {proof.dataset} (--dataset)",
        )
    network = network.to(device)
    few = as_float(splits.test.images[:_PREFLIGHT_SAMPLES]).to(device)
    # What an attack may be told to go on with does not make its points less valid.
    findings = preflight(network, few, splits.classes, allow=OVERRIDES)
    judged = attackable(network, findings)
    checked = check(proof, judged, splits.test.images, splits.test.labels, device)
    noticed = tuple(finding.detail for finding in findings)
    warnings = (*_warnings(proof, network, splits), *noticed)
    return VerifyReport(file, model, proof, checked, warnings)


def _subject(
    model: str, proof: Proof, outside: Outside, context: Context
) -> tuple[nn.Module, DataSplits]:
    """The model and its data set; only a name of the registry is looked up in a store."""
    data = DataCache(context)
    if from_outside(model):
        known = proof.dataset in DATASETS and "path" not in DATASETS.options_of(proof.dataset)
        if outside.dataset is None and known:
            outside = replace(outside, dataset=proof.dataset)
        network, splits, _ = outside_model(model, outside, data)
        return network, splits
    with open_store(context.store, create=False) as store:
        (record,) = find_records([model], store, outside, data)
        return load_model(record, data, store), splits_of(record, data)


def _warnings(proof: Proof, network: nn.Module, splits: DataSplits) -> tuple[str, ...]:
    found = []
    if weights_digest(network) != proof.weights_digest:
        found.append(
            f"these are not the weights that the points were made for ({proof.model}): points "
            "that are valid here break this model all the same"
        )
    if splits.digest != proof.dataset_digest:
        found.append(
            f"this {splits.test.name} is not the data set the points were made on "
            f"({proof.dataset}); every image and label of a point was compared"
        )
    if tuple(proof.list.tolist()) != sample_order(splits.test)[: len(proof.list)]:
        found.append(
            "the list of samples is not the first of drelu's fixed order: the bound is about "
            "these samples, and someone chose them"
        )
    return tuple(found)
