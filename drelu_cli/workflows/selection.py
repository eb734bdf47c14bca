"""Which lambda stands for D-ReLU: chosen on validation data, never on the test split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean

from drelu_cli.core.errors import NotThereYet, UnknownName
from drelu_cli.core.records import ModelRecord

RULES = ("validation", "adaptive")
_CLEAN_MARGIN = 0.01


@dataclass(frozen=True)
class Selected:
    """The chosen label of one data set and architecture.

    Attributes:
        dataset: data set.
        architecture: architecture.
        label: the chosen treatment, e.g. `D-ReLU-0.1`.
        lambda_: its lambda.
        candidates: how many lambdas there were.
        pgd10: its mean PGD-10 accuracy on validation data (fraction).
    """

    dataset: str
    architecture: str
    label: str
    lambda_: float
    candidates: int
    pgd10: float

    @property
    def sentence(self) -> str:
        """What a reader must know about this choice."""
        return (
            f"{self.dataset} {self.architecture}: {self.label} is selected of {self.candidates} "
            f"lambdas on validation data (PGD-10 {100 * self.pgd10:.2f} %, clean within 1 point "
            "of the best). PGD selects the most masked net: this is no evidence of robustness."
        )


def check_rule(rule: str) -> None:
    """Refuses an unknown rule, and one that this version does not have.

    Raises:
        UnknownName: unknown rule.
        NotThereYet: `adaptive`, which needs the adaptive suite.
    """
    if rule not in RULES:
        raise UnknownName.among("selection rule", rule, RULES)
    if rule == "adaptive":
        raise NotThereYet(
            "selection by the adaptive column is not there yet", hint="--select validation"
        )


def select_lambda(records: Iterable[ModelRecord]) -> list[Selected]:
    """The highest PGD-10 accuracy among lambdas within 1 point of the best clean accuracy.

    Both are measured on validation images and averaged over seeds. Models without learnable
    caps, or without these measurements, do not take part.
    """
    scored = [record for record in records if record.lambda_ is not None and _scored(record)]
    scored.sort(key=lambda record: (record.dataset, record.architecture, record.label))
    found = []
    for (dataset, architecture), group in groupby(scored, lambda r: (r.dataset, r.architecture)):
        found.append(_best(dataset, architecture, list(group)))
    return found


def _scored(record: ModelRecord) -> bool:
    return "validation_clean" in record.summary and "validation_pgd10" in record.summary


def _best(dataset: str, architecture: str, records: Sequence[ModelRecord]) -> Selected:
    by_label = {label: list(group) for label, group in groupby(records, lambda r: r.label)}
    clean = {label: _mean(group, "validation_clean") for label, group in by_label.items()}
    pgd = {label: _mean(group, "validation_pgd10") for label, group in by_label.items()}
    floor = max(clean.values()) - _CLEAN_MARGIN
    # The tolerance is for float noise in the subtraction, not for the rule.
    allowed = [label for label in by_label if clean[label] >= floor - 1e-12]
    chosen = max(allowed, key=lambda label: pgd[label])
    lambda_ = by_label[chosen][0].lambda_
    return Selected(
        dataset, architecture, chosen, float(lambda_ or 0.0), len(by_label), pgd[chosen]
    )


def _mean(records: Sequence[ModelRecord], score: str) -> float:
    return mean(float(record.summary[score]) for record in records)
