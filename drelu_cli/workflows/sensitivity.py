"""The sensitivity of stored models as columns of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from drelu_cli.core.records import ModelRecord
from drelu_cli.report.tables import MEASURES, TREATMENT
from drelu_cli.runtime.devices import pick_device
from drelu_cli.store.connect import Store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.measure import sensitivity_of
from drelu_cli.workflows.subjects import DataCache, load_model, splits_of


def sensitivity_rows(
    store: Store, frame: pd.DataFrame, labels: Mapping[str, str], context: Context
) -> pd.DataFrame:
    """One row per training of `frame`: TREATMENT, eps, samples, n_seeds and MEASURES.

    Means over seeds; NaN where a seed's model has no interval bounds.

    Args:
        store: read, and written where a model was not measured yet.
        frame: `model_key`, `dataset` and `architecture` of the models.
        labels: label by model key.
        context: data folder and device, for what is to be measured.

    Raises:
        DreluError: a model or its data cannot be read.
    """
    data = DataCache(context)
    records = {record.key: record for record in store.models()}
    rows = []
    models = frame[["model_key", "dataset", "architecture"]].drop_duplicates("model_key")
    for key, dataset, architecture in models.itertuples(index=False, name=None):
        place = dict(zip(TREATMENT, (dataset, architecture, labels[key]), strict=True))
        rows.append({**place, **_known(store, records[key], data, context)})
    table = pd.DataFrame(rows).astype(dict.fromkeys(MEASURES, float))
    means = {name: (name, _mean_of_all) for name in MEASURES}
    return (
        table.groupby(TREATMENT, sort=False)
        .agg(eps=("eps", "first"), samples=("samples", "first"), n_seeds=("eps", "size"), **means)
        .reset_index()
    )


def _known(
    store: Store, record: ModelRecord, data: DataCache, context: Context
) -> Mapping[str, Any]:
    """The stored measure; measured and stored where there is none."""
    stored: Mapping[str, Any] | None = record.summary.get("sensitivity")
    if stored is not None:
        return stored
    device = pick_device(context.device)
    model = load_model(record, data, store).eval().to(device)
    found = sensitivity_of(model, splits_of(record, data), device)
    store.annotate(record.key, "sensitivity", found)
    return found


def _mean_of_all(values: pd.Series[float]) -> float:
    return float(values.mean(skipna=False))
