"""What every test shares: no test reads the user's store, data or terminal width."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Seconds say nothing on a shared machine; in CI the same examples are tried every time.
settings.register_profile(
    "drelu",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("drelu")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DRELU_STORE", "DRELU_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped without CUDA."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two quickly trained digits nets and their smoke evaluations. Read only."""
    from drelu_cli.workflows.attack import attack
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.plan import Wanted
    from drelu_cli.workflows.train import train

    store = tmp_path_factory.mktemp("small") / "runs"
    context = Context(store=store, device="cpu")
    for activation in ("drelu", "relu"):
        train(options=[("activation", activation), ("train.epochs", 2)], context=context)
    attack(wanted=Wanted("smoke", (), "linf", None, samples=40), context=context)
    return store
