"""The adapters call what they say: results equal those of the libraries called by hand."""

import importlib.metadata
import warnings
from pathlib import Path

import pytest
import torch
from engine_cases import RADII, attacked, engine_of, images, net

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks import engine_autoattack as adapter
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.judge import predict
from drelu_cli.runtime.streams import Stream, foreign_randomness

THEIR_NAMES = {
    "apgd_ce": "apgd-ce",
    "apgd_dlr": "apgd-dlr",
    "apgd_t": "apgd-t",
    "fab_t": "fab-t",
    "square": "square",
}
EPS = {"Linf": 0.2, "L2": 1.5}


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", THEIR_NAMES)
def test_defaults_are_those_of_autoattacks_standard_version(name, norm, capsys):
    from pyautoattack import AutoAttack

    model = net()
    x, y = images(model)
    options = {"queries": 60} if name == "square" else {}
    theirs = AutoAttack(model, norm=norm, eps=EPS[norm], seed=7, version="standard")
    theirs.attacks_to_run = [THEIR_NAMES[name]]
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 4
    theirs.square.n_queries = 60
    with foreign_randomness(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, _ = theirs.run_standard_evaluation(x, y)
    capsys.readouterr()
    threat = ThreatModel(norm.lower(), EPS[norm])
    bound = ATTACKS.bind(name, **options)
    found = engine_of("autoattack").attack(model, x, y, bound, threat, 7)
    broken = predict(model, expected) != y
    assert bool(broken.any())
    assert torch.equal(found.x_adv[broken], expected[broken])
    assert torch.equal(predict(model, found.x_adv) != y, broken)


def test_torchattacks_pgd_is_called_with_equal_steps():
    import torchattacks

    model = net()
    x, y = images(model)
    with foreign_randomness(7):
        theirs = torchattacks.PGD(model, eps=0.1, alpha=0.025, steps=5, random_start=True)
        expected = theirs(x, y)
    _, _, found = attacked("torchattacks", "pgd", "linf", seed=7, model=model)
    assert torch.equal(found.x_adv, expected)


def test_the_label_names_library_and_version():
    for package in ("pyautoattack", "torchattacks"):
        version = importlib.metadata.version(package)
        label = engine_of(package.removeprefix("py")).label
        assert label.endswith(f"{version}" if package == "torchattacks" else f"{version})")
        assert package in label


def test_an_installed_autoattack_comes_first(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(adapter, "library_version", lambda name: "0.1 a392200")
    assert adapter.AutoAttack().label == "autoattack (autoattack 0.1 a392200)"


def test_a_commit_is_part_of_the_version(tmp_path: Path, monkeypatch):
    from drelu_cli.attacks.engine_call import library_version

    folder = tmp_path / "somelib-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: somelib\nVersion: 0.1\n")
    assert library_version("somelib") == "?"
    monkeypatch.syspath_prepend(tmp_path)
    assert library_version("somelib") == "0.1"
    (folder / "direct_url.json").write_text('{"vcs_info": {"commit_id": "a39220048b3c9f2"}}')
    assert library_version("somelib") == "0.1 a392200"


def test_no_pickle_is_opened(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a file was loaded")

    monkeypatch.setattr(torch, "load", refuse)
    for engine in ("autoattack", "torchattacks"):
        attacked(engine, "apgd_ce", "linf")


def test_cw_points_beyond_the_radius_are_replaced_by_the_input():
    model = net()
    x, y, far = attacked("torchattacks", "cw_l2", "l2", model=model, eps=10.0, max_steps=200)
    lengths = (far.x_adv - x).flatten(1).norm(dim=1)
    broken = predict(model, far.x_adv) != y
    radius = 1.001 * float(lengths[broken].median())
    _, _, near = attacked("torchattacks", "cw_l2", "l2", model=model, eps=radius, max_steps=200)
    beyond = lengths > radius
    assert bool(beyond.any())
    assert torch.equal(near.x_adv[beyond], x[beyond])
    assert torch.equal(near.x_adv[~beyond], far.x_adv[~beyond])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_finds_points_as_near_as_autoattacks(norm):
    # A radius that holds every point, so that both return their nearest one.
    model = net()
    x, y = images(model, 32)
    threat = ThreatModel(norm, 1.0 if norm == "linf" else 8.0)
    bound = ATTACKS.bind("fab_t", steps=30, exact=True)
    theirs = engine_of("autoattack").attack(model, x, y, bound, threat, 0).x_adv
    ours = bound(model, x, y, threat, Stream(0, torch.arange(32), ("fab_t",))).x_adv
    order = torch.inf if norm == "linf" else 2
    far, near = ((points - x).flatten(1).norm(p=order, dim=1) for points in (theirs, ours))
    assert bool((predict(model, theirs) != y).all())
    assert bool((predict(model, ours) != y).all())
    ratio = near / far
    # Theirs leaves a sample at the first class that breaks it: ours is nearer where another is.
    assert 0.99 < float(ratio.median()) < 1.001
    assert float(ratio.max()) < 1.01


class Capped(torch.nn.Module):
    """Hidden units between 0 and a low cap: beyond it, and so at many points, the slope is 0."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return self.net[5]((8.0 * self.net[1](self.net[0](x))).clamp(0.0, 0.4))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_breaks_on_flat_nets_what_autoattacks_breaks(norm):
    model = Capped().eval()
    x, y = images(model, 200)
    threat = ThreatModel(norm, RADII[norm])
    bound = ATTACKS.bind("fab_t", steps=30)
    theirs = engine_of("autoattack").attack(model, x, y, bound, threat, 0).x_adv
    ours = bound(model, x, y, threat, Stream(0, torch.arange(200), ("fab_t",))).x_adv
    theirs, ours = (predict(model, points) != y for points in (theirs, ours))
    assert 50 < int(theirs.sum()) < 180
    # Staying at flat points instead of going back towards the input loses 11 (Linf) and 23 (L2).
    assert int((theirs & ~ours).sum()) <= 1
