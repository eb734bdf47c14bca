"""Which lambda stands for D-ReLU: chosen on validation data, never on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import ModelRecord
from drelu_cli.workflows.cells import family_of

VALIDATION, ADAPTIVE = "validation", "adaptive"
RULES = (VALIDATION, ADAPTIVE)
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
        score: what it was chosen by (fraction): mean PGD-10 accuracy on validation data, or
            the mean of the adaptive column on test data.
        rule: `validation` or `adaptive`.
        keys: the models it was chosen from, by key.
    """

    dataset: str
    architecture: str
    label: str
    lambda_: float
    candidates: int
    score: float
    rule: str = VALIDATION
    keys: frozenset[str] = frozenset()

    @property
    def sentence(self) -> str:
        """What a reader must know about this choice."""
        if self.rule == ADAPTIVE:
            return (
                f"{self.dataset} {self.architecture}: {self.label} is selected of "
                f"{self.candidates} lambdas by the adaptive column ({100 * self.score:.2f} %, "
                "clean within 1 point of the best on validation data). That column is measured on "
                "the test images of the table: read it as the best of so many."
            )
        return (
            f"{self.dataset} {self.architecture}: {self.label} is selected of {self.candidates} "
            f"lambdas on validation data (PGD-10 {100 * self.score:.2f} %, clean within 1 point "
            "of the best). PGD selects the most masked net: this is no evidence of robustness."
        )


def check_rule(rule: str) -> None:
    """Refuses an unknown rule, and one that this version does not have.

    Raises:
        UnknownName: unknown rule.
    """
    if rule not in RULES:
        raise UnknownName.among("selection rule", rule, RULES)


def select_lambda(
    records: Sequence[ModelRecord],
    labels: Mapping[str, str],
    adaptive: Mapping[str, float | None] | None = None,
) -> list[Selected]:
    """The highest PGD-10 accuracy among lambdas within 1 point of the best clean accuracy.

    Both are measured on validation images and averaged over seeds. Only what the paper does
    takes part: learnable caps in the head, natural training. Trainings that differ in more than
    lambda and seed are different candidates' lists; the longest list of a data set and
    architecture is chosen from.

    Args:
        records: models of a comparison.
        labels: label by model key, as the comparison shows it.
        adaptive: the adaptive column by model key: select by it instead of by PGD-10.

    Raises:
        UnknownName: selection by the adaptive column, and some candidate has none.
    """
    families: dict[tuple[str, str], dict[str, list[ModelRecord]]] = {}
    for record in filter(_takes_part, records):
        place = (record.dataset, record.architecture)
        family = family_of(record, without=("train.seed", "penalty.lambda"))
        families.setdefault(place, {}).setdefault(family, []).append(record)
    found = []
    for (dataset, architecture), lists in sorted(families.items()):
        longest = max(lists.values(), key=lambda group: len({r.lambda_ for r in group}))
        found.append(_best(dataset, architecture, longest, labels, adaptive))
    return found


def adaptive_column(per_model: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The adaptive column by model, under one threat per data set: that most models have it for.

    Args:
        per_model: rows with model_key, dataset, norm, eps and adaptive, as `column_rows` gives.
    """
    counts: dict[tuple[str, str, float], int] = {}
    for row in per_model:
        if row["adaptive"] is not None:
            place = (row["dataset"], row["norm"], row["eps"])
            counts[place] = counts.get(place, 0) + 1
    best: dict[str, tuple[str, str, float]] = {}
    for place in sorted(counts, key=lambda one: counts[one]):
        best[place[0]] = place
    return {
        row["model_key"]: row["adaptive"]
        for row in per_model
        if best.get(row["dataset"]) == (row["dataset"], row["norm"], row["eps"])
    }


def not_selected(selected: Sequence[Selected], labels: Mapping[str, str]) -> set[str]:
    """Keys of the candidates that another lambda stands for."""
    return {key for one in selected for key in one.keys if labels[key] != one.label}


def _takes_part(record: ModelRecord) -> bool:
    scored = "validation_clean" in record.summary and "validation_pgd10" in record.summary
    method = (record.scheme, record.placement) == ("natural", "head")
    return record.lambda_ is not None and scored and method and not record.is_checkpoint


def _best(
    dataset: str,
    architecture: str,
    records: Sequence[ModelRecord],
    labels: Mapping[str, str],
    adaptive: Mapping[str, float | None] | None,
) -> Selected:
    by_lambda: dict[float, list[ModelRecord]] = {}
    for record in records:
        by_lambda.setdefault(float(record.lambda_ or 0.0), []).append(record)
    clean = {lambda_: _mean(group, "validation_clean") for lambda_, group in by_lambda.items()}
    rule = VALIDATION
    if adaptive is not None:
        scores, rule = _adaptive_scores(records, adaptive), ADAPTIVE
        pgd = {
            one: mean(scores[record.key] for record in group) for one, group in by_lambda.items()
        }
    else:
        pgd = {one: _mean(group, "validation_pgd10") for one, group in by_lambda.items()}
    floor = max(clean.values()) - _CLEAN_MARGIN
    # The tolerance is for float noise in the subtraction, not for the rule.
    allowed = [lambda_ for lambda_ in by_lambda if clean[lambda_] >= floor - 1e-12]
    chosen = max(allowed, key=lambda lambda_: pgd[lambda_])
    label = labels[by_lambda[chosen][0].key]
    keys = frozenset(record.key for record in records)
    score = pgd[chosen]
    return Selected(dataset, architecture, label, chosen, len(by_lambda), score, rule, keys)


def _adaptive_scores(
    records: Sequence[ModelRecord], adaptive: Mapping[str, float | None]
) -> dict[str, float]:
    """The adaptive column of every candidate."""
    scores = {record.key: adaptive.get(record.key) for record in records}
    lacking = [record.name for record in records if scores[record.key] is None]
    if lacking:
        raise UnknownName(
            f"{', '.join(lacking)}: no adaptive column to select by",
            hint="drelu attack --suite adaptive runs what is missing",
        )
    return {key: score for key, score in scores.items() if score is not None}


def _mean(records: Sequence[ModelRecord], score: str) -> float:
    return mean(float(record.summary[score]) for record in records)
