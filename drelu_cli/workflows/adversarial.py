"""`--save-adversarial`: the points behind stored outcomes, found once more and written to a file.

The store keeps outcomes, not points. An outcome depends on the sample alone, never on who shared
its batch, so repeating an attack on just the samples it broke finds the points again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drelu_cli import __version__
from drelu_cli.attacks.augment import rebind
from drelu_cli.core.errors import BadValue, DreluError
from drelu_cli.core.records import OWN, Evaluation, ModelRecord, State, ThreatModel
from drelu_cli.evaluation.judge import predict
from drelu_cli.evaluation.proof import Proof, still_broken
from drelu_cli.evaluation.proof_file import check_replaceable, read_proof, write_proof
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.store.connect import Store
from drelu_cli.store.rows import options_text
from drelu_cli.workflows.court import SLICE, Court, Trial
from drelu_cli.workflows.files import check_folder
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.plan import Wanted, tasks_for

# float32 rounds logits to some 1e-6 of the largest: a point this close to the boundary may be
# classified correctly on another machine, so another attack's point is preferred.
_MARGIN = 1e-5


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes:
        file: the path.
        points: samples that are correct as they are and broken by a point of the file.
        clean_wrong: samples that are misclassified as they are.
        samples: length of the list.
        not_repeated: samples that a stored attack broke and that no repetition breaks again.
    """

    file: Path
    points: int
    clean_wrong: int
    samples: int
    not_repeated: int

    @property
    def robust_accuracy_at_most(self) -> float:
        """What the file proves, a fraction of the list."""
        return 1.0 - (self.points + self.clean_wrong) / self.samples

    @property
    def document(self) -> dict[str, Any]:
        """Its part of the JSON document."""
        values = {**vars(self), "file": str(self.file)}
        return {**values, "robust_accuracy_at_most": self.robust_accuracy_at_most}


@dataclass(frozen=True)
class Target:
    """Whose points go where, and under which threat they were found."""

    path: Path
    record: ModelRecord
    threat: ThreatModel


@dataclass(frozen=True)
class _Point:
    """A point that breaks one sample."""

    x: Tensor
    attack: str


def points_to_save(
    path: Path | None, records: Sequence[ModelRecord], wanted: Wanted
) -> Target | None:
    """The one threat of a call that saves its points; said before any attack runs.

    Attacks of another norm than the one asked for (CW-L2 beside Linf attacks) are left out.

    Args:
        path: the file; None saves nothing.
        records: the models of the call.
        wanted: what is run on them.

    Raises:
        BadValue: several models or radii, an outside engine, or a file that is not replaced.
    """
    if path is None:
        return None
    check_folder(path)
    check_replaceable(path)
    if wanted.engine != OWN:
        raise BadValue(
            f"--save-adversarial repeats drelu's own attacks, not those of {wanted.engine}",
            hint="leave --engine away",
        )
    if len(records) != 1:
        names = ", ".join(record.name for record in records[:5])
        raise BadValue(
            f"--save-adversarial takes one model, and {len(records)} would be attacked",
            hint=f"add one MODEL: {names}",
        )
    return Target(path, records[0], _one_threat(records[0], wanted))


def _one_threat(record: ModelRecord, wanted: Wanted) -> ThreatModel:
    threats = dict.fromkeys(task.threat for task in tasks_for(record.dataset, wanted))
    found = [threat for threat in threats if threat.norm == wanted.norm] or list(threats)
    if len(found) != 1:
        radii = ", ".join(f"{threat.eps:g}" for threat in found)
        raise BadValue(
            f"--save-adversarial takes one radius, and there are {len(found)}: {radii}",
            hint=f"add one: --eps {found[-1].eps:g}, without --curve",
        )
    return found[0]


def save_points(court: Court, target: Target | None) -> Saved | None:
    """Repeats the attacks that broke samples of the list, and writes their points.

    Every stored evaluation of this model and threat counts, of any seed and options: for each
    sample the one that spent the fewest passes on it is tried first, then the next.

    Args:
        court: store, device and list of samples.
        target: model, threat and file; the file is replaced. None saves nothing.

    Returns:
        Counts of what the written file, read back, proves.
    """
    if target is None:
        return None
    trial = court.trial(target.record, {"model": target.record.name, "number": 1, "of": 1})
    samples = samples_of(trial.splits.test, list(trial.rows), trial.court.device)
    with evaluation_mode(trial.model):
        correct = (predict(trial.model, samples.x) == samples.y).tolist()
    clean_wrong = [row for row, right in zip(trial.rows, correct, strict=True) if not right]
    attempts = _attempts(trial.court.store, trial.record, target.threat, trial.rows)
    for row in clean_wrong:
        attempts.pop(row, None)
    points = _repeated(trial, attempts)
    proof = _proof(trial, target.threat, points, clean_wrong)
    write_proof(target.path, proof)
    # What counts is what a reader will find: other batches than the attack's, on the CPU's copy.
    held = still_broken(read_proof(target.path), trial.model, trial.court.device)
    if not held.all():
        proof = proof.points(held)
        write_proof(target.path, proof)
    kept = len(proof.index)
    return Saved(target.path, kept, len(clean_wrong), len(trial.rows), len(attempts) - kept)


def _attempts(
    store: Store, record: ModelRecord, threat: ThreatModel, rows: Sequence[int]
) -> dict[int, list[Evaluation]]:
    """By broken sample the evaluations that broke it, fewest passes first."""
    spent: dict[int, dict[str, tuple[int, Evaluation]]] = {}
    for stored in store.evaluations(model_key=record.key):
        evaluation = stored.evaluation
        same_model = evaluation.weights_digest == record.weights_digest
        if not same_model or evaluation.engine != OWN or evaluation.threat != threat:
            continue
        known = store.stored_samples(stored.key)
        # A cascade and a full run of one attack break a sample by the same point.
        key = replace(evaluation, cascade=None).key
        for outcome in store.outcomes(stored.key, [row for row in rows if row in known]):
            if outcome.state is State.BROKEN and not outcome.clean_wrong:
                cost = outcome.forwards + outcome.backwards
                spent.setdefault(outcome.sample, {}).setdefault(key, (cost, evaluation))
    return {
        row: [one for _, one in sorted(found.values(), key=lambda pair: pair[0])]
        for row, found in spent.items()
    }


def _repeated(trial: Trial, attempts: Mapping[int, Sequence[Evaluation]]) -> dict[int, _Point]:
    """Points by sample; a sample whose attempts all fail has none."""
    firm: dict[int, _Point] = {}
    close: dict[int, _Point] = {}
    left = {row: list(evaluations) for row, evaluations in attempts.items()}
    while left:
        groups: dict[str, tuple[Evaluation, list[int]]] = {}
        for row, evaluations in left.items():
            first = evaluations.pop(0)
            groups.setdefault(first.key, (first, []))[1].append(row)
        for evaluation, rows in groups.values():
            for row, point, is_firm in _broken_again(trial, evaluation, rows):
                (firm if is_firm else close).setdefault(row, point)
        left = {row: found for row, found in left.items() if found and row not in firm}
    return {**close, **firm}


def _broken_again(
    trial: Trial, evaluation: Evaluation, rows: Sequence[int]
) -> list[tuple[int, _Point, bool]]:
    """Sample, point and whether it lies clear of the boundary, for those that break again."""
    try:
        bound = rebind(evaluation)
    except DreluError:
        return []  # such as a transferred point, which needs the other network
    options = options_text(evaluation.given)
    name = f"{evaluation.attack}:{options}" if options else evaluation.attack
    found: list[tuple[int, _Point, bool]] = []
    shown = {**trial.at, "attack": f"{name} again", "eps": evaluation.eps, "samples": len(rows)}
    for start in range(0, len(rows), SLICE):
        trial.court.context.progress("attacking", {**shown, "done": start})
        part = list(rows[start : start + SLICE])
        samples = samples_of(trial.splits.test, part, trial.court.device)
        judged = run_attack(trial.model, samples, bound, evaluation.threat, seed=evaluation.seed)
        firm = _clear(trial.model, judged.x_adv, samples.y)
        found += [
            (row, _Point(point, name), is_firm)
            for row, point, is_firm, outcome in zip(
                part, judged.x_adv.cpu(), firm, judged.outcomes, strict=True
            )
            if outcome.state is State.BROKEN
        ]
    return found


def _clear(model: nn.Module, x: Tensor, y: Tensor) -> list[bool]:
    """Whether another class leads by more than rounding could take away."""
    with evaluation_mode(model), torch.no_grad():
        logits = torch.cat([model(part) for part in torch.split(x, SLICE)])
    own = logits.gather(1, y[:, None])[:, 0]
    lead = logits.amax(dim=1) - own
    clear: list[bool] = (lead > _MARGIN * logits.abs().amax(dim=1)).tolist()
    return clear


def _proof(
    trial: Trial, threat: ThreatModel, points: Mapping[int, _Point], clean_wrong: Sequence[int]
) -> Proof:
    test = trial.splits.test
    rows = [row for row in trial.rows if row in points]
    index = torch.tensor(rows, dtype=torch.int64)
    empty = torch.empty(0, *test.shape)
    x_adv = torch.stack([points[row].x for row in rows]) if rows else empty
    with evaluation_mode(trial.model):
        predicted = predict(trial.model, x_adv.to(trial.court.device))
    return Proof(
        x_adv=x_adv.float().numpy(),
        clean=test.images[index].numpy(),
        index=index.numpy(),
        label=test.labels[index].numpy(),
        predicted=predicted.cpu().numpy(),
        attack=np.array([points[row].attack for row in rows], dtype=np.str_),
        clean_wrong=np.array(clean_wrong, dtype=np.int64),
        list=np.array(trial.rows, dtype=np.int64),
        norm=threat.norm,
        eps=threat.eps,
        dataset=trial.record.dataset,
        dataset_digest=trial.record.dataset_digest,
        model=trial.record.name,
        weights_digest=trial.record.weights_digest,
        version=__version__,
    )
