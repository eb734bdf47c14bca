"""Everything stored as frames and files, for people and other programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from drelu_cli.core.errors import DreluError, StoreError, UnknownName
from drelu_cli.core.records import ModelRecord, State
from drelu_cli.store.archive import Store
from drelu_cli.store.rows import MODEL_COLUMNS, of_evaluation, of_model

EXPORTS = ("outcomes", "evaluations", "models", "examinations", "certificates")
FORMATS = ("csv", "json", "parquet")

_EVALUATION_COLUMNS = (
    "evaluation", "model_key", "name", "dataset", "attack", "options", "norm", "eps",
    "attack_seed", "engine", "cascade",
)  # fmt: skip
_OUTCOME_COLUMNS = (
    *_EVALUATION_COLUMNS, "sample", "state", "clean_pred", "adv_pred", "distance", "forwards",
    "backwards",
)  # fmt: skip
_THREAT_COLUMNS = (
    "model_key", "name", "weights_digest", "dataset_digest", "norm", "eps",
)  # fmt: skip
_EXAMINATION_COLUMNS = (
    "examination", *_THREAT_COLUMNS, "attack_seed", "sample_list", "samples", "verdict",
    "complete", "evidence", "remedy", "control", "notes", "created",
)  # fmt: skip
_CERTIFICATE_COLUMNS = (
    *_THREAT_COLUMNS, "method", "version", "samples", "proven", "seconds", "created",
    "proven_samples",
)  # fmt: skip
_STATE_WORDS = np.array([state.name.lower().replace("_", " ") for state in State])


def export_frame(store: Store, what: str = "outcomes") -> pd.DataFrame:
    """Everything stored of one kind, a word of EXPORTS.

    Raises:
        UnknownName: another word.
    """
    if what not in _TABLES:
        raise UnknownName.among("export", what, EXPORTS)
    return _TABLES[what](store)


def write_export(
    frame: pd.DataFrame,
    path: Path | None,
    format: str,  # noqa: A002  (the word of the command line)
) -> str | None:
    """Writes a frame as `csv`, `json` (a list of rows, null for NaN) or `parquet`.

    Args:
        frame: what to write, at full precision.
        path: the file, replaced as a whole when it is complete; None returns the text.
        format: one of FORMATS.

    Raises:
        UnknownName: another format.
        DreluError: parquet without pyarrow or without a file.
        StoreError: the file cannot be written.
    """
    if format not in FORMATS:
        raise UnknownName.among("export format", format, FORMATS)
    if format == "parquet":
        _write_parquet(frame, path)
        return None
    text = frame.to_csv(index=False) if format == "csv" else _as_json(frame)
    if path is None:
        return text
    _replace(path, text.encode("utf-8"))
    return None


def _models_export(store: Store) -> pd.DataFrame:
    models = [_model_export(store, model) for model in store.models()]
    return pd.DataFrame(models) if models else pd.DataFrame(columns=pd.Index(MODEL_COLUMNS))


def _model_export(store: Store, model: ModelRecord) -> dict[str, Any]:
    return {
        **of_model(model),
        "source": model.source,
        "dataset_digest": model.dataset_digest,
        "weights_digest": model.weights_digest,
        **{f"summary.{name}": value for name, value in model.summary.items()},
        "recipe": json.dumps(dict(model.recipe), sort_keys=True),
        "provenance": json.dumps(dict(model.provenance), sort_keys=True),
        "findings": json.dumps([[f.code, f.detail] for f in store.findings(model.key)]),
    }


def _evaluation_export(store: Store) -> pd.DataFrame:
    names = {model.key: model.name for model in store.models()}
    rows = []
    for stored in store.evaluations():
        found = store.columns(stored.key)
        rows.append(
            {
                **of_evaluation(stored),
                "name": names.get(stored.evaluation.model_key, ""),
                "samples": stored.samples,
                **{
                    word: int((found.state == state).sum())
                    for state, word in zip(State, _STATE_WORDS, strict=True)
                },
                "forwards": int(found.forwards.sum()),
                "backwards": int(found.backwards.sum()),
                "seconds": stored.seconds,
                "created": stored.created,
                "effective": json.dumps(dict(stored.evaluation.effective), sort_keys=True),
                "warnings": "; ".join(stored.evaluation.warnings),
                "provenance": json.dumps(dict(stored.evaluation.provenance), sort_keys=True),
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=pd.Index(_EVALUATION_COLUMNS))


def _outcome_export(store: Store) -> pd.DataFrame:
    names = {model.key: model.name for model in store.models()}
    parts = []
    for stored in store.evaluations():
        found = store.columns(stored.key)
        if not len(found):
            continue
        part = pd.DataFrame(
            {
                "sample": found.sample,
                "state": _STATE_WORDS[found.state],
                "clean_pred": found.clean_pred,
                "adv_pred": found.adv_pred,
                "distance": found.distance,
                "forwards": found.forwards,
                "backwards": found.backwards,
            }
        )
        fixed = {**of_evaluation(stored), "name": names.get(stored.evaluation.model_key, "")}
        parts.append(part.assign(**fixed))
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return whole.reindex(columns=list(_OUTCOME_COLUMNS))


def _examination_export(store: Store) -> pd.DataFrame:
    names = {model.key: model.name for model in store.models()}
    rows = []
    for stored in store.stored_examinations():
        found = asdict(stored.examination)
        rows.append(
            {
                **{name: found[name] for name in _THREAT_COLUMNS if name in found},
                "examination": stored.key,
                "name": names.get(found["model_key"], ""),
                "attack_seed": found["seed"],
                "sample_list": found["samples"],
                "samples": found["count"],
                "verdict": found["word"],
                "complete": found["complete"],
                **{
                    name: json.dumps(found[name], sort_keys=True)
                    for name in ("evidence", "remedy", "control", "notes")
                },
                "created": stored.created,
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(_EXAMINATION_COLUMNS))


def _certificate_export(store: Store) -> pd.DataFrame:
    names = {model.key: model.name for model in store.models()}
    rows = []
    for stored in store.certificates():
        proven = [sample for sample, holds in stored.samples.items() if holds]
        rows.append(
            {
                **asdict(stored.certificate),
                "name": names.get(stored.certificate.model_key, ""),
                "samples": len(stored.samples),
                "proven": len(proven),
                "seconds": stored.seconds,
                "created": stored.created,
                "proven_samples": json.dumps(proven),
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(_CERTIFICATE_COLUMNS))


_TABLES: dict[str, Callable[[Store], pd.DataFrame]] = {
    "outcomes": _outcome_export,
    "evaluations": _evaluation_export,
    "models": _models_export,
    "examinations": _examination_export,
    "certificates": _certificate_export,
}


def _as_json(frame: pd.DataFrame) -> str:
    rows = [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]
    return json.dumps(rows, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(frame: pd.DataFrame, path: Path | None) -> None:
    try:
        import pyarrow  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        raise DreluError(
            "parquet needs pyarrow, which is not installed",
            hint='pip install "drelu-cli[parquet]", or export as csv or json',
        ) from None
    if path is None:
        raise DreluError("parquet is binary: it needs a file", hint="name one with --out FILE")
    temporary = _temporary(path)
    try:
        frame.to_parquet(temporary, index=False)
        temporary.replace(path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, problem) from problem


def _replace(path: Path, content: bytes) -> None:
    """Puts a complete file in place, or leaves what was there."""
    temporary = _temporary(path)
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, problem) from problem


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def _cannot_write(path: Path, problem: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be written: {problem.strerror}",
        hint="check the folder, its permissions and the space left",
    )
