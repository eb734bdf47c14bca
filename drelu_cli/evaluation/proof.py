"""Adversarial points that prove an upper bound on robust accuracy, and what makes them valid.

Whoever holds the points needs no trust in the attack that found them: ball, box, labels and
predictions can be checked again by anyone (docs/verify.md has a program that does).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.evaluation.judge import TOLERANCE, distance, predict
from drelu_cli.runtime.modes import evaluation_mode

Indices = NDArray[np.int64]
_PART = 512


@dataclass(frozen=True, eq=False)
class Proof:
    """Adversarial points of one model under one threat, with what is needed to check them.

    Attributes:
        x_adv: (M, C, H, W) float32, the points.
        clean: (M, C, H, W) uint8, the images they belong to, as the data set has them.
        index: (M,) int64, their indices in the data set's test split.
        label: (M,) int64.
        predicted: (M,) int64, the class that the model gave the point.
        attack: (M,) text, what found it: `apgd_ce:steps=200`.
        clean_wrong: (W,) int64, samples of the list that the model misclassifies as they are.
        list: (N,) int64, all samples that the bound is about, in their order.
        norm: `linf` or `l2`.
        eps: radius in units of pixel values in [0, 1].
        dataset: registered name.
        dataset_digest: of its content.
        model: the model's name.
        weights_digest: of its weights.
        version: of drelu.
    """

    x_adv: NDArray[np.float32]
    clean: NDArray[np.uint8]
    index: Indices
    label: Indices
    predicted: Indices
    attack: NDArray[np.str_]
    clean_wrong: Indices
    list: Indices
    norm: Norm
    eps: float
    dataset: str
    dataset_digest: str
    model: str
    weights_digest: str
    version: str

    @property
    def threat(self) -> ThreatModel:
        """Norm and radius."""
        return ThreatModel(self.norm, self.eps)

    def points(self, selection: NDArray[np.bool_]) -> Proof:
        """The proof with some of its points, (M,) mask."""
        per_point = ("x_adv", "clean", "index", "label", "predicted", "attack")
        chosen = {name: getattr(self, name)[selection] for name in per_point}
        return Proof(**{**vars(self), **chosen})


@dataclass(frozen=True)
class Failure:
    """A sample of the file that proves nothing.

    Attributes:
        index: of the sample, as the file has it.
        why: one of the reasons in docs/verify.md.
    """

    index: int
    why: str


@dataclass(frozen=True)
class Checked:
    """What a file proves.

    Attributes:
        failures: in the order of the file, points first; the first reason of each.
        valid: points that prove that their sample is not robust.
        valid_clean_wrong: samples that are misclassified as they are.
        samples: length of the list.
    """

    failures: tuple[Failure, ...]
    valid: int
    valid_clean_wrong: int
    samples: int

    @property
    def robust_accuracy_at_most(self) -> float:
        """The share of the list that is neither misclassified nor broken by a valid point."""
        return 1.0 - (self.valid + self.valid_clean_wrong) / self.samples


def check(
    proof: Proof, model: nn.Module, images: Tensor, labels: Tensor, device: torch.device
) -> Checked:
    """Judges every sample of a file from nothing but the model and the data set.

    Args:
        proof: as read from the file.
        model: logits from images in [0, 1], on `device`; judged in evaluation mode.
        images: (T, C, H, W) uint8, the data set's test split, of the shape of `proof.clean`.
        labels: (T,) int64.
        device: where the model is.
    """
    with evaluation_mode(model):
        points = list(_points(proof, model, images, labels, device))
        clean = list(_clean_wrong(proof, model, images, labels, device))
    failures = [
        *(Failure(int(index), why) for index, why in zip(proof.index, points, strict=True) if why),
        *(Failure(int(i), why) for i, why in zip(proof.clean_wrong, clean, strict=True) if why),
    ]
    return Checked(tuple(failures), points.count(""), clean.count(""), len(proof.list))


def still_broken(proof: Proof, model: nn.Module, device: torch.device) -> NDArray[np.bool_]:
    """(M,) whether the file's own points lie inside ball and box and are misclassified."""
    with evaluation_mode(model):
        inside = _in_ball(proof) & _in_box(proof)
        wrong = _predicted(model, torch.from_numpy(proof.x_adv), device) != proof.label
    kept: NDArray[np.bool_] = inside & np.asarray(wrong, dtype=np.bool_)
    return kept


def _points(
    proof: Proof, model: nn.Module, images: Tensor, labels: Tensor, device: torch.device
) -> Iterator[str]:
    """Per point why it proves nothing; empty where it is valid."""
    known = (proof.index >= 0) & (proof.index < len(labels))
    rows = torch.from_numpy(np.where(known, proof.index, 0))
    real = images[rows].numpy()
    clean = _predicted(model, _as_float(proof.clean), device)
    adversarial = _predicted(model, torch.from_numpy(proof.x_adv), device)
    reasons = (
        ("no test image has this index", ~known),
        ("a sample twice", ~_first(proof.index)),
        ("not in the list of samples", ~np.isin(proof.index, proof.list)),
        ("the clean image is not the data set's", (real != proof.clean).any(axis=(1, 2, 3))),
        ("the label is not the data set's", labels[rows].numpy() != proof.label),
        ("the point is outside the box", ~_in_box(proof)),
        ("the point is outside the ball", ~_in_ball(proof)),
        ("the clean image is misclassified", clean != proof.label),
        ("the point is classified correctly", adversarial == proof.label),
    )
    for place in range(len(proof.index)):
        yield next((why for why, failed in reasons if failed[place]), "")


def _clean_wrong(
    proof: Proof, model: nn.Module, images: Tensor, labels: Tensor, device: torch.device
) -> Iterator[str]:
    """The same for samples that are said to be misclassified as they are."""
    known = (proof.clean_wrong >= 0) & (proof.clean_wrong < len(labels))
    rows = torch.from_numpy(np.where(known, proof.clean_wrong, 0))
    predicted = _predicted(model, images[rows].float() / 255.0, device)
    reasons = (
        ("no test image has this index", ~known),
        ("a sample twice", ~_first(proof.clean_wrong)),
        ("not in the list of samples", ~np.isin(proof.clean_wrong, proof.list)),
        ("the clean image is classified correctly", predicted == labels[rows].numpy()),
    )
    for place in range(len(proof.clean_wrong)):
        yield next((why for why, failed in reasons if failed[place]), "")


def _first(index: Indices) -> NDArray[np.bool_]:
    """Whether no earlier entry has the same index."""
    first = np.zeros(len(index), dtype=np.bool_)
    first[np.unique(index, return_index=True)[1]] = True
    return first


def _as_float(clean: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(clean).float() / 255.0


def _in_ball(proof: Proof) -> NDArray[np.bool_]:
    if not len(proof.index):
        return np.zeros(0, dtype=np.bool_)
    reach = distance(_as_float(proof.clean), torch.from_numpy(proof.x_adv), proof.norm).numpy()
    return np.asarray(reach <= proof.eps + TOLERANCE, dtype=np.bool_)  # NaN is not inside


def _in_box(proof: Proof) -> NDArray[np.bool_]:
    inside = (proof.x_adv >= -TOLERANCE) & (proof.x_adv <= 1.0 + TOLERANCE)
    return np.asarray(inside.all(axis=(1, 2, 3)), dtype=np.bool_)


def _predicted(model: nn.Module, x: Tensor, device: torch.device) -> Indices:
    # In parts: the points of a whole test split need not fit onto a GPU at once.
    parts = [predict(model, part.to(device)).cpu() for part in torch.split(x, _PART) if len(part)]
    found: Indices = torch.cat(parts).numpy() if parts else np.zeros(0, dtype=np.int64)
    return found
