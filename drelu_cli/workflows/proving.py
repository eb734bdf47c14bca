"""`drelu attack --certify`: what is not proven yet is tried, slice by slice, and stored."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import nn

from drelu_cli.certify import METHOD, VERSION
from drelu_cli.certify.decision import certified
from drelu_cli.core.errors import ModelError
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.judge import TOLERANCE
from drelu_cli.workflows.certificates import CERTIFIED_NORM, proven_samples
from drelu_cli.workflows.court import Trial
from drelu_cli.workflows.measure import samples_of

NO_BOUNDS = "no-bounds"
# Images that are bounded and stored together: what a kill can cost. The first slice shows the
# speed; the next ones take some SLICE_SECONDS.
SLICE = 64
SLICE_SECONDS = 20.0


def prove(trial: Trial, threats: Sequence[ThreatModel]) -> None:
    """Examines what is missing of a model's samples at every Linf radius among `threats`.

    Every slice is stored when it is finished. A model without bounds has no certificate: that
    is a finding and a note, no error.
    """
    record, context = trial.record, trial.court.context
    radii = list(dict.fromkeys(t.eps for t in threats if t.norm == CERTIFIED_NORM))
    if not radii:
        context.note(f"{record.name}: nothing to certify: there are certificates for linf only")
    for eps in radii:
        known = proven_samples(trial.court.store, record, eps)
        missing = [row for row in trial.rows if row not in known]
        if not missing:
            continue
        model = trial.model  # a refusal of the preflight is none of the bounds
        try:
            _prove_rows(trial, model, eps, missing)
        except ModelError as problem:
            detail = f"no certificate: {problem.message}"
            trial.court.store.add_finding(record.key, NO_BOUNDS, detail)
            context.note(f"{record.name}: {detail}")
            return


def _prove_rows(trial: Trial, model: nn.Module, eps: float, rows: Sequence[int]) -> None:
    court, record = trial.court, trial.record
    named = {**trial.at, "attack": f"{METHOD} bounds", "eps": eps, "samples": len(rows)}
    start, size = 0, SLICE
    while start < len(rows):
        court.context.progress("attacking", {**named, "done": start})
        part = list(rows[start : start + size])
        began = time.perf_counter()
        samples = samples_of(trial.splits.test, part, court.device)
        # Attacks may end TOLERANCE outside their ball: what is proven covers that, too.
        reach = eps + TOLERANCE
        proven = certified(model, samples.x, samples.y, reach, method=METHOD).tolist()
        seconds = time.perf_counter() - began
        court.store.add_certificate(
            record.key,
            record.weights_digest,
            record.dataset_digest,
            eps,
            METHOD,
            part,
            proven,
            seconds,
            version=VERSION,
        )
        start += len(part)
        size = max(SLICE, int(SLICE_SECONDS * len(part) / max(seconds, 1e-3)))
