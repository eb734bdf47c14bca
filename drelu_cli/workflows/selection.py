"""Which lambda stands for D-ReLU: chosen on validation data, never on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from drelu_cli.core.errors import NotThereYet, UnknownName
from drelu_cli.core.records import ModelRecord
from drelu_cli.workflows.cells import family_of

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


def select_lambda(records: Sequence[ModelRecord], labels: Mapping[str, str]) -> list[Selected]:
    """The highest PGD-10 accuracy among lambdas within 1 point of the best clean accuracy.

    Both are measured on validation images and averaged over seeds. Only what the paper does
    takes part: learnable caps in the head, natural training. Trainings that differ in more than
    lambda and seed are different candidates' lists; the longest list of a data set and
    architecture is chosen from.

    Args:
        records: models of a comparison.
        labels: label by model key, as the comparison shows it.
    """
    families: dict[tuple[str, str], dict[str, list[ModelRecord]]] = {}
    for record in filter(_takes_part, records):
        place = (record.dataset, record.architecture)
        family = family_of(record, without=("train.seed", "penalty.lambda"))
        families.setdefault(place, {}).setdefault(family, []).append(record)
    found = []
    for (dataset, architecture), lists in sorted(families.items()):
        longest = max(lists.values(), key=lambda group: len({r.lambda_ for r in group}))
        found.append(_best(dataset, architecture, longest, labels))
    return found


def _takes_part(record: ModelRecord) -> bool:
    scored = "validation_clean" in record.summary and "validation_pgd10" in record.summary
    method = (record.scheme, record.placement) == ("natural", "head")
    return record.lambda_ is not None and scored and method


def _best(
    dataset: str,
    architecture: str,
    records: Sequence[ModelRecord],
    labels: Mapping[str, str],
) -> Selected:
    by_lambda: dict[float, list[ModelRecord]] = {}
    for record in records:
        by_lambda.setdefault(float(record.lambda_ or 0.0), []).append(record)
    clean = {lambda_: _mean(group, "validation_clean") for lambda_, group in by_lambda.items()}
    pgd = {lambda_: _mean(group, "validation_pgd10") for lambda_, group in by_lambda.items()}
    floor = max(clean.values()) - _CLEAN_MARGIN
    # The tolerance is for float noise in the subtraction, not for the rule.
    allowed = [lambda_ for lambda_ in by_lambda if clean[lambda_] >= floor - 1e-12]
    chosen = max(allowed, key=lambda lambda_: pgd[lambda_])
    label = labels[by_lambda[chosen][0].key]
    return Selected(dataset, architecture, label, chosen, len(by_lambda), pgd[chosen])


def _mean(records: Sequence[ModelRecord], score: str) -> float:
    return mean(float(record.summary[score]) for record in records)
