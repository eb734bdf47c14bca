"""The same sweep through every runner gives the same models, outcomes and table."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import partial

import pytest
import torch
from small_releases import write_mnist

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.runtime.ray_cluster import _LOOPBACK, RayExecutor
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import parallel, runners
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context

module = importlib.import_module("drelu_cli.workflows.sweep")

PLANS = {"smoke": "tiny", "fig11": "tiny"}


@pytest.fixture(scope="module")
def raylets():
    """A cluster of two raylets on loopback."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tip: In future versions of Ray")
        warnings.filterwarnings("ignore", category=ResourceWarning)
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "node_ip_address": _LOOPBACK, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(num_cpus=1, node_ip_address=_LOOPBACK)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def small_mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        write_mnist(folder, patch)
        for name in ("train", "attack"):
            patch.setattr(parallel, name.upper(), f"small_mnist_jobs:{name}_job")
        yield folder


def swept(recipe, store, data, **more):
    """Counts, models with their weights, outcomes, and the printed table."""
    places = set()

    def told(kind, fields):
        if kind == "slot":
            places.add(fields["slot"])

    context = Context(store, data_dir=data, device="cpu", progress=told)
    report = module.sweep(recipe, preset=PLANS[recipe], context=context, **more)
    assert report.failures == []
    document = report.document
    del document["seconds"]
    with open_store(store, create=False) as opened:
        assert opened.check() > 0
        models = {one.key: (one.name, one.weights_digest) for one in opened.models()}
        # NaN differs from itself: outcomes compare by their text.
        outcomes = {one.key: str(opened.outcomes(one.key)) for one in opened.evaluations()}
    cells = compare(models=report.model_keys, context=context).table.cells
    table = [str(row) for row in cells.values.tolist()]
    work = store / "work"
    assert not work.exists() or {one.name for one in work.iterdir() if one.is_dir()} <= {"logs"}
    return (document, models, outcomes, table), places


@pytest.fixture(scope="module")
def alone(small_mnist, tmp_path_factory):
    stores = tmp_path_factory.mktemp("alone")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker: sums in another order round differently
    # A stack's weights differ from a lone training's by rounding; workers train one by one.
    yield {name: swept(name, stores / name, small_mnist, stack=False)[0] for name in PLANS}
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", PLANS)
@pytest.mark.parametrize("runner", ["jobs", "ray", "ray without shared folders", "slurm"])
def test_every_runner_gives_what_one_process_gives(
    runner, recipe, alone, small_mnist, tmp_path, request, monkeypatch
):
    options = {"jobs": 2}
    if runner.startswith("ray"):
        address = request.getfixturevalue("raylets").address
        options |= {"runner": "ray", "ray_address": address}
    if runner.endswith("shared folders"):
        monkeypatch.setattr(runners, "RayExecutor", partial(RayExecutor, shared=False))
    if runner == "slurm":
        options |= {"runner": "slurm", "options": [("slurm.cluster", "local")]}
    found, places = swept(recipe, tmp_path / "runs", small_mnist, **options)
    assert found == alone[recipe]
    assert len(places) >= 2


@pytest.mark.slow
def test_a_job_goes_on_elsewhere_when_its_raylet_is_killed(raylets, tmp_path):
    from drelu_cli.runtime.executor import Job
    from drelu_cli.runtime.ray_cluster import RayPlace

    second = raylets.add_node(num_cpus=1, node_ip_address=_LOOPBACK)
    begun = []

    def told(job, place, kind, fields):
        begun.append((job, kind))
        if sorted(one for one, _ in begun) == [*"abc"]:  # all three raylets have a job
            raylets.remove_node(second, allow_graceful=False)
            (tmp_path / "go").touch()

    with RayExecutor(RayPlace(raylets.address, jobs=3), on_event=told) as executor:
        for name in "abc":
            config = {"go": str(tmp_path / "go")}
            executor.submit(Job(name, "small_waits:waits", config))
        found = sorted(executor.results(), key=lambda one: one.name)
    assert [(one.value, one.error) for one in found] == [("waited", None)] * 3
    assert sorted(one.tries for one in found) == [1, 1, 2]


@pytest.mark.parametrize(
    ("error", "match", "more"),
    [
        (UnknownName, "unknown runner 'lurm'", {"runner": "lurm"}),
        (BadValue, "--runner slurm", {"options": [("slurm.partition", "gpu")]}),
        (BadValue, "--runner ray", {"ray_address": "auto"}),
        (BadValue, "is no address", {"runner": "ray", "ray_address": "here"}),
        (BadValue, "the cluster chooses the GPU", {"runner": "ray", "device": "cuda:1"}),
        (BadValue, "whole GPUs", {"runner": "slurm", "per_gpu": 2}),
        (BadValue, "1 or more", {"runner": "ray", "jobs": 0}),
        (UnknownName, "unknown SLURM option", {"runner": "slurm", "options": [("slurm.x", 1)]}),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, error, match, more):
    context = Context(tmp_path / "runs", device=more.pop("device", "cpu"))
    with pytest.raises(error, match=match):
        module.sweep("smoke", context=context, **more)
    assert not (tmp_path / "runs").exists()


def test_options_of_slurm_enter_no_recipe():
    given = [("slurm.partition", "gpu"), ("train.seed", 1)]
    options, slurm = runners.split_options(given, "slurm")
    assert options == [("train.seed", 1)]
    assert slurm.partition == "gpu"


def test_the_files_that_travel_are_those_of_the_plan(small_mnist):
    from drelu_cli.data.needed import needed_files

    names = needed_files("mnist", small_mnist)
    assert {name.rpartition("/")[0] for name in names} == {"MNIST/raw"}
    assert len(names) == 4
    assert needed_files("digits", small_mnist) == []
    (small_mnist / "more.npz").touch()
    assert needed_files("digits", small_mnist, generated="more.npz") == ["more.npz"]
    assert needed_files("digits", small_mnist, generated="/else/more.npz") == []
