"""One old database per schema version, as the release with that schema wrote it.

A new version gets a file of its own, made with that version's code by

    python tests/store/test_store_assets.py tests/store/assets/vN.sqlite
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from store_samples import (
    certificate,
    clean_wrong,
    evaluation,
    examination,
    model,
    outcome,
    same,
)

from drelu_cli.core.records import State
from drelu_cli.store.connect import FILE_NAME, open_store
from drelu_cli.store.migrations import MIGRATIONS

ASSETS = Path(__file__).parent / "assets"
VERSIONS = range(1, len(MIGRATIONS) + 1)

COURT = 2  # the version from which there are examinations and certificates

# Written out, not computed: a change of how keys are made would lose every stored result.
EXAMINATION_KEY = "a618157f2e57d401609af7023834d21aef2050119562bd2a8bf1ea89f7c3e1fc"
EVALUATION_KEY = "27f77ec700b42cd1cc79fa222c1cefc324f9dbd26760d9b70257352da8d04587"
OUTCOMES = [
    outcome(0),
    outcome(1, State.BROKEN),
    clean_wrong(2),
    outcome(3, State.NOT_RUN),
    outcome(4, clean_pred=-1),
]
OUTSIDE = model("outside", source="factory", lambda_=None, cap=None, seed=None)


def fill(root: Path) -> None:
    """What every asset contains."""
    with open_store(root) as store:
        store.add_model(model())
        store.add_model(OUTSIDE)
        store.add_finding(OUTSIDE.key, "probabilities", "outputs sum to 1")
        store.set_sample_order(model().dataset_digest, [4, 2, 0, 1, 3])
        store.add_outcomes(evaluation(), OUTCOMES[:3], seconds=1.5)
        store.add_outcomes(evaluation(), OUTCOMES[3:], seconds=0.5)
        store.add_outcomes(evaluation(OUTSIDE, cascade="whitebox"), OUTCOMES, seconds=3.0)
        store.add_examination(examination())
        store.add_certificate(*certificate(), [4, 2], [True, False], seconds=1.0)
        store.add_certificate(*certificate(), [0], [True], seconds=0.5)


def test_there_is_an_asset_for_every_version() -> None:
    assert sorted(ASSETS.iterdir()) == sorted(ASSETS / f"v{n}.sqlite" for n in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_store_is_read_whole(tmp_path: Path, version: int) -> None:
    shutil.copy(ASSETS / f"v{version}.sqlite", tmp_path / FILE_NAME)
    with open_store(tmp_path, create=False) as store:
        assert store.models() == [model(), OUTSIDE]
        assert [found.code for found in store.findings(OUTSIDE.key)] == ["probabilities"]
        assert store.sample_order(model().dataset_digest) == (4, 2, 0, 1, 3)
        first, second = store.evaluations()
        assert first.key == EVALUATION_KEY
        assert (first.evaluation, first.seconds) == (evaluation(), 2.0)
        assert second.evaluation == evaluation(OUTSIDE, cascade="whitebox")
        assert same(store.outcomes(first.key), OUTCOMES)
        # Work that is stored is found again, not repeated.
        store.add_outcomes(evaluation(), OUTCOMES, seconds=9.0)
        assert store.evaluations()[0] == first
        assert store.check() == 10


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_court_found_is_read_and_written(tmp_path: Path, version: int) -> None:
    shutil.copy(ASSETS / f"v{version}.sqlite", tmp_path / FILE_NAME)
    with open_store(tmp_path, create=False) as store:
        if version < COURT:
            assert store.examinations() == store.certificates() == []
            store.add_examination(examination())
            store.add_certificate(*certificate(), [0, 2, 4], [True, False, True], seconds=1.5)
        assert store.examination(EXAMINATION_KEY) == examination()
        assert store.examinations() == [examination()]
        assert store.certified_samples(*certificate()) == {0: True, 2: False, 4: True}
        assert [found.seconds for found in store.certificates()] == [1.5]
        assert store.check() == 10


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        shutil.copy(Path(folder) / FILE_NAME, sys.argv[1])
