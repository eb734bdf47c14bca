"""The archive that workflows talk to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from drelu_cli.core.errors import InternalError
from drelu_cli.core.records import Evaluation, Examination, ModelRecord, Norm, Outcome
from drelu_cli.store import cleanup, evaluations, examinations, registry
from drelu_cli.store.cleanup import GcReport
from drelu_cli.store.database import Database
from drelu_cli.store.evaluations import StoredEvaluation
from drelu_cli.store.examinations import StoredExamination
from drelu_cli.store.registry import Finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drelu_cli.store.certificates import StoredCertificate
    from drelu_cli.store.chunks import OutcomeColumns

# Methods that touch outcomes import numpy when they are called: `drelu list` needs none.


class Store:
    """Models, evaluations and outcomes in one folder; made by `connect.open_store`.

    Several processes may hold the same store. A write that has returned survives a killed
    process. Every method raises StoreError where the file is damaged, full or locked.
    """

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self._database = database

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; closing twice is fine."""
        self._database.connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All writes of the block or none of them, and one wait for the disk."""
        with self._database.transaction():
            yield

    def hurry(self) -> None:
        """From here on writes do not wait for the disk: a power cut may damage the file.

        For a copy that can be made again, and for a store that is to be removed.
        """
        self._database.execute("PRAGMA synchronous = OFF")

    # Models

    def model_dir(self, key: str) -> Path:
        """The folder for the files of a model, `ROOT/models/KEY`; it need not exist yet."""
        if not key.isalnum():
            raise InternalError(f"'{key}' is not a model key")
        return self.root / "models" / key

    def add_model(self, record: ModelRecord) -> ModelRecord:
        """Registers a model and returns it as stored.

        A key that is registered already changes nothing, unless its weights are other ones
        (trained again): then digest, recipe, summary and provenance are replaced, name and
        label stay. A name that another key has gets `-` and the first 6 digits of the key.
        """
        return registry.add_model(self._database, record)

    def relabel(self, key: str, label: str) -> ModelRecord:
        """Gives a model another label.

        Raises:
            UnknownName: no model has this key.
        """
        return registry.relabel(self._database, key, label)

    def models(
        self,
        *,
        dataset: str | None = None,
        label: str | None = None,
        architecture: str | None = None,
        activation: str | None = None,
        placement: str | None = None,
        scheme: str | None = None,
        seed: int | None = None,
        keys: Collection[str] | None = None,
        parent: str | None = None,
    ) -> list[ModelRecord]:
        """The registered models that fit every value given, in order of registration.

        `keys` are those of the models asked for; `parent` is the key of the training that they
        were kept along.
        """
        return registry.models(
            self._database,
            {
                "dataset": dataset,
                "label": label,
                "architecture": architecture,
                "activation": activation,
                "placement": placement,
                "scheme": scheme,
                "seed": seed,
            },
            keys=keys,
            parent=parent,
        )

    def find_model(self, reference: str) -> ModelRecord:
        """The one model with this name, this label or a key that starts with it.

        A key prefix has at least 4 digits; a name wins over a label, a label over a prefix.

        Raises:
            UnknownName: none or several; the hint names them or the nearest.
        """
        return registry.find_model(self._database, reference)

    def remove_model(self, key: str) -> int:
        """Removes a model with all that belongs to it, files too; gives the bytes freed.

        Raises:
            UnknownName: no model has this key.
        """
        return cleanup.remove_model(self._database, key, self.model_dir(key))

    def annotate(self, key: str, name: str, value: Any) -> ModelRecord:
        """Adds one entry to a model's summary, or replaces it; gives the model as stored.

        Args:
            key: of the model.
            name: of the entry.
            value: plain data.

        Raises:
            UnknownName: no model has this key.
        """
        return registry.annotate(self._database, key, name, value)

    def add_finding(self, model_key: str, code: str, detail: str) -> None:
        """Keeps something a check noticed about a model; the same again changes nothing."""
        registry.add_finding(self._database, model_key, code, detail)

    def findings(self, model_key: str) -> list[Finding]:
        """What was noticed about a model, oldest first."""
        return registry.findings(self._database, model_key)

    # Evaluations and outcomes

    def add_outcomes(
        self, evaluation: Evaluation, outcomes: Sequence[Outcome], *, seconds: float
    ) -> None:
        """Stores outcomes in one transaction; the evaluation is added where it is missing.

        Samples that are stored already are ignored, also when another process was first;
        `seconds` then counts for the share that is new. Distances are kept as float32.

        Raises:
            InternalError: a sample twice, or a number that does not fit.
        """
        from drelu_cli.store import outcomes as storage

        storage.add_outcomes(self._database, evaluation, outcomes, seconds)

    def evaluations(
        self, *, model_key: str | None = None, dataset: str | None = None
    ) -> list[StoredEvaluation]:
        """Stored evaluations that fit every value given, oldest first."""
        return evaluations.evaluations(self._database, model_key=model_key, dataset=dataset)

    def evaluation(self, key: str) -> StoredEvaluation | None:
        """The evaluation with this key, or None."""
        return evaluations.evaluation_by_key(self._database, key)

    def set_provenance(self, key: str, provenance: Mapping[str, Any]) -> None:
        """Replaces where an evaluation comes from; an unknown key changes nothing."""
        evaluations.set_provenance(self._database, key, provenance)

    def stored_samples(self, key: str) -> frozenset[int]:
        """The samples stored for an evaluation; empty for an unknown key."""
        from drelu_cli.store import outcomes as storage

        return frozenset(storage.stored_samples(self._database, key).tolist())

    def outcomes(self, key: str, samples: Sequence[int] | None = None) -> list[Outcome]:
        """Outcomes of `samples` in that order, or all stored ones, ascending by sample.

        Raises:
            StoreError: a sample that is not stored.
        """
        from drelu_cli.store.chunks import outcomes_of

        return outcomes_of(self.columns(key, samples))

    def columns(self, key: str, samples: Sequence[int] | None = None) -> OutcomeColumns:
        """The same as `outcomes`, as arrays."""
        from drelu_cli.store import outcomes as storage

        return storage.columns(self._database, key, samples)

    def states(self, key: str, samples: Sequence[int]) -> NDArray[np.int8]:
        """Only the states of `samples`, (N,) int8 with values of `State`, in that order.

        Raises:
            StoreError: a sample that is not stored.
        """
        from drelu_cli.store import outcomes as storage

        return storage.states(self._database, key, samples)

    def set_sample_order(self, dataset_digest: str, order: Sequence[int]) -> tuple[int, ...]:
        """Fixes the order in which test samples are taken; gives the order in force.

        The first order stays for good, so that the first N samples are the same for all.
        """
        from drelu_cli.store import outcomes as storage

        return storage.set_sample_order(self._database, dataset_digest, order)

    def sample_order(self, dataset_digest: str) -> tuple[int, ...] | None:
        """The fixed order of a data set's test samples, or None."""
        from drelu_cli.store import outcomes as storage

        return storage.sample_order(self._database, dataset_digest)

    # The court

    def add_examination(self, examination: Examination) -> None:
        """Stores what the court found, in place of what it found before under the same key."""
        examinations.add_examination(self._database, examination)

    def examination(self, key: str) -> Examination | None:
        """The examination with this key, or None; tuples inside mappings come back as lists."""
        return examinations.examination_by_key(self._database, key)

    def examinations(self, *, model_key: str | None = None) -> list[Examination]:
        """The examinations of one model, or all; in the order they were stored."""
        return [one.examination for one in self.stored_examinations(model_key=model_key)]

    def stored_examinations(self, *, model_key: str | None = None) -> list[StoredExamination]:
        """The same with key and date."""
        return examinations.examinations(self._database, model_key)

    def add_certificate(
        self,
        model_key: str,
        weights_digest: str,
        dataset_digest: str,
        eps: float,
        method: str,
        samples: Sequence[int],
        proven: Sequence[bool],
        seconds: float,
        *,
        norm: Norm = "linf",
        version: int = 1,
    ) -> None:
        """Stores which samples are proven, in one transaction; those stored already are ignored.

        Raises:
            InternalError: a sample twice, or not one value per sample.
        """
        from drelu_cli.store import certificates as storage

        of = storage.Certificate(
            model_key, weights_digest, dataset_digest, norm, eps, method, version
        )
        storage.add_certificate(self._database, of, samples, proven, seconds)

    def certified_samples(
        self,
        model_key: str,
        weights_digest: str,
        dataset_digest: str,
        eps: float,
        method: str,
        *,
        norm: Norm = "linf",
        version: int = 1,
    ) -> dict[int, bool]:
        """Whether each sample that a method examined is proven, by index in the test split."""
        from drelu_cli.store import certificates as storage

        of = storage.Certificate(
            model_key, weights_digest, dataset_digest, norm, eps, method, version
        )
        return storage.certified_samples(self._database, of)

    def certificates(self, *, model_key: str | None = None) -> list[StoredCertificate]:
        """The certificates of one model, or all, as far as each is stored; oldest first."""
        from drelu_cli.store import certificates as storage

        return storage.certificates(self._database, model_key)

    # Upkeep

    def gc(self, *, dry_run: bool, force: bool = False) -> GcReport:
        """Removes what nothing refers to any more; see `cleanup.gc`."""
        return cleanup.gc(self._database, self.root, dry_run=dry_run, force=force)

    def check(self) -> int:
        """Reads everything back, certificates and examinations too; the number of outcomes.

        Raises:
            StoreError: damage anywhere in the file, or in one evaluation, which is named.
        """
        cleanup.check_file(self._database)
        self.certificates()
        self.examinations()
        return sum(len(self.columns(stored.key)) for stored in self.evaluations())
